"""`steel kernel train`: nothing goes up unproved or unasked; a kernel is waited for, fetched and taken over once."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import there
import tiny

from steel import specs, stage
from steel.__main__ import main
from steel.config import ModelConfig, Phase
from steel.errors import UserError
from steel.kaggle import dryrun, parts, remote, train_result, train_there, train_trial
from steel.kaggle.remote import KernelFailed
from steel.kaggle.training import Training

FOLDER = Path("kernels/tiny-train-gate-f0-1")
ALL = ["dry run", "dataset", "kernel", "wait", "fetch"]


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture
def own(prepared: Path, tmp_path: Path) -> Iterator[Training]:
    """A copy of the prepared solution, as the working directory, with nothing trained."""
    tiny.copy(prepared, tmp_path)
    with tiny.within(tmp_path):
        yield there.training()


@pytest.fixture
def kaggle(own: Training, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> there.Kaggle:
    assert own.folder == FOLDER
    return there.Kaggle(tmp_path_factory.mktemp("kaggle")).serve(monkeypatch)


def command(*args: str) -> list[str]:
    return ["kernel", "train", tiny.CONFIG, "--model", "gate", "--folds", "0,1", "--owner", "me", *args]


def states(training: Training) -> list[str]:
    return [str(stage.look(specs.of_training(training.paths, "gate", k))) for k in training.folds]


def trained_as_here() -> bool:
    return all(there.weights("runs", k) == there.weights("trained_here", k) for k in (0, 1))


def test_the_dry_run_gives_the_weights_of_a_training_here(own: Training, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, with Kaggle's packages and the wheels, without this package and without a network."""
    main(command())
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "kernel train: dry run of fold 0 on 16 strips, 4 crops of each phase\n" in out
    assert "| train gate fold 0: new\n" in out and "| kernel: gate fold 0 done\n" in out
    assert "kernel train: the dry run has passed; the weights of a training here, byte by byte, in " in out
    assert lines[-4].startswith("kernel train: would send the dataset me/steel-tiny-train-gate-f0-1-data (8 files, ")
    assert lines[-3].endswith("run the kernel me/steel-tiny-train-gate-f0-1, on a GPU T4 without internet")
    assert lines[-2] == "kernel train: it trains gate on the folds 0, 1"
    assert lines[-1].endswith("nothing has left this machine; with --yes it is sent")
    record = json.loads((FOLDER / "dry_run.json").read_text())
    assert record["weights"] == "equal" and record["network"] in ("namespace", "guard")
    assert record["bundle"] == stage.recorded(FOLDER) and states(own) == ["missing", "missing"]
    before = tiny.contents(Path())
    main(command())
    assert "dry run" not in capsys.readouterr().out and tiny.contents(Path()) == before


def test_other_weights_do_not_pass(
    own: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = train_trial._train_here
    monkeypatch.setattr(train_trial, "_train_here", lambda small: true(small)[::-1])
    monkeypatch.setattr(dryrun, "execute", there.execute)
    message = tiny.fault(capsys, *command("--yes"))  # it is not even logged in
    assert message == "kernel train: the dry run gives other weights than a training here; it is done"
    assert not parts.passed(own.folder)


def test_a_reduced_training_has_what_the_whole_one_has() -> None:
    phases = [Phase(width=512, batch=16, epochs=30), Phase(width=1600, batch=1)]
    model = ModelConfig(encoder="resnet50", weights="imagenet", amp="fp16", best_epochs=3, phases=phases)
    few = [Phase(width=512, batch=2, epochs=1, samples=4), Phase(width=1600, batch=1, epochs=1, samples=4)]
    found = train_trial.reduced_model(model)
    assert found == replace(model, weights=None, amp="auto", best_epochs=1, phases=few)
    assert train_trial.reduced_model(replace(model, weights="w.pt")).weights == "w.pt"


def test_the_strips_of_the_dry_run_are_of_each_fold_with_a_defect_and_without(own: Training) -> None:
    found = train_trial.few_strips(own.paths)
    index = pd.read_csv("data/tiny/cache/train.csv").set_index("image_id").filter(like="area")
    split = pd.read_csv("folds/tiny.csv").set_index("image_id").fold
    shown = index.loc[found.image_id].any(axis=1).to_numpy()
    assert found.image_id.is_unique and list(found.fold) == list(split[found.image_id])
    for fold in range(3):
        of_fold = index[split[index.index] == fold].any(axis=1)
        assert shown[found.fold == fold].sum() == min(4, of_fold.sum())
        assert (~shown[found.fold == fold]).sum() == min(2, (~of_fold).sum())


def test_there_and_back(own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]) -> None:
    main(command("--yes"))
    assert kaggle.asked == ALL
    assert states(own) == ["done", "done"] and trained_as_here()
    assert capsys.readouterr().out.endswith("train gate fold 0: done\ntrain gate fold 1: done\n")
    assert sorted(path.suffix for path in (FOLDER / "output").iterdir()) == [".json", ".log"]
    main(command("--yes"))
    assert kaggle.asked == ALL
    assert capsys.readouterr().out == "kernel train: gate stands on the folds 0, 1; nothing is to be trained there\n"
    tiny.run("train", args=("--model", "gate", "--folds", "0,1"))  # the stages go on as if trained here
    assert capsys.readouterr().out == "train gate fold 0: up to date\ntrain gate fold 1: up to date\n"


