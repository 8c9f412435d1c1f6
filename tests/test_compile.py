"""A compiled net trains as a plain one, under the same names, and goes on after a kill to the same bytes."""

from dataclasses import replace
from pathlib import Path

import pytest
import toy
from safetensors import safe_open

from steel.fit.trainer import Trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, of its own
]


def test_a_compiled_training(tmp_path: Path) -> None:
    solution = toy.solution({"unet": replace(toy.SEGMENTER, augment="flips")})
    compiled = replace(solution, machine=replace(solution.machine, compile=True))
    plain, whole, other = (
        toy.run(toy.fresh(tmp_path / name), "unet", compiled if name != "plain" else solution)
        for name in ("plain", "whole", "other")
    )
    with safe_open(plain / "weights.safetensors", "np") as a, safe_open(whole / "weights.safetensors", "np") as b:
        assert sorted(a.keys()) == sorted(b.keys())
    losses = [[row["loss"] for row in toy.log(folder)] for folder in (plain, whole)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.1)
    assert toy.weights(whole) == toy.weights(other)


def test_killed_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    solution = toy.solution({"gate": toy.CLASSIFIER})
    solution = replace(solution, machine=replace(solution.machine, compile=True))
    whole = toy.weights(toy.run(toy.fresh(tmp_path / "whole"), "gate", solution))
    true = Trainer.save

    def stop(*args: object) -> None:
        true(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    root = toy.fresh(tmp_path / "killed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "save", stop)
        toy.run(root, "gate", solution)
    assert toy.weights(toy.run(root, "gate", solution)) == whole
