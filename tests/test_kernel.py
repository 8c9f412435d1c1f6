"""What the kernel writes: the bytes of the submission, whatever is skipped; complete and valid at every moment."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiny
import torch
from kernel_run import DATASET, RAW, SUBMISSION, place, rows_of, run, set_rules
from numpy.typing import NDArray

from steel.__main__ import main
from steel.data.images import list_images, read_strip
from steel.data.labels import read_image_list
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.errors import UserError
from steel.infer.predictor import Predictor
from steel.infer.store import open_store
from steel.kaggle import kernel
from steel.kaggle.budget import Budget
from steel.kaggle.ensemble import Ensemble
from steel.kaggle.submission import check_submission
from steel.nets.build import Outputs
from steel.paths import Paths


@pytest.fixture
def here(bundled: Path, tmp_path: Path) -> Iterator[Path]:
    with place(bundled, tmp_path) as folder:
        yield folder


@pytest.mark.usefixtures("here")
def test_it_writes_the_bytes_of_the_submission(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == SUBMISSION.read_text()
    out = capsys.readouterr().out
    assert "kernel: 6 strips; torch " in out and " on cpu, 1 threads" in out
    assert [path.name for path in Path("working").iterdir()] == ["submission.csv"]


@pytest.mark.usefixtures("here")
def test_what_the_gate_closes_skips_the_segmenters_and_leaves_the_bytes_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On 18 strips, some of them closed: full batches for the segmenter, the same bytes as by all of them."""
    images = Path("competition/test_images")
    for name in list_images(RAW / "train_images")[:12]:
        shutil.copy(RAW / "train_images" / name, images)
    Path("competition/sample_submission.csv").unlink()
    names = list_images(images)
    gate = Predictor.load(Paths(tiny.solution()), "gate", [0, 1, 2])
    strips = [read_strip(images / name) for name in names]
    labels = torch.cat([gate(np.stack(strips[i : i + 4])).main for i in range(0, 18, 4)])
    largest = labels.max(1).values.numpy()
    middle = float(np.sort(largest)[8])
    n_open = int((largest >= np.float32(middle)).sum())
    assert 5 <= n_open <= 13
    set_rules(Rule(60, 500, middle))
    main(["predict", tiny.CONFIG, "--images", str(images), "--out", "full.csv"])
    assert Path("full.csv").read_text().count(" ") > 10  # something is shown
    seen: list[tuple[bool, int]] = []
    true = Predictor.__call__

    def watched(self: Predictor, strips: NDArray[np.uint8]) -> Outputs:
        seen.append((self.gives_maps, len(strips)))
        return true(self, strips)

    monkeypatch.setattr(Predictor, "__call__", watched)
    assert run() == Path("full.csv").read_text()
    assert [n for maps, n in seen if not maps] == [4, 4, 4, 4, 2]
    rest = [n_open % 4] if n_open % 4 else []
    assert [n for maps, n in seen if maps] == [4] * (n_open // 4) + rest
    assert f"{18 - n_open} closed by the gate" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["fpn", "gate"])
def test_a_strip_does_not_depend_on_its_company(name: str) -> None:
    """In another place of the batch, among other strips: the same bits."""
    predictor = Predictor.load(Paths(tiny.solution()), name, [0, 1, 2])
    images = RAW / "train_images"
    strips = np.stack([read_strip(images / name) for name in list_images(images)[:8]])
    whole = torch.cat([predictor(strips[:4]).main, predictor(strips[4:]).main])
    for rows in ([3, 6, 0, 5], [7, 7, 2]):
        assert torch.equal(predictor(strips[rows]).main, whole[rows])


@pytest.mark.usefixtures("here")
def test_an_unreadable_image_costs_its_own_rows_only(capsys: pytest.CaptureFixture[str]) -> None:
    set_rules(Rule(60, 500, 0.0))
    before = rows_of(run())
    first, second = [name for name, rows in before.items() if not all(row.endswith(",") for row in rows)][:2]
    others = [name for name in before if name not in (first, second)]
    path = Path("competition/test_images") / first
    path.write_bytes(path.read_bytes()[:2000])
    (Path("competition/test_images") / second).unlink()
    capsys.readouterr()
    found = rows_of(run())
    assert list(found) == list(before)
    assert {name: found[name] for name in others} == {name: before[name] for name in others}
    for name in (first, second):
        assert found[name] == [f"{name}_{k}," for k in (1, 2, 3, 4)]
    out = capsys.readouterr().out
    assert f"kernel: warning: {path}: JPEG cut off at 2000 bytes" in out
    assert f"test_images/{second}: no such file: expected an image; nothing is shown on it" in out
    assert "2 unreadable" in out


@pytest.mark.usefixtures("here")
def test_the_sample_submission_says_which_strips_and_in_which_order() -> None:
    """In the form of 2019 as in today's; a strip that it does not list is no part of the test."""
    sample = Path("competition/sample_submission.csv")
    order = read_image_list(sample)[:0:-1]
    listed = "".join(f"{i}_{k},1 1\n" for i in order for k in (1, 2, 3, 4))
    sample.write_text(f"ImageId_ClassId,EncodedPixels\n{listed}")
    before = rows_of(SUBMISSION.read_text())
    assert run().splitlines()[1:] == [line for name in order for line in before[name]]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", [None, "", "ImageId,EncodedPixels\na.jpg,\na.jpg,\n"])
