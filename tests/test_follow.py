"""A kernel's run followed to its end, and what it left fetched, by the real client from a server of ours."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kaggle_push_server import PushServer, Run
from kaggle_server import OUTPUT, Fault
from small_bundle import FOLDER, KERNEL, fault, place

from steel.kaggle import client, endpoints, follow, remote

LOG = json.dumps([{"stream_name": "stdout", "time": 1.5, "data": f"line {i}\n"} for i in range(30)])


pytestmark = pytest.mark.usefixtures("waited")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    with place(monkeypatch, tmp_path) as found:
        yield found


def pushed(server: PushServer, run: Run) -> str:
    """A version of the kernel that runs so."""
    api = client.open_api()
    remote.send_dataset(api, FOLDER / "dataset")
    server.runs = [run]
    return f"{KERNEL}/{remote.send_kernel(api, FOLDER)}"


def test_a_run_is_waited_for(server: PushServer, waited: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    kernel = pushed(server, Run(states=("QUEUED", "QUEUED", *["RUNNING"] * 6, "COMPLETE")))
    del waited[:]
    capsys.readouterr()
    remote.wait_kernel(client.open_api(), kernel)
    assert waited == [30] * 8
    assert capsys.readouterr().out.splitlines() == [
        f"kernel {kernel}: {line}"
        for line in ("queued, 0 s", *(f"running, {i} min 0 s" for i in (1, 2, 3)), "complete, 4 min 0 s")
    ]


def test_a_run_of_an_earlier_version_is_not_taken_for_it(server: PushServer) -> None:
    first = pushed(server, Run(states=("ERROR",)))
    server.runs = [Run(states=("COMPLETE",))]
    remote.send_kernel(client.open_api(), FOLDER)
    remote.wait_kernel(client.open_api(), KERNEL)  # the latest
    assert fault(remote.wait_kernel, client.open_api(), first).startswith(f"kernel {first} failed")


@pytest.mark.parametrize(("state", "word"), [("ERROR", "failed"), ("CANCEL_ACKNOWLEDGED", "was cancelled")])
def test_a_run_that_fails(state: str, word: str, server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = pushed(server, Run(states=("RUNNING", state), log=LOG, message="Exceeded\nits time."))
    capsys.readouterr()
    told = fault(remote.wait_kernel, client.open_api(), kernel)
    assert told == f"kernel {kernel} {word} (Exceeded its time): line 29; the end of its log stands above"
    shown = [line for line in capsys.readouterr().out.splitlines() if line[0] == "|"]
    assert shown == [f"| line {i}" for i in range(10, 30)]
    server.kernels[KERNEL][0][1].log = server.kernels[KERNEL][0][1].message = ""
    assert fault(remote.wait_kernel, client.open_api(), kernel) == f"kernel {kernel} {word}: it left no log"


def test_a_run_that_never_shows(server: PushServer, waited: list[float]) -> None:
    pushed(server, Run())
    told = fault(remote.wait_kernel, client.open_api(), f"{KERNEL}/7")
    assert told == f"kernel {KERNEL}/7: not there after 15 min 30 s: start it again, it looks on"
    assert sum(waited) >= follow.LONGEST_ABSENCE_S


@pytest.mark.parametrize("page", [1, 2, 100])
def test_output_is_fetched(page: int, server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "PAGE", page)
    output = {"submission.csv": b"a" * 3_000_000, "runs/x y/a&b.txt": b"1", "empty": b""}
    kernel = pushed(server, Run(output, log=LOG))
    found = remote.fetch_output(client.open_api(), kernel, Path("out"))
    assert found == [Path("out", name) for name in (*sorted(output), "steel-x.log")]
    assert {name: Path("out", name).read_bytes() for name in output} == output
    assert Path("out/steel-x.log").read_text().splitlines() == [f"line {i}" for i in range(30)]
    assert all("Authorization" not in seen.headers for seen in server.seen if seen.name == OUTPUT)


def test_output_after_a_break_and_an_address_that_expired(server: PushServer, waited: list[float]) -> None:
    kernel = pushed(server, Run({"a": b"123", "b": b"4567"}, log="plain"))
    server.faults[OUTPUT] = [Fault(cut_after=2), Fault(400, "ExpiredToken")]
    del waited[:]
    remote.fetch_output(client.open_api(), kernel, Path("out"))
    assert waited == [2, 5]
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == {
        "a": b"123",
        "b": b"4567",
        "steel-x.log": b"plain",
    }


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", ".", "", "link/x"])
def test_output_that_leads_out_of_the_folder(name: str, server: PushServer) -> None:
    kernel = pushed(server, Run({name: b"evil"}))
    Path("out").mkdir()
    Path("out/link").symlink_to("..")
    told = fault(remote.fetch_output, client.open_api(), kernel, Path("out"))
    assert told == f"output of the kernel: {name!r} leads out of out; allowed: files below it"
    assert not Path("x").exists()


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.sampled_from(["array", "lines", "open", "one line"]))
def test_the_text_of_a_log(pieces: list[str], form: str) -> None:
    parts = [json.dumps({"stream_name": "stderr", "time": 0.1, "data": piece}) for piece in pieces]
    log = {
        "array": "[" + "\n,".join(parts) + "\n]",
        "lines": "\n".join(parts),
        "open": "[" + "\n,".join(parts),  # of a kernel that was killed
        "one line": "[" + ", ".join(parts) + "]",
    }[form]
    assert follow.log_text(log) == "".join(pieces)


@pytest.mark.parametrize("log", ["", "Traceback:\n  x\n", '[{"data": 1', "[1, 2]"])
def test_a_log_that_is_plain_text(log: str) -> None:
    assert follow.log_text(log) == log
