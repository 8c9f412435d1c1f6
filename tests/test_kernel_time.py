"""The kernel's hour: what it leaves out when time is short, and what it does not let go wrong."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_run import DATASET, RAW, place, rows_of, run, set_rules
from numpy.typing import NDArray

from steel import files
from steel.data.images import list_images
from steel.decide import fallback
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.fallback import Fallback
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.infer.predictor import Predictor
from steel.kaggle import kernel
from steel.kaggle.budget import Budget, Work
from steel.kaggle.ensemble import Ensemble
from steel.kaggle.submission import check_submission
from steel.nets.build import Outputs


@pytest.fixture
def here(bundled: Path, tmp_path: Path) -> Iterator[Path]:
    with place(bundled, tmp_path) as folder:
        yield folder


@pytest.fixture
def many(here: Path) -> list[str]:
    """38 strips in the competition's folder: ten batches; all are open, and the rules differ from way to way."""
    images = here / "competition/test_images"
    for name in list_images(RAW / "train_images"):
        shutil.copy(RAW / "train_images" / name, images)
    (here / "competition/sample_submission.csv").unlink()
    set_rules(Rule(60, 300, 0.0))
    found = fallback.load(DATASET / "fallbacks.json")
    assert [len(one.decision.folds) for one in found] == [3, 1]
    rules = [Rules((Rule(threshold, 300, 0.0),) * 4) for threshold in (80, 100)]
    pairs = zip(found, rules, strict=True)
    fallback.save(
        DATASET / "fallbacks.json", [replace(one, decision=replace(one.decision, tuned=own)) for one, own in pairs]
    )
    return list_images(images)


def hurry(monkeypatch: pytest.MonkeyPatch, after_batches: int, way: int) -> None:
    """Let the budget change to a way after some batches."""

    def choose(_: Budget, ways: list, now: int, n_done: int, *_left: float) -> int:
        assert len(ways) == 3 and ways[0].open == {"fpn": 6} and ways[2].always == {"gate": 1}
        return way if n_done >= after_batches else now

    monkeypatch.setattr(Budget, "choose", choose)


def smaller(one: Fallback) -> None:
    """Make the bundle one of the fallback alone."""
    one.decision.save(DATASET / "rules.json")
    solution = files.read_json(DATASET / "solution.json")
    solution["predict"]["tta"] = one.views
    files.write_json(DATASET / "solution.json", solution)
    fallback.save(DATASET / "fallbacks.json", [])


