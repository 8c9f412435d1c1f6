"""The training kernel: what it leaves is what is trained here, whenever it is stopped; and it refuses other strips."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import there
import tiny
import toy

from steel import device, files, specs, stage
from steel.data import prepare
from steel.errors import UserError
from steel.fit import train
from steel.fit.trainer import Report, Trainer
from steel.kaggle import parts, train_bundle, train_kernel, train_result
from steel.kaggle.training import Training
from steel.paths import Paths

WORKING = Path("kaggle/working")
GATE = "runs/tiny/gate"


@pytest.fixture
def own(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """A copy of the prepared solution, as the working directory, with nothing trained."""
    tiny.copy(prepared, tmp_path)
    monkeypatch.setattr(prepare, "cores", lambda: 1)
    with tiny.within(tmp_path):
        yield there.training()


def run(training: Training, left: tuple[int, ...] = (0, 1), limit_s: float = 1e6) -> dict[str, str]:
    """Bundle, and run the kernel over folders of its own; how the folds ended."""
    shutil.rmtree("kaggle", ignore_errors=True)
    dataset = Path("kaggle/dataset")
    parts.write(dataset, train_bundle.dataset_of(training, left))
    there.set_limit(dataset, limit_s)
    train_kernel.run(there.RAW, dataset, WORKING)
    return files.read_json(WORKING / "result.json")["ended"]


def left_there() -> list[str]:
    return sorted(str(path.relative_to(WORKING)) for path in WORKING.rglob("*") if path.name not in (".lock", "events"))


def state(training: Training, fold: int) -> str:
    return str(stage.look(specs.of_training(training.paths, training.model, fold)))


def test_what_it_leaves_is_what_is_trained_here(own: Training) -> None:
    assert run(own) == {"0": "done", "1": "done"}
    names = ("config.json", "env.json", "log.jsonl", "stage.json", "weights.safetensors")
    events = [str(path.relative_to(WORKING)) for path in sorted(WORKING.rglob("events/*"))]
    run_files = [f"{GATE}/fold{k}/{name}" for k in (0, 1) for name in names]
    folders = ["runs", "runs/tiny", GATE, f"{GATE}/fold0", f"{GATE}/fold1"]
    assert len(events) == 2 and left_there() == sorted(["result.json", *folders, *run_files, *events])
    assert [state(own, k) for k in (0, 1)] == ["missing", "missing"]
    train_result.adopt(own.paths, "gate", WORKING)
    for k in (0, 1):
        assert there.weights("runs", k) == there.weights("trained_here", k)
        assert state(own, k) == "done"
        here = json.loads(Path(f"trained_here/tiny/gate/fold{k}/stage.json").read_text())
        assert json.loads(Path(f"{GATE}/fold{k}/stage.json").read_text()) == here
    assert len(list(Path(f"{GATE}/fold0/events").iterdir())) == 1
    refuses_what_is_not_its_own(own)


def refuses_what_is_not_its_own(own: Training) -> None:
    """What was trained from something else, and what did not come whole: in one line, and nothing is changed."""
    other = there.training("--models.gate.seed", "1")
    before = tiny.contents(Path("runs"))
    with pytest.raises(
        UserError, match="train gate fold 0 was trained from another configuration, cache or split than"
    ):
        train_result.adopt(other.paths, "gate", WORKING)
    for lost in ("fold0/weights.safetensors", "fold0/log.jsonl"):
        path = WORKING / GATE / lost
        held = path.read_bytes()
        path.write_bytes(held[:-1])
        with pytest.raises(
            UserError, match=f"{lost} is not the file that the kernel wrote: start it again, it is fetch"
        ):
            train_result.adopt(own.paths, "gate", WORKING)
        path.write_bytes(held)
    (WORKING / "result.json").unlink()
    with pytest.raises(
        UserError, match=r"working has no result.json: the kernel did not come to its end; its log lies"
    ):
        train_result.adopt(own.paths, "gate", WORKING)
    assert tiny.contents(Path("runs")) == before


def test_another_machine_is_told_and_accepted(own: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `steel status` judges weights that came from another machine: by the record that was written there."""
    there_env = {"device": "Tesla T4", "torch": "2.10.0"}
    with monkeypatch.context() as patch:
        patch.setattr("steel.specs.describe_training", lambda *args: {**device.describe_training(*args), **there_env})
        run(own, (0,))
    train_result.adopt(own.paths, "gate", WORKING)
    assert json.loads(Path(f"{GATE}/fold0/env.json").read_text()).items() >= there_env.items()
    told = state(own, 0)
    assert (
        told.startswith("kept (the environment changed: device: Tesla T4 -> cpu with ") and "torch: 2.10.0 ->" in told
    )


def test_stopped_after_each_epoch_it_ends_with_the_same_weights(own: Training, capsys: Any) -> None:
    """No time at all is an epoch at a time; what was fetched goes up again."""
    assert run(own, limit_s=0.0) == {"0": "stopped"}
    assert "train gate fold 0: stopped after epoch 1 of 2, for want of time\n" in capsys.readouterr().out
    told = files.read_json(WORKING / "result.json")["files"]
    assert not [name for name in told if Path(name).name.startswith(".")]  # Kaggle may not list them
    assert f"{GATE}/fold0/last.pt" in left_there() and f"{GATE}/fold0/weights.safetensors" not in left_there()
    train_result.adopt(own.paths, "gate", WORKING)
    assert state(own, 0) == "interrupted (continues where it stopped)" and state(own, 1) == "missing"
    assert run(own, limit_s=0.0) == {"0": "done"}
    assert "train gate fold 0: continues after epoch 1 of 2\n" in capsys.readouterr().out
    train_result.adopt(own.paths, "gate", WORKING)
    assert state(own, 0) == "done" and not Path(f"{GATE}/fold0/last.pt").exists()
    assert there.weights("runs", 0) == there.weights("trained_here", 0)
    assert [step for step, _ in toy.scalars(Path(GATE, "fold0/events"))["train/loss"]] == [1, 2]
    assert run(own, (1,)) == {"1": "done"}
    train_result.adopt(own.paths, "gate", WORKING)
    assert there.weights("runs", 1) == there.weights("trained_here", 1)