def test_only_what_does_not_stand_is_trained(
    own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("trained_here/tiny/gate/fold0", "runs/tiny/gate/fold0")
    kaggle.fault = UserError("no network")
    assert tiny.fault(capsys, *command("--yes")) == "no network"
    assert json.loads((FOLDER / "dataset/job.json").read_text())["folds"] == [1]
    assert states(own) == ["done", "missing"] and kaggle.asked == ["dry run", "dataset", "kernel", "wait"]


def test_out_of_time_it_says_so_and_run_again_continues(
    own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.limit_s = 0.0
    main(command("--yes"))
    told = "the time was up; the folds 0, 1 are not finished: run it again, it continues\n"
    assert capsys.readouterr().out.endswith(f"kernel train: {told}")
    assert states(own) == ["interrupted (continues where it stopped)", "missing"]
    kaggle.limit_s = 1e6
    main(command("--yes"))
    assert "train gate fold 0: continues after epoch 1 of 2\n" in capsys.readouterr().out
    assert kaggle.asked == ALL * 2 and states(own) == ["done", "done"] and trained_as_here()


KILLS: dict[str, tuple[object, str, list[str]]] = {
    "before the dataset is sent": (remote, "send_dataset", ["dataset", "kernel", "wait", "fetch"]),
    "before the kernel is sent": (remote, "send_kernel", ["dataset", "dataset", "kernel", "wait", "fetch"]),
    "while it runs": (remote, "wait_kernel", ["dataset", "kernel", "wait", "fetch"]),
    "while it is fetched": (remote, "fetch_output", ["dataset", "kernel", "wait", "wait", "fetch"]),
    "while it is taken over": (train_result, "_take", ["dataset", "kernel", "wait", "fetch", "wait", "fetch"]),
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_it_goes_on_where_it_was(kill: str, own: Training, kaggle: there.Kaggle) -> None:
    """A kernel that was sent is waited for, and not sent again."""
    owner, name, asked = KILLS[kill]
    true: Callable[..., None] = getattr(owner, name)
    calls = 0

    def killed(*args: object) -> None:
        nonlocal calls
        calls += 1
        if name != "_take" or calls == 2:  # the second fold's
            raise Killed
        true(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            main(command("--yes"))
    main(command("--yes"))
    assert kaggle.asked == ["dry run", *asked]
    assert states(own) == ["done", "done"] and trained_as_here()


def test_a_version_under_way(own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told without --yes, not given up for a fault of the network, and not taken for another configuration's."""
    kernel = "me/steel-tiny-train-gate-f0-1/1"
    kaggle.fault = UserError(f"kernel {kernel}: cannot reach Kaggle: check the network")
    assert tiny.fault(capsys, *command("--yes")) == str(kaggle.fault)
    main(command("--force"))
    assert capsys.readouterr().out == f"kernel train: {kernel} is under way; with --yes it is waited for and fetched\n"
    told = tiny.fault(capsys, *command("--yes", "--models.gate.seed", "5"))
    assert told.startswith(f"kernel {kernel} trains fold 0 from another configuration, cache or split than the ")
    kaggle.fault = None
    main(command("--yes"))
    assert kaggle.asked == ["dry run", "dataset", "kernel", "wait", "wait", "fetch"]
    assert states(own) == ["done", "done"]


@pytest.mark.parametrize("how", ["failed", "--force"])
def test_sent_anew(how: str, own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]) -> None:
    """After a kernel that failed; and while one runs, if that is asked for."""
    kaggle.fault = KernelFailed("it failed") if how == "failed" else UserError("no network")
    assert tiny.fault(capsys, *command("--yes")) == str(kaggle.fault)
    kaggle.fault = None
    main(command("--yes", *([how] if how == "--force" else [])))
    looked = ["fetch"] if how == "failed" else []
    assert kaggle.asked == ["dry run", "dataset", "kernel", "wait", *looked, "dataset", "kernel", "wait", "fetch"]
    assert kaggle.version == 2 and states(own) == ["done", "done"]


def test_what_a_failed_kernel_had_finished_is_taken_over(
    own: Training, kaggle: there.Kaggle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And told, before the failure; but nothing of a fold of which a file is torn."""
    torn = FOLDER / "output/runs/tiny/gate/fold1/weights.safetensors"

    def fetch(api: str, kernel: str, folder: Path) -> list[Path]:
        found = kaggle.fetch_output(api, kernel, folder)
        torn.write_bytes(torn.read_bytes()[:-1])
        return found

    monkeypatch.setattr(remote, "fetch_output", fetch)
    kaggle.fault, kaggle.ended = KernelFailed("kernel me/x was cancelled: it left no log"), {"0": "done", "1": "done"}
    with pytest.raises(SystemExit) as leaving:
        main(command("--yes"))
    told = capsys.readouterr()
    assert leaving.value.code == 2 and told.err == f"steel: {kaggle.fault}\n"
    line = "kernel train: the kernel did not end well; the folds that it had ended before:\n"
    line += f"train gate fold 1: {torn} did not come whole from the kernel; nothing is taken over of this fold\n"
    assert told.out.endswith(f"{line}train gate fold 0: done\ntrain gate fold 1: missing\n")
    assert kaggle.asked == ALL and states(own) == ["done", "missing"]
    assert there.weights("runs", 0) == there.weights("trained_here", 0)
    kaggle.fault = UserError("no network")
    assert tiny.fault(capsys, *command("--yes")) == "no network"
    assert kaggle.version == 2 and json.loads((FOLDER / "dataset/job.json").read_text())["folds"] == [1]


def test_a_fold_is_not_sent_twice(own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]) -> None:
    """Under two lists of folds."""
    kaggle.fault = UserError("no network")
    tiny.fault(capsys, *command("--yes"))
    sent = len(kaggle.asked)
    told = (
        "kernel train: me/steel-tiny-train-gate-f0-1/1 is under way with the folds 1; allowed: `steel kernel train "
        "CONFIG --model gate --folds 0,1 --yes`, which waits for it, or --force to send them a second time"
    )
    for args in (["--yes"], []):
        assert tiny.fault(capsys, *command("--folds", "1,2", *args)) == told
    assert len(kaggle.asked) == sent
    main(command("--folds", "1,2", "--force"))
    assert "it trains gate on the folds 1, 2\n" in capsys.readouterr().out
    other = Path("kernels/tiny-train-gate-f2-f0-1")  # of a model gate-f2
    shutil.copytree(FOLDER, other)
    (other / "under_way.json").write_text('{"kernel": "me/x/1", "keys": {"2": ""}}')
    train_there._refuse_sent(own, [2])  # says nothing


def test_a_fold_that_failed_is_told_and_the_other_taken_over(
    own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.ended = {"0": "done", "1": "failed: the loss is nan"}
    message = tiny.fault(capsys, *command("--yes"))
    assert message == f"kernel train: fold 1 failed: the loss is nan; its log lies in {FOLDER}/output"
    assert states(own) == ["done", "missing"] and kaggle.asked == ALL


@pytest.mark.usefixtures("kaggle")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "unet"], "--model: the solution has no model 'unet'; allowed: fpn, gate"),
        (["--folds", "3"], "--folds: '3' is not a fold; allowed: 0..2, as in --folds 1"),
        (["--owner", "a/b"], "--owner: 'a/b' is no Kaggle user name; allowed: letters, digits and -"),
        (["--models.gate.net", "nett"], "models.gate: "),
        (
            ["--split.n_folds", "2"],
            "kernel train needs 'folds', which is stale (config changed: n_folds: 3 -> 2): run ",
        ),
        (
            ["--yes", *there.SYNTH],
            "tiny: its strips are made up (data.synth), and Kaggle has others; allowed: a solution on ",
        ),
        (
            ["--name", "x" * 40],
            f"name: '{'x' * 40}-train-gate-f0-1' is too long for Kaggle; allowed: at most 39 characters",
        ),
    ],
)
def test_faults_are_told_before_any_work(
    args: list[str], message: str, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny.fault(capsys, *command(*args)).startswith(message)
    assert kaggle.asked == []


def test_while_it_is_trained_here_it_is_not_sent(
    own: Training, kaggle: there.Kaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage.locked(specs.of_training(own.paths, "gate", 1)):
        message = tiny.fault(capsys, *command("--yes"))
    assert message.startswith(f"kernel train: gate is running (process {os.getpid()}, since ")
    assert message.endswith(") here; allowed: one place at a time")
    assert kaggle.asked == []