@pytest.mark.parametrize("way", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_short_of_time_the_rest_is_done_by_a_fallback(
    many: list[str], way: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 12 strips are those of the whole ensemble, the others those of a bundle of the fallback alone."""
    whole = rows_of(run())
    with monkeypatch.context() as patch:
        hurry(patch, 3, way)
        capsys.readouterr()
        found = rows_of(run())
    out = capsys.readouterr().out
    folds = "3 folds" if way == 1 else "1 fold"
    assert f"kernel: short of time: after 3 of 10 batches on with fpn, gate; 1 view; {folds}; CV " in out
    smaller(fallback.load(DATASET / "fallbacks.json")[way - 1])
    alone = rows_of(run())
    assert list(found) == many
    assert [found[name] for name in many[:12]] == [whole[name] for name in many[:12]]
    assert [found[name] for name in many[12:]] == [alone[name] for name in many[12:]]
    assert any(whole[name] != alone[name] for name in many[:12]) and any(
        whole[name] != alone[name] for name in many[12:]
    )


def a_second_a_pass(monkeypatch: pytest.MonkeyPatch, limit_s: float) -> None:
    """Put a clock in, on which each pass of a net takes a second and nothing else any time; and a limit."""
    now_s = [0.0]
    true = Predictor.__call__

    def slow(self: Predictor, strips: NDArray[np.uint8]) -> Outputs:
        now_s[0] += self.n_passes
        return true(self, strips)

    def budget(given_s: float) -> Budget:
        assert given_s == 3600 - 300
        return Budget(limit_s, lambda: now_s[0])

    monkeypatch.setattr(Predictor, "__call__", slow)
    monkeypatch.setattr(kernel, "Budget", budget)


def test_when_the_time_is_over_the_rest_stays_empty(
    many: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each pass takes a second of the clock, of which there are 25: too few for 10 batches, whatever is left out."""
    whole = rows_of(run())
    a_second_a_pass(monkeypatch, 25)
    capsys.readouterr()
    text = run()
    out = capsys.readouterr().out
    # A batch of 6 + 6 passes, half of the time; with the 2 of the quickest way the 9 others need 18 s of the 13 left.
    assert "after 1 of 10 batches on with fpn, gate; 1 view; 1 fold" in out
    assert "kernel: short of time: 25 s are over; the strips that are left stay empty" in out
    found = rows_of(text)
    assert [found[name] for name in many[:4]] == [whole[name] for name in many[:4]]
    assert all(line.endswith(",") for name in many[32:] for line in found[name])
    assert any(not line.endswith(",") for name in many[4:32] for line in found[name])
    assert "6 not reached; 26.0 s" in out
    check_submission(Path("working/submission.csv"), many)


@pytest.mark.parametrize("name", ["fpn", pytest.param("gate", marks=pytest.mark.slow)])
def test_a_batch_that_a_model_cannot_do_stays_empty(
    name: str, many: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it gives no numbers or the GPU is full: a kernel that ends badly has no score at all."""
    whole = rows_of(run())
    calls, true = [0], Predictor.__call__

    def broken(self: Predictor, strips: NDArray[np.uint8]) -> Outputs:
        calls[0] += self.gives_maps is (name == "fpn")
        if calls[0] == 3 and self.gives_maps is (name == "fpn"):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        return true(self, strips)

    monkeypatch.setattr(Predictor, "__call__", broken)
    capsys.readouterr()
    found = rows_of(run())
    out = capsys.readouterr().out
    told = ", ".join(many[8:12])
    expected = (
        f"kernel: warning: {told}: OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB; nothing is shown"
    )
    assert expected in out and "none unreadable, 4 failed, none not reached" in out
    assert all(line.endswith(",") for image_id in many[8:12] for line in found[image_id])
    assert {i: rows for i, rows in found.items() if i not in many[8:12]} == {
        i: rows for i, rows in whole.items() if i not in many[8:12]
    }


def test_three_times_the_strips_in_the_same_time(
    many: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 100 s, 10 batches of 12 s do not fit after three of them (36 s), seven of 6 s (one view) do."""
    a_second_a_pass(monkeypatch, 100)
    check = rows_of(run())
    out = capsys.readouterr().out
    assert "after 3 of 10 batches on with fpn, gate; 1 view; 3 folds" in out
    assert f"none not reached; {36 + 7 * 6}.0 s" in out
    assert list(check) == many and all(len(rows) == 4 for rows in check.values())


def test_a_fallback_takes_its_part_of_the_models() -> None:
    """Of three segmenters and two gates the second of each are left, with the second net and the first view."""

    def predictor(gives_maps: bool) -> Predictor:
        nets: Any = [f"net {i}" for i in range(3)]
        return Predictor(gives_maps, nets, ["identity", "hflip"], 4, torch.device("cpu"), torch.float32)

    rules = Rules((Rule(128, 600, 0.5),) * 4)
    names = ["a", "b", "c", "g", "h"]
    decision = Decision(names[:3], names[3:], [2, 5, 7], Blend.equal(3, 2), rules, rules, {})
    whole = Ensemble({name: predictor(name in "abc") for name in names}, decision, 4)
    assert whole.work == Work({"g": 6, "h": 6}, {"a": 6, "b": 6, "c": 6})
    left = Decision(["b"], ["h"], [5], Blend.equal(1, 1), rules, rules, {})
    found = whole.reduced(Fallback(["identity"], left, 0.5))
    nets: Any = {name: one.nets for name, one in found.predictors.items()}
    assert nets == {"b": ["net 1"], "h": ["net 1"]}
    assert found.work == Work({"h": 1}, {"b": 1})
    assert found.decision is left and found.batch == 4


class Told(Budget):
    """A budget that only notes what it is asked."""

    def choose(self, ways: Sequence[Work], way: int, n_done: float, n_left: float, n_open: float) -> int:
        self.asked = (len(ways), n_done, n_left, n_open)
        return way


@pytest.mark.parametrize(
    ("n_waiting", "n_encoded", "n_closed", "n_open"),
    [
        (0, 0, 0, 0),  # nothing is known: nothing was read
        (0, 40, 40, 6),  # half of the strips are open, and so of the 12 batches that are left
        (2, 38, 40, 6.5),  # and half a batch that waits
        (3, 0, 0, 12.75),
        (0, 0, 40, 0),
    ],
)
def test_what_the_segmenters_will_be_asked_about(n_waiting: int, n_encoded: int, n_closed: int, n_open: float) -> None:
    """Batches of 4: the open share of those to be read, and the strips that wait."""
    rules = Rules((Rule(128, 600, 0.5),) * 4)
    ensemble = Ensemble({}, Decision(["a"], [], [0], Blend.equal(1, 0), rules, rules, {}), 4)
    budget = Told(60)
    queue = kernel.Queue([ensemble], budget)
    queue.waiting = [("", np.zeros((256, 1600), np.uint8), {})] * n_waiting
    queue.n_encoded, queue.n_closed = n_encoded, n_closed
    assert not queue.hurry(5, 12)
    assert budget.asked == (1, 5, 12, n_open)
