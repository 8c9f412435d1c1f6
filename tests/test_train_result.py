"""What comes down from a training kernel: taken over whole or not at all, and never over what stands here."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import there
import tiny

from steel import files, specs, stage
from steel.errors import UserError
from steel.fit.checkpoint import save_checkpoint
from steel.kaggle import train_kernel, train_result
from steel.kaggle.training import Training

WORKING = Path("kaggle/working")
GATE = "runs/tiny/gate"


@pytest.fixture
def own(prepared: Path, tmp_path: Path) -> Iterator[Training]:
    """A copy of the prepared solution, as the working directory, with nothing trained."""
    tiny.copy(prepared, tmp_path)
    with tiny.within(tmp_path):
        yield there.training()


def state(training: Training, fold: int) -> str:
    return str(stage.look(specs.of_training(training.paths, training.model, fold)))


def leave(own: Training, ended: dict[str, str], continued: tuple[int, ...] = ()) -> Path:
    """What a kernel leaves that has trained as it was trained here; its folder of the gate."""
    shutil.copytree("trained_here", WORKING / "runs")
    told(own, ended, continued)
    return WORKING / GATE


def told(own: Training, ended: dict[str, str], continued: tuple[int, ...] = ()) -> None:
    """Have the kernel tell of the files as they are."""
    keys = {str(k): specs.of_training(own.paths, "gate", k).key for k in (0, 1)}
    result = train_kernel.Result(ended, list(continued), keys, train_kernel.digests(WORKING))
    files.write_json(WORKING / "result.json", vars(result))


def test_of_a_torn_fold_nothing_is_taken(own: Training, capsys: pytest.CaptureFixture[str]) -> None:
    """If the kernel was stopped; else it can be fetched anew, and is refused."""
    torn = leave(own, {"0": "done", "1": "done"}) / "fold1/weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    train_result.adopt(own.paths, "gate", WORKING, ended_well=False)
    line = f"train gate fold 1: {torn} did not come whole from the kernel; nothing is taken over of this fold\n"
    assert capsys.readouterr().out == line
    assert state(own, 0) == "done" and not Path(GATE, "fold1").exists()
    with pytest.raises(UserError, match=f"^{torn} is not the file that the kernel wrote: start it again, it is fetch"):
        train_result.adopt(own.paths, "gate", WORKING)


@pytest.mark.parametrize("left", ["other weights", "a checkpoint", "the same"])
def test_what_was_finished_here_meanwhile_is_kept(left: str, own: Training, capsys: pytest.CaptureFixture[str]) -> None:
    fold = leave(own, {}) / "fold0"
    shutil.copytree(fold, f"{GATE}/fold0")
    if left != "the same":
        (fold / "last.pt").write_bytes(b"a checkpoint")
        (fold / "weights.safetensors").write_bytes(b"other weights")
        (fold / "stage.json").write_text(
            (fold / "stage.json").read_text().replace('"device": "', '"device": "T4, not ')
        )
    if left == "a checkpoint":
        (fold / "stage.json").unlink()
    told(own, {"0": "stopped" if left == "a checkpoint" else "done"})
    before = tiny.contents(Path(GATE))
    train_result.adopt(own.paths, "gate", WORKING)
    line = "train gate fold 0: finished here meanwhile, and kept; what the kernel has trained of it is left\n"
    assert capsys.readouterr().out == ("" if left == "the same" else line)
    assert tiny.contents(Path(GATE)) == before and state(own, 0) == "done"


@pytest.mark.parametrize(
    ("here", "is_own", "is_kept"), [(3, True, True), (2, True, False), (3, False, False), (None, True, False)]
)
def test_of_two_checkpoints_the_further_one_is_kept(
    here: int | None, is_own: bool, is_kept: bool, own: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel has stopped after epoch 2; a checkpoint of another configuration counts for nothing."""
    job = specs.of_training(own.paths, "gate", 0)
    assert job.partial is not None
    save_checkpoint(WORKING / job.partial, {"key": job.key, "done": 2})
    tiny.write(WORKING / GATE / "fold0/log.jsonl", "of the kernel")
    told(own, {"0": "stopped"})
    if here is not None:
        save_checkpoint(job.partial, {"key": job.key if is_own else "another", "done": here})
        tiny.write(job.folder / "log.jsonl", "of here")
    before = tiny.contents(Path(GATE))
    train_result.adopt(own.paths, "gate", WORKING)
    if is_kept:
        line = "train gate fold 0: after epoch 3 here, and kept; the kernel has stopped after epoch 2\n"
        assert capsys.readouterr().out == line and tiny.contents(Path(GATE)) == before
    else:
        assert capsys.readouterr().out == "" and tiny.contents(Path(GATE)) == tiny.contents(WORKING / GATE)
    assert state(own, 0) == "interrupted (continues where it stopped)"


@pytest.mark.parametrize("continued", [(), (0,)])
def test_events_of_an_older_run_go_unless_it_was_continued(continued: tuple[int, ...], own: Training) -> None:
    fold = leave(own, {"0": "done"}, continued) / "fold0"
    events = Path(GATE, "fold0/events")
    events.mkdir(parents=True)
    (events / "older").write_bytes(b"")
    train_result.adopt(own.paths, "gate", WORKING)
    names = {path.name for path in (fold / "events").iterdir()}
    assert {path.name for path in events.iterdir()} == (names | {"older"} if continued else names)