def test_a_training_stopped_there_goes_on_here(own: Training) -> None:
    run(own, (0,), limit_s=0.0)
    train_result.adopt(own.paths, "gate", WORKING)
    assert "fold0.last.pt" in train_bundle.dataset_of(own, (0,))
    other = there.training("--models.gate.seed", "1")  # which its checkpoint is not of
    assert "fold0.last.pt" not in train_bundle.dataset_of(other, (0,))
    tiny.run("train", args=("--model", "gate", "--fold", "0"))
    assert there.weights("runs", 0) == there.weights("trained_here", 0)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("end_s", "before_s", "n_done"), [(29, 0, 2), (39, 0, 3), (40, 0, 4), (0, 0, 1), (39, 29, 2), (39, 30, 1)]
)
def test_no_epoch_begins_that_would_end_late(
    end_s: float, before_s: float, n_done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four epochs, each 10 s by the clock, and 15 s the last: n of them end at 10 n, and the next is taken to last
    10 s, or as long as those of a training before."""
    now_s = 0.0

    def epoch(_self: Trainer, number: int, *_args: object) -> Report:
        nonlocal now_s
        now_s += 10 if number < 3 else 15
        return Report(0.0, 0.0, 1)

    toy.fresh(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "epoch", epoch)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: now_s))
    paths = Paths(toy.solution(toy.MODELS))
    deadline = train.Deadline(end_s, before_s)
    if n_done == 4:
        train.make(paths, "gate", toy.FOLD, deadline)
    else:
        with pytest.raises(
            train.OutOfTime, match=f"^train gate fold 1: stopped after epoch {n_done} of 4, for want of"
        ):
            train.make(paths, "gate", toy.FOLD, deadline)
    assert len(toy.log(paths.fold("gate", toy.FOLD))) == n_done
    assert deadline.longest_s == max(before_s, 15 if n_done == 4 else 10)


@pytest.mark.parametrize(("end_s", "begun"), [(29, [0]), (30, [0, 1]), (49, [0, 1]), (50, [0, 1, 2]), (0, [0])])
def test_no_fold_begins_whose_first_epoch_would_end_late(
    end_s: float, begun: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three folds of two epochs, 10 s each: as it is known of the folds before; the first is always begun."""
    now_s = 0.0

    def make(_paths: Paths, _name: str, _fold: int, deadline: train.Deadline) -> dict[Path, str]:
        nonlocal now_s
        now_s += 20
        deadline.note(10)
        return {}

    toy.fresh(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "make", make)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: now_s))
    job = train_kernel.Job("gate", [0, 1, 2], 0.0, {})
    found = train_kernel.train_folds(Paths(toy.solution(toy.MODELS)), job, train.Deadline(end_s))
    assert list(found) == [(fold, "done") for fold in begun]


def refusal(training: Training) -> str:
    with pytest.raises(SystemExit) as leaving:
        run(training)
    assert "\n" not in str(leaving.value) and not (WORKING / "runs/tiny").exists()
    return str(leaving.value)


def test_other_strips_are_refused(own: Training) -> None:
    """In one line, before anything is trained."""
    image = next((there.RAW / "train_images").iterdir())
    held = image.read_bytes()
    tiny.write_strip(image, 255 - tiny.cv2.imread(str(image), tiny.cv2.IMREAD_GRAYSCALE))  # type: ignore[attr-defined]
    told = refusal(own)
    assert told.startswith("kernel: train.csv, train_images.npy of ") and "strips are not those of home: other" in told
    image.with_name("another.jpg").write_bytes(held)
    told = refusal(own)
    assert told.startswith("kernel: folds/tiny.csv is a split of other images: it lacks another.jpg; ")


def test_a_fold_that_fails_does_not_take_the_others_with_it(
    own: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = train.make

    def make(paths: Paths, name: str, fold: int, deadline: train.Deadline) -> dict[Path, str]:
        if fold == 0:
            raise RuntimeError("CUDA out of memory\nand much more")
        return true(paths, name, fold, deadline)

    monkeypatch.setattr(train, "make", make)
    assert run(own) == {"0": "failed: RuntimeError: CUDA out of memory and 1 more", "1": "done"}
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="kernel: no fold of gate could be trained; the reasons stand above"):
        run(own, (0,))


def test_stopped_from_outside_it_has_told_of_the_folds_before(own: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Nothing in the package catches it."""

    true = train.make

    def make(paths: Paths, name: str, fold: int, deadline: train.Deadline) -> dict[Path, str]:
        if fold == 1:
            tiny.write(paths.fold(name, fold) / "last.pt", "half a checkpoi")
            raise Killed
        return true(paths, name, fold, deadline)

    monkeypatch.setattr(train, "make", make)
    with pytest.raises(Killed):
        run(own)
    told = files.read_json(WORKING / "result.json")
    assert told["ended"] == {"0": "done"} and {name.split("/")[3] for name in told["files"]} == {"fold0"}
    train_result.adopt(own.paths, "gate", WORKING, ended_well=False)
    assert [state(own, k) for k in (0, 1)] == ["done", "missing"]
    assert there.weights("runs", 0) == there.weights("trained_here", 0)
