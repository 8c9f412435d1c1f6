"""Jobs on a real Ray cluster: the bytes of a run by one program, whatever happens to nodes and programs meanwhile."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_cluster
import tiny
from small_cluster import Cluster, wait_for

from steel.cluster.jobs import log_of
from steel.paths import Paths

pytestmark = pytest.mark.cluster

REDONE = ("fpn/fold0", "fpn/fold1", "fpn/test", "decide", "report")  # of the finished run


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, shared by the tests: each may be killed if it is started again."""
    with small_cluster.running() as found:
        found.add("a")
        found.add("b")
        yield found


@pytest.fixture
def undone(changed: Paths) -> Paths:
    """A copy of the finished run without two trainings and all that hangs on them, as the working directory."""
    for folder in REDONE:
        shutil.rmtree(changed.run / folder)
    shutil.rmtree(changed.submission)
    return changed


def on(cluster: Cluster, *args: str) -> tuple[str, ...]:
    """A stage, its configuration and options, for the cluster."""
    stage, *rest = args
    return (stage, tiny.CONFIG, "--executor", "ray", "--ray.address", cluster.address, *rest)


def test_a_killed_node_and_a_stopped_program_change_no_byte(
    cluster: Cluster, undone: Paths, finished: Path, tmp_path: Path
) -> None:
    log, one, other = tmp_path / "log", undone.fold("fpn", 0) / "last.pt", undone.fold("fpn", 1) / "last.pt"
    with cluster.steel(log, *on(cluster, "train")) as program:
        wait_for(one.exists, log)
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130
    assert log.read_text().splitlines()[-1] == "steel: interrupted; start it again and it continues"
    other.unlink(missing_ok=True)
    with cluster.steel(log, *on(cluster, "train")) as program:
        wait_for(other.exists, log)
        lost = log.read_text().partition("train fpn fold 1: running on ")[2][0]
        cluster.kill(lost)
        assert program.wait() == 0, log.read_text()
    cluster.add(lost)
    said = log.read_text()
    kept = {"a": "b", "b": "a"}[lost]
    assert f"train fpn fold 1: goes on on {kept}, lost on {lost} (" in said
    assert "train fpn fold 2: up to date" in said
    ours = [line for line in said.splitlines() if line.startswith("train ")]  # Ray tells of the lost node when it likes
    assert ours[-1].endswith("(2 done, 0 running, 0 waiting, 0 failed)")
    for fold in (0, 1):
        told = log_of(undone, f"train fpn fold {fold}").read_text()
        assert f"train fpn fold {fold}: continues after epoch 1 of 2\n" in told
        assert "attempt 1" in told
    assert ", attempt 2" in told
    for stage in ("oof", "predict"):
        code, lines = cluster.run(*on(cluster, stage))
        assert code == 0, lines
    tiny.run("decide", "report", "submit")
    for part in ("fpn/fold0", "fpn/fold1", "fpn/test"):
        now, then = (_outputs(root / undone.run / part) for root in (Path(), finished))
        assert now == then
    submission = undone.submission / "submission.csv"
    assert submission.read_bytes() == (finished / submission).read_bytes()


def test_jobs_that_fail_stop_no_others_and_are_listed(cluster: Cluster, undone: Paths) -> None:
    shutil.rmtree(undone.oof("gate", 2))
    code, lines = cluster.run(*on(cluster, "oof", "--folds", "1,2"))
    missing = "oof needs 'train fpn fold 1', which is missing: run `steel train CONFIG` first"
    assert code == 2
    assert f"oof fpn fold 1: failed: {missing}" in lines
    assert "oof gate fold 2: done (1 done, 0 running, 0 waiting, 0 failed)" in lines
    assert lines[-1] == f"steel: 1 of 4 jobs failed: oof fpn fold 1: {missing}"
    loss = ("--models.fpn.loss", "{nonsense: 1}")
    code, lines = cluster.run(*on(cluster, "train", "--model", "fpn", "--folds", "0,1", *loss))
    assert code == 2
    assert lines[-1].startswith("steel: 2 of 2 jobs failed: train fpn fold ")
    assert lines[-1].count("loss: unknown name 'nonsense'") == 2
    assert not [line for line in lines if "Traceback" in line]


