"""Datasets and kernels sent by the real client to a server of ours: whole, once, and each fault in one line."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from kaggle_push_server import PushServer
from kaggle_server import UPLOAD, USER, Fault
from small_bundle import DATASET, FOLDER, KERNEL, SENT, bundle, fault, place

from steel import files
from steel.competition import SLUG
from steel.kaggle import client, endpoints, remote

pytestmark = pytest.mark.usefixtures("waited")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    with place(monkeypatch, tmp_path) as found:
        yield found


def send_dataset() -> int:
    return remote.send_dataset(client.open_api(), FOLDER / "dataset")


def send_kernel() -> int:
    return remote.send_kernel(client.open_api(), FOLDER)


def send() -> int:
    send_dataset()
    return send_kernel()


def test_a_first_dataset(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert send_dataset() == 1
    found = server.datasets[DATASET]
    assert (found.created.title, found.created.license_name) == ("steel-x-weights", "other")
    assert found.created.is_private
    (version,) = found.versions
    archive = zipfile.ZipFile(BytesIO(version.pop("wheels.zip")))
    assert version | {f"wheels/{name}": archive.read(name) for name in archive.namelist()} == SENT
    assert all("Authorization" not in seen.headers for seen in server.seen if seen.name == UPLOAD)
    what = f"dataset {DATASET}"
    assert capsys.readouterr().out.splitlines() == [
        f"{what}: a.safetensors, 0.0 MB (1 of 3)",
        f"{what}: rules.json, 0.0 MB (2 of 3)",
        f"{what}: wheels.zip, 0.0 MB (3 of 3)",
        f"{what}: blobs received, 0 s",
        f"{what}: ready, 10 s",
    ]
    assert list(remote.sent(FOLDER)) == ["dataset"]


def test_unchanged_files_are_not_sent_again(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    send_dataset()
    server.seen.clear()
    capsys.readouterr()
    assert send_dataset() == 1
    assert server.names == ["GetDataset"]
    assert capsys.readouterr().out == f"dataset {DATASET}: version 1 has these files; nothing is sent\n"


def test_a_new_version(server: PushServer) -> None:
    send_dataset()
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    (FOLDER / "dataset/a.safetensors").unlink()
    assert send_dataset() == 2
    found = server.datasets[DATASET]
    assert sorted(found.versions[1]) == ["rules.json", "wheels.zip"]
    assert found.versions[1]["rules.json"] == b"[]"
    assert found.notes[1] == f"sha256 {remote.content(FOLDER / 'dataset')}"
    assert remote.sent_dataset(FOLDER / "dataset") == 2


def test_what_another_hand_did_to_the_dataset_is_noticed(server: PushServer) -> None:
    send_dataset()
    server.datasets[DATASET].versions.append({})
    assert send_dataset() == 3
    del server.datasets[DATASET]
    assert send_dataset() == 1
    assert server.names.count("CreateDataset") == 2


def test_kaggle_at_work_on_an_earlier_version_is_waited_for(server: PushServer, waited: list[float]) -> None:
    send_dataset()
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    server.datasets[DATASET].looks = 3
    assert send_dataset() == 2
    assert waited.count(5) == 2 + 2 + 2


def test_the_version_before_is_not_taken_for_it(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    send_dataset()
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    server.looks_until_ready, server.looks_late = 0, 2
    capsys.readouterr()
    assert send_dataset() == 2
    states = [f"dataset {DATASET}: {state}" for state in ("not there yet, 0 s", "ready, 10 s")]
    assert capsys.readouterr().out.splitlines()[-2:] == states


def test_kaggle_cannot_unpack_it(server: PushServer) -> None:
    server.unpacks = False
    assert fault(send_dataset) == f"dataset {DATASET}: Kaggle failed to unpack it; start it again, it is sent anew"
    server.unpacks = True
    assert send_dataset() == 2


@pytest.mark.parametrize("status", [403, 404, 500, 308, 200])
def test_an_upload_that_fails_is_never_believed(status: int, server: PushServer, waited: list[float]) -> None:
    """The client of the package leaves such a file out, in silence."""
    answer = Fault(status, "no", cut_after=0 if status == 200 else None)
    server.faults[UPLOAD] = [answer] * 2
    assert send_dataset() == 1
    assert waited[:2] == [2, 5]
    assert sorted(server.datasets[DATASET].versions[0]) == ["a.safetensors", "rules.json", "wheels.zip"]
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    server.faults[UPLOAD] = [answer] * 6
    told = f"upload of a.safetensors: {'the connection to ' if status in (200, 308) else 'Kaggle'}"
    assert fault(send_dataset).startswith(told)
    assert len(server.datasets[DATASET].versions) == 1


def test_a_killed_upload_goes_on_with_the_next_file(server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = endpoints.upload

    def until_rules(api: Any, path: Path) -> str:
        if path.name == "rules.json":
            raise KeyboardInterrupt
        return upload(api, path)

    with monkeypatch.context() as patch:
        patch.setattr(endpoints, "upload", until_rules)
        with pytest.raises(KeyboardInterrupt):
            send_dataset()
    assert send_dataset() == 1
    assert [name for name, _, _ in server.uploads.values()] == ["a.safetensors", "rules.json", "wheels.zip"]


LOST = {"cut": Fault(cut_after=3, done=True), "not JSON": Fault(502, body=b"<html>", done=True)}
NOT_DONE = {"cut": Fault(cut_after=3), "server error": Fault(500, "Oops"), "rate limit": Fault(429, "Slow down")}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_answer_does_not_send_twice(how: str, server: PushServer, waited: list[float]) -> None:
    server.faults = {"CreateDataset": [LOST[how]], "SaveKernel": [LOST[how]]}
    assert send() == 1
    assert waited == [20, 5, 20]  # Kaggle was already at work on the dataset
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (1, 1)
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    server.faults = {"CreateDatasetVersion": [LOST[how]], "SaveKernel": [LOST[how]]}
    assert send() == 2
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (2, 2)


@pytest.mark.parametrize("how", NOT_DONE)
def test_what_was_not_done_is_done_again(how: str, server: PushServer) -> None:
    server.faults = {"CreateDataset": [NOT_DONE[how]] * 2, "SaveKernel": [NOT_DONE[how]] * 2}
    assert send() == 1
    assert (server.names.count("CreateDataset"), server.names.count("SaveKernel")) == (3, 3)
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (1, 1)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["CreateDataset", "CreateDatasetVersion", "SaveKernel"])
def test_the_next_run_looks_whether_the_last_one_did_it(
    name: str, done: bool, server: PushServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 2 if name == "CreateDatasetVersion" else 1
    if n == 2:
        send()
        (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    server.faults[name] = [Fault(500, "Oops", done=done)]
    with monkeypatch.context() as patch:
        patch.setattr(client, "SETTLE_S", ())
        what = f"kernel {KERNEL}" if name == "SaveKernel" else f"dataset {DATASET}"
        remedy = "Kaggle has a fault of its own; start it again later"
        assert fault(send) == f"{what}: Kaggle answers 500 (Oops): {remedy}"
    assert send() == n
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (n, n)


STEPS = ("upload", "create_dataset", "dataset_state", "dataset_version", "save_kernel", "kernel_version")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(step: str, after: bool, server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the step was done, or after it but before anything was written down."""
    do = getattr(endpoints, step)

    def killed(*args: Any) -> None:
        if after:
            do(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(endpoints, step, killed)
        with pytest.raises(KeyboardInterrupt):
            send()
    assert send() == 1
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (1, 1)
    assert remote.sent_kernel(FOLDER) == remote.sent_dataset(FOLDER / "dataset") == 1
    assert set(remote.sent(FOLDER)) == {"dataset", "kernel"}


def test_a_kernel(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    send_dataset()
    capsys.readouterr()
    assert send_kernel() == 1
    told = f"kernel {KERNEL}: version 1 is pushed, see https://www.kaggle.com/code/{KERNEL}\n"
    assert capsys.readouterr().out == told
    ((request, _),) = server.kernels[KERNEL]
    assert request.text == (FOLDER / "kernel.py").read_text()
    assert (request.new_title, request.machine_shape, request.language) == ("steel-x", "NvidiaTeslaT4", "python")
    assert (request.is_private, request.enable_gpu, request.enable_internet) == (True, True, False)
    assert (request.dataset_data_sources, request.competition_data_sources) == ([DATASET], [SLUG])
    server.faults["SaveKernel"] = [Fault(body=b"{}", headers={"Content-Type": "application/json"}, done=True)]
    assert send_kernel() == 2  # asked for again, it is pushed again; an answer without a number does


def test_what_stands(server: PushServer) -> None:
    def standing() -> int | None:
        return remote.standing_kernel(client.open_api(), FOLDER)

    assert standing() is None
    send()
    assert standing() == 1
    del server.kernels[KERNEL][:]
    assert standing() is None
    send()
    (FOLDER / "dataset/rules.json").write_bytes(b"[]")
    assert remote.sent_dataset(FOLDER / "dataset") is None
    assert standing() == 1  # on the dataset that was sent last
    send_dataset()
    assert standing() is None  # it ran on the dataset before
    (FOLDER / "kernel.py").write_text("pass\n")
    assert standing() is None


def test_sources_that_kaggle_does_not_know(server: PushServer) -> None:
    metadata = files.read_json(FOLDER / "kernel-metadata.json") | {"competition_sources": ["steel", SLUG]}
    files.write_json(FOLDER / "kernel-metadata.json", metadata)
    told = f"kernel {KERNEL}: Kaggle refuses it: it knows no dataset {DATASET} and no competition steel: accept the"
    for n in (1, 2):
        assert fault(send_kernel).startswith(told)
        assert len(server.kernels[KERNEL]) == n  # it runs there nevertheless, without them; but it is none of ours
    bundle()
    assert send() == 3


def test_a_refusal_in_a_good_answer(server: PushServer, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = b'{"error": "Maximum batch GPU session\\ncount of 2 reached."}'
    server.faults["SaveKernel"] = [Fault(body=limit, headers={"Content-Type": "application/json"})]
    send_dataset()
    told = "Kaggle refuses it: Maximum batch GPU session count of 2 reached"
    assert fault(send_kernel) == f"kernel {KERNEL}: {told}"
    assert send_kernel() == 1
    monkeypatch.setattr(endpoints, "dataset_state", lambda *_: "")
    files.remove(FOLDER / remote.SENT)
    assert fault(send_dataset).endswith('Kaggle refuses it: The requested title "steel-x-weights" is already in use')


@pytest.mark.parametrize("name", ["CreateDataset", "SaveKernel", "StartBlobUpload"])
def test_what_the_account_may_not_do(name: str, server: PushServer, waited: list[float]) -> None:
    server.faults[name] = [Fault(403, "Permission denied")]
    what = {"CreateDataset": f"dataset {DATASET}", "SaveKernel": f"kernel {KERNEL}"}
    told = fault(send)
    assert told == (
        f"{what.get(name, 'upload of a.safetensors')}: Kaggle answers 403 (Permission denied): the token's account may "
        "not do that; for a GPU or the internet its phone number has to be verified at https://www.kaggle.com/settings"
    )
    assert set(waited) <= {5}
    assert "rules" not in told


@pytest.mark.usefixtures("server")
def test_the_bundle_of_another() -> None:
    bundle(owner="anna")
    expected = f"of the user 'anna', but the token is {USER}'s: make it anew with --owner {USER}"
    assert fault(send_dataset) == f"kernels/x/dataset/dataset-metadata.json: {expected}"
    assert fault(send_kernel) == f"kernels/x/kernel-metadata.json: {expected}"


@pytest.mark.parametrize("title", ["steel x y", "steel", "Steel-x" + "x" * 44])
@pytest.mark.usefixtures("server")
def test_a_title_that_does_not_yield_the_slug(title: str) -> None:
    bundle(title=title)
    expected = "expected 6 to 50 characters that yield the slug 'steel-x'"
    assert fault(send_kernel) == f"kernels/x/kernel-metadata.json: title {title!r}: {expected}"
