"""Stage `download` against a server of ours: whole, continued after a break, and each fault in one line."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from full_disk import files_of_at_most
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_server import KEY, RULES, Fault, KaggleServer, make_zip
from small_competition import ARCHIVE, MEMBERS, RAW, RECORD, WHAT, competition, left, raw, run

from steel import files
from steel.__main__ import main
from steel.competition import N_TEST, N_TRAIN
from steel.kaggle import download


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    with competition(monkeypatch, tmp_path) as found:
        yield found


def test_the_numbers_of_the_competition() -> None:
    assert (
        download.COUNTS
        == {"train_images": N_TRAIN, "test_images": N_TEST}
        == {
            "train_images": 12_568,
            "test_images": 5_506,
        }
    )


def test_from_token_to_data(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["download", "x.yaml"])
    assert raw() == MEMBERS
    assert left() == ["stage.json"]
    first, *_, counted, last = capsys.readouterr().out.splitlines()
    assert (first, counted) == (
        "download: new",
        "download: 3 files in train_images, 2 files in test_images of data/x/raw",
    )
    assert last.startswith("download: done in ")
    assert server.names == ["DownloadDataFiles", "link", "storage"]
    assert all("Authorization" not in seen.headers for seen in server.seen[1:])
    record = files.read_json(RECORD)
    assert record["outputs"]["data/x/raw/train.csv"] == files.sha256(RAW / "train.csv")
    assert set(record["outputs"]) == {f"data/x/raw/{name}" for name in (*download.CSV_FILES, *download.COUNTS)}
    assert KEY not in RECORD.read_text() and "Signature" not in RECORD.read_text()

    main(["download", "x.yaml"])
    assert capsys.readouterr().out == "download: up to date\n"
    assert len(server.seen) == 3


def test_an_image_that_changes_changes_the_checksums(server: KaggleServer) -> None:
    run()
    before = files.read_json(RECORD)["outputs"]
    server.archive = make_zip({**MEMBERS, "test_images/1.jpg": b"other"})
    run(force=True)
    after = files.read_json(RECORD)["outputs"]
    assert {name for name in before if before[name] != after[name]} == {"data/x/raw/test_images"}
    assert (RAW / "test_images/1.jpg").read_bytes() == b"other"
    assert server.ranges == ["bytes=0-", "bytes=0-"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(breaks=st.lists(st.integers(0, 20_000), max_size=5))
def test_a_connection_that_breaks_anywhere(breaks: list[int], server: KaggleServer, waited: list[float]) -> None:
    server.seen.clear()
    waited.clear()
    server.faults["storage"] = [Fault(cut_after=n) for n in breaks]
    run(force=True)
    assert raw() == MEMBERS
    start, barren = 0, 0  # what stands in whole chunks goes on from there; only a break before the first is waited for
    for n, asked in zip(breaks, server.ranges, strict=False):
        assert asked == f"bytes={start}-"
        got = min(n, len(ARCHIVE) - start)
        start += got if got == len(ARCHIVE) - start else got - got % 1000
        barren += got < 1000 and start < len(ARCHIVE)
    assert len(waited) == barren


@pytest.mark.usefixtures("waited")
def test_continued_by_the_next_run(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults["storage"] = [Fault(cut_after=20_500), *[Fault(cut_after=0)] * 6]
    broken = f"{WHAT}: the connection to Kaggle broke: start it again, it continues"
    assert tiny.fault(capsys, "download", "x.yaml") == broken
    assert not RAW.exists()
    assert left() == ["download.part"]
    main(["status", "x.yaml"])
    assert f"{'download':<28} interrupted (continues where it stopped)\n" in capsys.readouterr().out
    n_before = len(server.ranges)
    run()
    assert server.ranges[n_before:] == ["bytes=20000-"]
    assert raw() == MEMBERS
    assert left() == ["stage.json"]


@pytest.mark.usefixtures("waited")
def test_not_continued_if_the_files_changed(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults["storage"] = [Fault(cut_after=20_500), *[Fault(cut_after=0)] * 6]
    tiny.fault(capsys, "download", "x.yaml")
    server.archive = make_zip({**MEMBERS, "train.csv": MEMBERS["train.csv"].lower()})
    assert len(server.archive) == len(ARCHIVE)
    run()
    assert server.ranges[-1] == "bytes=0-"
    assert (RAW / "train.csv").read_bytes() == MEMBERS["train.csv"].lower()
    assert "not those that it began with; from the start" in capsys.readouterr().out


def test_a_server_that_knows_no_ranges(server: KaggleServer, waited: list[float]) -> None:
    server.heeds_ranges = False
    server.faults["storage"] = [Fault(cut_after=9_500), Fault(cut_after=9_900)]
    run()
    assert raw() == MEMBERS
    assert waited == [2]  # the second break gained nothing


def test_a_link_that_has_expired(server: KaggleServer, waited: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The next try asks for a fresh one; what was fetched stays, and the answer's body is not taken for the file."""
    expired = Fault(403, body=b"<Error>ExpiredToken</Error>")
    server.faults["storage"] = [Fault(cut_after=20_500), expired]
    run()
    assert raw() == MEMBERS
    assert server.ranges == ["bytes=0-", "bytes=20000-", "bytes=20000-"]
    assert waited == [2]
    assert f"{WHAT}: Kaggle's storage answers 403; trying again in 2 s\n" in capsys.readouterr().out
    server.faults["storage"] = [expired] * 100
    assert (
        tiny.fault(capsys, "download", "x.yaml", "--force") == f"{WHAT}: Kaggle's storage answers 403: start it again"
    )
    assert raw() == MEMBERS


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_without_a_token_nothing_is_left(
    options: list[str], server: KaggleServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    before = sorted(Path().rglob("*"))
    assert tiny.fault(capsys, "download", "x.yaml", *options).startswith("Kaggle login: no token is set: make one at ")
    assert sorted(Path().rglob("*")) == before and server.names == []


def test_rules_not_accepted(server: KaggleServer, waited: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    server.faults["DownloadDataFiles"] = [Fault(403, RULES)]
    message = tiny.fault(capsys, "download", "x.yaml")
    assert message.startswith(f"{WHAT}: Kaggle answers 403 ({RULES[:-1]}): accept the competition's rules at https://")
    assert waited == []
    assert left() == []


def disk(patch: pytest.MonkeyPatch, free: int) -> None:
    patch.setattr("steel.kaggle.download.shutil.disk_usage", lambda _folder: SimpleNamespace(free=free))


def test_too_little_space(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need = 2 * len(ARCHIVE) + download.SPARE_BYTES
    disk(monkeypatch, need - 1)
    message = tiny.fault(capsys, "download", "x.yaml")
    wanted = "0.3 GB are needed, 0.3 GB are free: free some space and start it again, it continues"
    assert message == f"data/x/download.part: {wanted}"
    assert server.ranges == []
    disk(monkeypatch, need)
    run()
    assert raw() == MEMBERS


def test_a_full_disk_while_fetching(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    with files_of_at_most(5_500):
        message = tiny.fault(capsys, "download", "x.yaml")
    assert message == f"{WHAT}: File too large: free some space and start it again, it continues"
    assert left() == ["download.part"] and not RAW.exists()
    run()
    assert raw() == MEMBERS
    assert server.ranges == ["bytes=0-", "bytes=5500-"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.synth.seed", "1"], "data.synth: x makes its own strips with `steel synth`; allowed: null"),
        (["--data.raw", "y"], "data.raw: the solution reads y; leave it out to download into data/x/raw"),
    ],
)
def test_a_solution_that_reads_other_files(
    options: list[str], expected: str, server: KaggleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny.fault(capsys, "download", "x.yaml", *options) == expected
    assert server.seen == [] and not Path("data").exists()


@pytest.mark.usefixtures("server")
def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "x.yaml"])
    assert capsys.readouterr().out.startswith(f"{'download':<28} missing\n")
    run()
    capsys.readouterr()
    main(["status", "x.yaml"])
    assert capsys.readouterr().out.startswith(f"{'download':<28} done\n")
    (RAW / "train.csv").write_text("other")
    main(["status", "x.yaml"])
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"{'download':<28} stale (data/x/raw/train.csv is gone or was changed)"