def test_a_node_with_a_folder_of_its_own_stops_the_work(cluster: Cluster, undone: Paths) -> None:
    if not cluster.walls:
        pytest.skip("this user may not give a node mounts of its own")
    cluster.add("c", hidden=Path.cwd())
    code, lines = cluster.run(*on(cluster, "train"))
    cluster.kill("c")
    assert code == 2
    assert lines[-1].startswith(
        f"steel: ray: node c: its folder {Path.cwd()} is not that of the program that asks (runs/tiny/.shared-"
    )
    assert not undone.fold("fpn", 0).exists()


def test_where_no_folder_is_shared_files_travel(
    cluster: Cluster, undone: Paths, finished: Path, tmp_path: Path
) -> None:
    address = f"file://{tmp_path}/bucket"
    code, lines = cluster.run(*on(cluster, "train", "--model", "fpn", "--fold", "0", "--ray.storage", address))
    assert code == 0, lines
    (begun,) = [line for line in lines if line.startswith("train fpn fold 0: running on ")]
    node = begun.removeprefix("train fpn fold 0: running on ")[0]
    (own,) = (cluster.folder / node).glob("steel-*")
    weights = undone.fold("fpn", 0) / "weights.safetensors"
    assert len({(root / weights).read_bytes() for root in (Path(), finished, own, tmp_path / "bucket")}) == 1
    assert tiny.contents(own / undone.cache) == tiny.contents(undone.cache)
    assert "train fpn fold 0: done in " in log_of(undone, "train fpn fold 0").read_text()
    assert not list((tmp_path / "bucket").rglob(".*"))
    tiny.run("status")  # all of it stands here, as if made here


def test_where_no_folder_is_shared_a_lost_node_takes_no_epoch_along(
    cluster: Cluster, undone: Paths, tmp_path: Path
) -> None:
    """Not even of a training that is forced, beside the record of the one before."""
    log, folder = tmp_path / "log", undone.fold("fpn", 2)
    weights, there = folder / "weights.safetensors", tmp_path / "bucket" / folder
    phases = "[{epochs: 8, width: 256, batch: 4, lr: 4.0e-3, samples: 36}]"
    line = ("--model", "fpn", "--fold", "2", "--force", "--models.fpn.phases", phases)
    tiny.run("train", args=line)
    before = weights.read_bytes()
    shutil.copytree(folder, there)
    with cluster.steel(log, *on(cluster, "train", *line, "--ray.storage", f"file://{tmp_path}/bucket")) as program:
        wait_for((there / "last.pt").exists, log)
        lost = log.read_text().partition("train fpn fold 2: running on ")[2][0]
        cluster.kill(lost)
        assert program.wait() == 0, log.read_text()
    cluster.add(lost)
    assert re.search(r"fold 2: continues after epoch \d of 8\n", log_of(undone, "train fpn fold 2").read_text())
    assert weights.read_bytes() == before


def test_nobody_is_there(cluster: Cluster, undone: Paths) -> None:
    assert undone
    host = cluster.address.partition(":")[0]
    code, lines = cluster.run("train", tiny.CONFIG, "--executor", "ray", "--ray.address", f"{host}:9")
    refused = "[Errno 111] Connection refused"
    allowed = "auto, where a cluster runs here; HOST:PORT of one; null"
    assert (code, lines[-1]) == (
        2,
        f"steel: ray.address: no cluster at {host}:9 ({refused}); allowed: {allowed}",
    )


def _outputs(folder: Path) -> dict[str, str]:
    """Digests of weights and stores."""
    kept = tiny.contents(folder)
    return {name: value for name, value in kept.items() if name.endswith("safetensors") or "maps.zarr" in name}
