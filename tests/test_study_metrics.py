"""The study's metrics: by eye, by brute force, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from steel.errors import UserError
from steel.study_metrics import StudySegmentation, classification, segmentation, strip_sums

SHAPE = (3, 5)
LEVELS = st.one_of(st.sampled_from([0, 127, 128, 255]), st.integers(0, 255))  # around the cut, and all others


def strip(classes: dict[int, tuple[list[int], str]]) -> NDArray:
    """Sums of a strip of 1 x 4 px: by class index the levels of its map, and where its mask is, such as ``.xx.``."""
    maps, bits = np.zeros((4, 1, 4), np.uint8), np.zeros((1, 4), np.uint8)
    for k, (levels, mask) in classes.items():
        maps[k, 0] = levels
        bits[0] |= np.array([(c == "x") << k for c in mask], np.uint8)
    return strip_sums([maps], bits)[0]


def metrics_of(*strips: NDArray) -> StudySegmentation:
    return segmentation(np.stack(strips))


def test_the_sums_of_a_strip_by_eye() -> None:
    sums = strip({2: ([255, 51, 128, 127], "x.xx"), 3: ([0, 200, 0, 0], "....")})
    assert sums["soft_area"].tolist() == [0, 0, 255 + 51 + 128 + 127, 200]
    assert sums["soft_overlap"].tolist() == [0, 0, 255 + 128 + 127, 0]
    assert sums["true_px"].tolist() == [0, 0, 3, 0]
    assert sums["pred_px"].tolist() == [0, 0, 2, 1]  # 128 is .502, 127 is .498
    assert sums["overlap_px"].tolist() == [0, 0, 2, 0]


def test_one_strip_by_eye() -> None:
    found = metrics_of(strip({0: ([255, 255, 0, 0], "x.x.")}))
    assert found.soft_dice == pytest.approx((2 * 1 + 1) / (2 + 2 + 1))
    assert found.iou == pytest.approx(1 / 3)
    assert (found.precision, found.recall) == (1 / 2, 1 / 2)


def test_soft_dice_counts_probabilities_and_the_others_the_cut() -> None:
    found = metrics_of(strip({1: ([51, 51, 51, 0], "xx..")}))  # .2 each
    assert found.soft_dice == pytest.approx((2 * 0.4 + 1) / (0.6 + 2 + 1))
    assert (found.iou, found.recall) == (0, 0)
    assert math.isnan(found.precision)  # nothing is predicted


def test_precision_and_recall_are_not_swapped() -> None:
    found = metrics_of(strip({0: ([255, 0, 0, 0], "xxxx")}))
    assert (found.precision, found.recall) == (1, 1 / 4)


def test_iou_is_of_totals_and_over_the_classes_that_occur() -> None:
    full = ([255] * 4, "xxxx")
    found = metrics_of(
        strip({0: ([255, 0, 0, 0], "x..."), 1: ([0] * 4, "..x.")}),  # class 1 hit, class 2 missed, class 3 in vain
        strip({0: ([255, 255, 255, 0], "...."), 2: ([255, 0, 0, 0], "....")}),
    )
    assert found.iou == pytest.approx((1 / 4 + 0 + 0) / 3)  # class 4 occurs nowhere
    assert metrics_of(strip({3: full})).iou == 1


def test_batches_of_sixteen_strips_count_alike() -> None:
    perfect, missed = strip({0: ([255] * 4, "xxxx")}), strip({3: ([0] * 4, "xxx.")})
    assert metrics_of(*[perfect] * 16, missed).soft_dice == pytest.approx((1 + 1 / (3 + 1)) / 2)
    assert metrics_of(missed, *[perfect] * 16).soft_dice == pytest.approx(((2 * 60 + 1) / (60 + 63 + 1) + 1) / 2)
    assert metrics_of(*[perfect] * 15, missed).soft_dice == pytest.approx((2 * 60 + 1) / (60 + 63 + 1))


def test_where_nothing_can_be_said() -> None:
    empty = metrics_of(strip({}))
    assert empty.soft_dice == 1
    assert all(map(math.isnan, (empty.iou, empty.precision, empty.recall)))
    assert empty.as_dict() == {"soft_dice": 1, "iou": None, "precision": None, "recall": None}
    assert set(segmentation(np.stack([strip({})])[:0]).as_dict().values()) == {None}
    none = np.zeros((0, 4))
    assert set(classification(none, none > 0).as_dict().values()) == {None}


def test_full_size_sums_do_not_overflow() -> None:
    sums = strip_sums([np.full((4, 256, 1600), 255, np.uint8)], np.full((256, 1600), 15, np.uint8))[0]
    assert sums["soft_overlap"].tolist() == [255 * 409_600] * 4
    many = np.stack([sums] * 1000)
    assert segmentation(many) == StudySegmentation(1, 1, 1, 1)


def slow_segmentation(maps: NDArray, true: NDArray) -> list[float]:
    """The definitions, pixel by pixel: maps and masks (n, 4, H, W)."""
    p, t = maps / 255, true.astype(float)
    pairs = [(p[s : s + 16].ravel(), t[s : s + 16].ravel()) for s in range(0, len(p), 16)]
    soft = np.mean([(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in pairs])
    cut = p >= 0.5
    ious = [(cut[:, k] & true[:, k]).sum() / n for k in range(4) if (n := (cut[:, k] | true[:, k]).sum())]
    with np.errstate(invalid="ignore"):
        both = np.float64((cut & true).sum())
        return [soft, np.mean(ious) if ious else np.nan, both / cut.sum(), both / true.sum()]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 35), st.data())
def test_segmentation_equals_brute_force(n: int, data: st.DataObject) -> None:
    maps = data.draw(hnp.arrays(np.uint8, (n, 4, *SHAPE), elements=LEVELS))
    bits = data.draw(hnp.arrays(np.uint8, (n, *SHAPE), elements=st.integers(0, 15)))
    true = np.stack([bits >> k & 1 == 1 for k in range(4)], axis=1)
    found = segmentation(np.concatenate([strip_sums([m], b) for m, b in zip(maps, bits, strict=True)]))
    np.testing.assert_allclose(
        [found.soft_dice, found.iou, found.precision, found.recall], slow_segmentation(maps, true), rtol=1e-12
    )


def test_pixel_metrics_equal_scikit_learn() -> None:
    from sklearn.metrics import jaccard_score, precision_score, recall_score

    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (5, 4, *SHAPE), np.uint8)
    bits = rng.integers(0, 16, (5, *SHAPE), np.uint8)
    found = segmentation(np.concatenate([strip_sums([m], b) for m, b in zip(maps, bits, strict=True)]))
    true = (bits[..., None] >> np.arange(4) & 1).reshape(-1, 4)  # a pixel is a sample
    pred = np.moveaxis(maps >= 128, 1, -1).reshape(-1, 4).astype(int)
    assert found.iou == pytest.approx(jaccard_score(true, pred, average="macro"))
    assert found.precision == pytest.approx(precision_score(true, pred, average="micro"))
    assert found.recall == pytest.approx(recall_score(true, pred, average="micro"))


def classes(text: str) -> NDArray[np.bool_]:
    """Rows such as ``x..x`` as bool (n, 4)."""
    return np.array([[c == "x" for c in row] for row in text.split()])


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ("x...", "x...", (1, 1, 1, 1)),
        ("....", "....", (1, 1, 1, 1)),  # rightly nothing
        ("x...", "....", (0, 0, 0, 0)),
        ("....", "x...", (0, 0, 0, 0)),
        ("x...", ".x..", (0, 0, 0, 0)),
        ("xx..", "x...", (1 / 2, 1, 1 / 2, 2 / 3)),
        ("x...", "xxx.", (1 / 3, 1 / 3, 1, 1 / 2)),
        ("x... xx..", "x... x...", (3 / 4, 1, 3 / 4, 5 / 6)),  # over all examples, not one
    ],
)
def test_classification_by_eye(true: str, pred: str, expected: tuple[float, ...]) -> None:
    found = classification(np.where(classes(pred), 0.5, 0.499), classes(true))
    assert (found.accuracy, found.precision, found.recall, found.f1) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data())
def test_classification_equals_scikit_learn(n: int, data: st.DataObject) -> None:
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    true, pred = (data.draw(hnp.arrays(bool, (n, 4))) for _ in range(2))
    # Its zero_division says what 0 / 0 counts, whether one set or both are empty: 0, and the latter are added here.
    right = float((~true.any(1) & ~pred.any(1)).mean())
    expected = [
        f(true, pred, average="samples", zero_division=0) + right
        for f in (jaccard_score, precision_score, recall_score, f1_score)
    ]
    found = classification(pred.astype(np.float32), true)
    assert [found.accuracy, found.precision, found.recall, found.f1] == pytest.approx(expected)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"map uint8 \(4, 2, 2\) for a mask \(2, 3\), allowed: uint8 \(4, 2, 3\)"):
        strip_sums([np.zeros((4, 2, 2), np.uint8)], np.zeros((2, 3), np.uint8))
    with pytest.raises(UserError, match="map float64"):
        strip_sums([np.zeros((4, 2, 2))], np.zeros((2, 2), np.uint8))  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"allowed: records \(n,\)"):
        segmentation(np.zeros(3))
    with pytest.raises(UserError, match=r"probabilities \(2, 4\) for classes bool \(3, 4\), allowed: \(n, 4\)"):
        classification(np.zeros((2, 4)), np.zeros((3, 4), bool))