def test_without_a_sample_submission_the_folder_counts(text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    sample, names = Path("competition/sample_submission.csv"), sorted(rows_of(SUBMISSION.read_text()))
    sample.unlink() if text is None else sample.write_text(text)
    assert kernel.list_strips(Path("competition")) == names
    assert "the files of competition/test_images are taken instead" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_complete_submission_stands_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no GPU")

    monkeypatch.setattr(Predictor, "of", fail)
    with pytest.raises(RuntimeError, match="no GPU"):
        run()
    check_submission(Path("working/submission.csv"), read_image_list(RAW / "sample_submission.csv"))
    assert all(line.endswith(",") for line in Path("working/submission.csv").read_text().splitlines()[1:])


@pytest.mark.usefixtures("here")
def test_it_gets_better_as_the_kernel_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_rules(Rule(1, 0, 0.0))
    shown: list[int] = []
    true = kernel.publish

    def watched(target: Path, rows: dict[str, list[str]]) -> None:
        true(target, rows)
        shown.append(sum(not line.endswith(",") for line in target.read_text().splitlines()[1:]))

    monkeypatch.setattr(kernel, "publish", watched)
    monkeypatch.setattr(kernel, "WRITE_EVERY_S", -1.0)
    run()
    assert shown[0] == 0 < shown[1] < shown[-1]
    assert shown == sorted(shown) and len(shown) == 4  # the start, two batches of 6 strips, the end


class Fake:
    """A segmenter with a joint head: class 1 is everywhere, with this probability."""

    gives_maps, n_passes = True, 1

    def __init__(self, prob: float) -> None:
        self.prob, self.calls = prob, 0

    def __call__(self, strips: NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        maps = torch.zeros(len(strips), 4, 256, 1600)
        maps[:, 0] = 0.9
        return Outputs(maps, torch.full((len(strips), 4), self.prob))


@pytest.mark.parametrize(("prob", "code"), [(0.4, ""), (0.6, "1 409600")])
def test_a_gate_that_a_segmenter_gives_is_asked_for(prob: float, code: str) -> None:
    """A joint head votes only when the segmenter runs: then nothing may be skipped before."""
    rules = Rules((Rule(128, 600, 0.5),) * 4)
    decision = Decision(["unet"], ["unet"], [0], Blend.equal(1, 1), rules, rules, {})
    fake = Fake(prob)
    ensemble = Ensemble({"unet": cast(Predictor, fake)}, decision, 2)
    queue = kernel.Queue([ensemble], Budget(60))
    strips = {f"{i}.jpg": np.zeros((256, 1600), np.uint8) for i in range(2)}
    queue.add(strips)
    assert queue.n_closed == 0
    assert queue.run() == {name: [code, "", "", ""] for name in strips}
    assert fake.calls == 1


def test_without_any_gate_a_rule_that_never_shows_is_closed() -> None:
    never, always = Rule(128, 409_601, 0.0), Rule(128, 0, 0.0)
    for rules, n in ((never, never, never, never), 2), ((never, never, always, never), 0):
        decision = Decision(["unet"], [], [0], Blend.equal(1, 0), Rules(rules), Rules(rules), {})
        queue = kernel.Queue([Ensemble({"unet": cast(Predictor, Fake(1.0))}, decision, 2)], Budget(60))
        queue.add({f"{i}.jpg": np.zeros((256, 1600), np.uint8) for i in range(2)})
        assert queue.n_closed == n


def test_the_next_strips_are_read_while_the_last_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {f"{i}.jpg": threading.Event() for i in range(5)}

    def slow(path: Path) -> NDArray[np.uint8]:
        if path.name == "1.jpg":
            raise UserError("1.jpg: damaged")
        read[path.name].set()
        return np.full((256, 1600), int(path.stem), np.uint8)

    monkeypatch.setattr(kernel, "read_strip", slow)
    batches = kernel.read_ahead(Path(), list(read), 2)
    first = next(batches)
    assert list(first) == ["0.jpg"] and first["0.jpg"].max() == 0
    assert read["3.jpg"].wait(10)  # nobody has asked for it yet
    assert not read["4.jpg"].is_set()
    assert [list(found) for found in batches] == [["2.jpg", "3.jpg"], ["4.jpg"]]


@pytest.mark.usefixtures("here")
def test_gates_are_those_of_the_store() -> None:
    """The classifiers' double precision survives the queue."""
    ensemble = Ensemble.load(DATASET, tiny.solution())
    stored = open_store(Paths(tiny.solution()).test("gate"))
    strips = np.stack([read_strip(RAW / "test_images" / name) for name in stored.image_ids[:4]])
    assert stored.gate is not None
    assert (ensemble.classify(strips, Budget(60))["gate"] == stored.gate[:4]).all()
