"""Two processes that train as one: the same numbers as one alone, and an end that is told in a line."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ranks
import tiny
import torch
import toy
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from steel.config import ModelConfig, Phase
from steel.errors import UserError
from steel.fit import dist
from steel.fit.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread", "importable")

PROGRAM = """
import sys
from pathlib import Path
import ranks
from steel import __main__, stages
from steel.fit import dist
stages.STAGES["status"] = lambda _: dist.launch(ranks.TWO, "train x fold 0", getattr(ranks, sys.argv[1]), Path.cwd())
__main__.main(["status", "x.yaml"])
"""


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes import `ranks`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


@contextmanager
def started(folder: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    """A program whose stage has two processes do something; it starts as from a terminal."""
    (folder / "x.yaml").write_text("name: x\nmodels: {unet: {}}\n")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, what]
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as program:
        try:
            yield program
        finally:
            program.kill()


def pids(folder: Path) -> list[int]:
    """Numbers of the two processes, once both are at work."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        texts = [path.read_text() for path in sorted(folder.glob("pid*"))]
        if len(texts) == 2 and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.05)
    raise TimeoutError


def gone(numbers: list[int]) -> bool:
    """Whether processes end within some seconds."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in numbers) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in numbers)


def test_a_process_that_is_killed_ends_all_with_one_line(tmp_path: Path) -> None:
    with started(tmp_path, "exchange") as program:
        found = pids(tmp_path)
        os.kill(found[1], signal.SIGKILL)
        begin = time.monotonic()
        out, err = program.communicate(timeout=60)
    line = "train x fold 0: process 1 of 2 was killed (SIGKILL), perhaps for want of memory; "
    line += "start it again and it continues after its last checkpoint"
    assert (program.returncode, out, tiny.one_line(err)) == (2, "", line)
    assert time.monotonic() - begin < 10 and gone(found)  # .5 s on an idle machine


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow)]
)
def test_interrupted_they_leave_one_line(number: signal.Signals, group: bool, tmp_path: Path) -> None:
    with started(tmp_path, "exchange") as program:
        found = pids(tmp_path)
        (os.killpg if group else os.kill)(program.pid, number)
        out, err = program.communicate(timeout=60)
    told = (128 + number, "", "steel: interrupted; start it again and it continues\n")
    assert (program.returncode, out, err) == told and gone(found)


@pytest.mark.slow
def test_none_outlives_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the folder by which it started them."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with started(tmp_path, "exchange") as program:
        found = pids(tmp_path)
        assert len(list(temporary.glob("steel-*"))) == 1
        program.kill()
    assert gone(found)
    assert not list(temporary.glob("steel-*"))


def test_what_one_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^bad strip$"):
        dist.launch(ranks.TWO, "x", ranks.refuse, tmp_path)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], ...]:
    """What each of two processes found, and what one alone finds."""
    root = toy.fresh(tmp_path_factory.mktemp("learnt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        dist.launch(ranks.TWO, "x", ranks.learn, root)
    torch.set_num_threads(1)
    both = (torch.load(root / f"found{rank}.pt", weights_only=False) for rank in (0, 1))
    return *both, ranks.found(root)


def test_gradients_are_those_of_one_process(learnt: tuple[dict[str, Any], ...]) -> None:
    """Of the mean loss over the same samples: 11 in batches of 4, added up over two, the last three left out."""
    first, second, alone = learnt
    assert (first["n"], second["n"], alone["n"]) == ([2, 2], [2, 2], [4, 4])
    assert all(value.abs().max() > 0 for name, value in alone["grads"].items() if name.endswith("weight"))
    for name, expected in alone["grads"].items():
        torch.testing.assert_close(first["grads"][name], expected, rtol=0, atol=1e-6)
        assert first["grads"][name].equal(second["grads"][name])


def test_the_score_is_that_of_one_process(learnt: tuple[dict[str, Any], ...]) -> None:
    first, second, alone = learnt
    assert first["score"] == second["score"] == alone["score"]
    assert first["score"]["n_images"] == 11


@pytest.mark.parametrize("name", ["ema", "swa", "best"])
def test_what_ships_is_alike_everywhere(name: str, learnt: tuple[dict[str, Any], ...]) -> None:
    first, second, alone = learnt
    assert first[f"{name} loss"] == second[f"{name} loss"] == pytest.approx(alone[f"{name} loss"], rel=0.2)
    assert first[name].keys() == alone[name].keys()
    assert all(value.equal(second[name][key]) for key, value in first[name].items())


def test_killed_as_two_it_goes_on_as_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy.fresh(tmp_path)
    with pytest.raises(UserError, match=r"^train gate fold 1: process 1 of 2 was killed \(SIGKILL\)"):
        dist.launch(ranks.TWO, "train gate fold 1", ranks.die, tmp_path)
    assert [row["epoch"] for row in toy.log(tmp_path / "runs/toy/gate/fold1")] == [1]
    folder = toy.run(tmp_path, "gate", ranks.even(replace(ranks.TWO, devices=1)))
    assert [row["epoch"] for row in toy.log(folder)] == [1, 2, 3, 4]
    told = "continues after epoch 1 of 4, on another footing than before (device: 2 x cpu with "
    assert told in capfd.readouterr().out


@pytest.mark.usefixtures("copied")
def test_begun_as_one_it_goes_on_as_two(capfd: pytest.CaptureFixture[str]) -> None:
    """By the command itself; what was trained so is kept by the stages after it."""
    job, weights = ("--model", "gate", "--fold", "0"), Path("runs/tiny/gate/fold0/weights.safetensors")
    before, true = weights.read_bytes(), Trainer.save

    def stop(*args: Any) -> None:
        true(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "save", stop)
        tiny.run("train", args=(*job, "--force"))
    capfd.readouterr()
    tiny.run("train", args=(*job, "--devices", "2"))
    out, err = capfd.readouterr()
    assert err == ""
    assert "train gate fold 0: continues after epoch 1 of 2, on another footing than before (device: cpu with" in out
    assert out.count(" epoch 2/2: ") == 1 and out.count("\n") == 4
    assert weights.read_bytes() != before
    tiny.run("status")
    told = re.search(r"train gate fold 0 +kept \(the environment changed: device: (.*?) -> ", capfd.readouterr().out)
    assert told and re.fullmatch(r"(cpu with \w+), then 2 x \1", told[1])


def told(folder: Path, errors: dict[int, Exception], codes: list[int]) -> str:
    """What is said of processes that ended so, the first error first."""
    for place, (number, error) in enumerate(errors.items()):
        (folder / f"{number}.error").write_bytes(dist._packed(error))
        os.utime(folder / f"{number}.error", (place, place))
    failures = {i: ProcessFailure(i, 1, code, "") for i, code in enumerate(codes)}
    return str(dist._cause(failures, folder, "train: process %d of 2"))


def test_what_ended_several_processes(tmp_path: Path) -> None:
    complaint, again = RuntimeError("NCCL error: unhandled system error\nmore"), "; start it again and it continues"
    one, two, three = (tmp_path / name for name in "abc")
    for folder in (one, two, three):
        folder.mkdir()
    assert told(one, {1: complaint, 0: ValueError("of its own")}, [1, 1]) == "of its own"
    killed = told(two, {1: complaint}, [-signal.SIGKILL, 1])
    assert killed.startswith(f"train: process 0 of 2 was killed (SIGKILL), perhaps for want of memory{again}")
    # A failing library, and a process that the launcher ended because of it.
    expected = "train: process 1 of 2: RuntimeError: NCCL error: unhandled system error"
    assert told(three, {1: complaint}, [-signal.SIGTERM, 1]) == expected


def test_an_error_travels_or_its_words_do() -> None:
    def fail(*args: object) -> None:
        raise KeyError(*args)

    for held, kind in (("x", KeyError), (lambda: 0, RuntimeError)):
        with pytest.raises(KeyError) as caught:
            fail(held)
        found = pickle.loads(dist._packed(caught.value))
        assert type(found) is kind
        assert "in fail" in "\n".join([str(found), *getattr(found, "__notes__", [])])


def test_synchronised_norms_keep_weights_names_and_activations() -> None:
    from timm.layers.norm_act import BatchNormAct2d

    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), BatchNormAct2d(4, act_layer=nn.ReLU))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    dist.synchronise(net)
    norms = [module for module in net.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == 2
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert net.state_dict().keys() == before.keys()
    assert net.eval()(torch.randn(2, 1, 8, 8)).min().item() == 0  # the activation is still there


def test_shares_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 11 samples in batches of 4, two processes get every second one of the first eight."""
    assert list(dist.share(11, 4)) == [*range(8)]
    monkeypatch.setattr(dist, "size", lambda: 2)
    monkeypatch.setattr(dist, "rank", lambda: 1)
    assert list(dist.share(11, 4)) == [1, 3, 5, 7]


@pytest.mark.parametrize(("phase", "n"), [(Phase(batch=6), 6), (Phase(batch=32, samples=10), 10), (Phase(batch=32), 9)])
def test_batches_that_cannot_be_shared_out(phase: Phase, n: int) -> None:
    model = ModelConfig(phases=[Phase(batch=8), phase])
    with pytest.raises(UserError) as error:
        dist.check_batches(replace(model, phases=[Phase(batch=8, samples=8), phase]), 9, 4)
    line = f"phases[1].batch: {n} crops cannot be shared out evenly among 4 devices; allowed: multiples of 4"
    assert str(error.value) == line
    dist.check_batches(model, 9, 1)


def test_one_process_alone() -> None:
    x = torch.arange(3.0)
    assert dist.total(x) is x and dist.mean(x) is x
    assert (dist.rank(), dist.size()) == (0, 1)
    assert dist.agreed(True, torch.device("cpu")) and not dist.agreed(False, torch.device("cpu"))
