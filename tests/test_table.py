"""The decision table against counting pixels at every threshold."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steel.decide.ensemble import largest_class
from steel.decide.measure import measure
from steel.decide.table import Table
from steel.errors import UserError

SHAPE = (6, 10)


def brute_force(prob: np.ndarray, mask_bits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, overlap and true pixels by thresholding 256 times."""
    kept = largest_class(prob)
    true = np.stack([mask_bits >> k & 1 == 1 for k in range(4)])
    shown = [kept >= t for t in range(256)]
    area = np.stack([m.sum((1, 2)) for m in shown], 1)
    overlap = np.stack([(m & true).sum((1, 2)) for m in shown], 1)
    return area, overlap, true.sum((1, 2))


def assert_equals_brute_force(prob: np.ndarray, mask_bits: np.ndarray) -> None:
    for ours, expected in zip(measure(prob, mask_bits), brute_force(prob, mask_bits), strict=True):
        assert ours.dtype == np.int32
        assert (ours == expected).all()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, *SHAPE), elements=st.one_of(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 255))),
    hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 15)),  # overlapping classes too: nothing leans on their absence
)
def test_measure_equals_brute_force(prob: np.ndarray, mask_bits: np.ndarray) -> None:
    assert_equals_brute_force(prob, mask_bits)


@pytest.mark.parametrize(("level", "bits"), [(0, 0), (3, 8), (255, 15)])
def test_measure_of_flat_full_size_maps(level: int, bits: int) -> None:
    assert_equals_brute_force(np.full((4, 256, 1600), level, np.uint8), np.full((256, 1600), bits, np.uint8))


def test_measure_of_a_random_full_size_map() -> None:
    rng = np.random.default_rng(0)
    mask_bits = np.zeros((256, 1600), np.uint8)
    mask_bits[40:90, 200:700] = 4
    mask_bits[100:200, 10:20] = 1
    assert_equals_brute_force(rng.integers(0, 256, (4, 256, 1600), np.uint8), mask_bits)


def test_measure_by_eye() -> None:
    prob = np.zeros((4, 256, 1600), np.uint8)
    prob[2, :10, :10] = 200  # 100 px of class 3
    prob[0, :10, :2] = 201  # of which class 1 takes 20
    mask_bits = np.zeros((256, 1600), np.uint8)
    mask_bits[:5, :10] = 4
    area, overlap, true_px = measure(prob, mask_bits)
    assert true_px.tolist() == [0, 0, 50, 0]
    assert area[:, 200].tolist() == [20, 0, 80, 0] and area[:, 201].tolist() == [20, 0, 0, 0]
    assert overlap[:, 200].tolist() == [0, 0, 40, 0]
    assert (area[:, 0] == 409_600).all() and overlap[:, 0].tolist() == [0, 0, 50, 0]


def test_measure_refuses_what_is_no_bit_field() -> None:
    prob = np.zeros((4, *SHAPE), np.uint8)
    with pytest.raises(UserError, match="value 255"):
        measure(prob, np.full(SHAPE, 255, np.uint8))
    with pytest.raises(UserError, match="mask"):
        measure(prob, np.zeros((5, 5), np.uint8))


def small_table(n: int = 3) -> Table:
    rng = np.random.default_rng(1)
    return Table(
        image_ids=np.array([f"{i}.jpg" for i in range(n)]),
        fold=np.arange(n).astype(np.int16),
        true_px=rng.integers(0, 9, (n, 4), np.int32),
        area_px=rng.integers(0, 9, (n, 4, 256), np.int32),
        overlap_px=rng.integers(0, 9, (n, 4, 256), np.int32),
        large_area_px=rng.integers(0, 9, (n, 4, 3, 12), np.int32),
        large_overlap_px=rng.integers(0, 9, (n, 4, 3, 12), np.int32),
        tail_px=rng.random((n, 4)),
        gate=rng.random((n, 4), np.float32),
    )


def test_save_and_load_give_the_same_table_and_bytes(tmp_path: Path) -> None:
    table, first, second = small_table(), tmp_path / "a.tmp", tmp_path / "b.npy"
    table.save(first)
    loaded = Table.load(first)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert all((a == b).all() for a, b in zip(vars(table).values(), vars(loaded).values(), strict=True))


def test_subset_by_mask_and_by_rows() -> None:
    table = small_table()
    assert table.subset(table.fold != 1).image_ids.tolist() == ["0.jpg", "2.jpg"]
    assert (table.subset(np.array([2, 0])).area_px == table.area_px[[2, 0]]).all()


def test_what_a_rule_may_look_at_is_that_of_the_class_and_the_rows() -> None:
    table, rows = small_table(5), np.array([3, 1])
    for component_px, place in ((0, None), (300, 1)):
        found, overlap_px = table.evidence(2, component_px, rows), table.overlaps(2, component_px, rows)
        assert (found.gate == table.gate[[3, 1], 2]).all() and (found.tail_px == table.tail_px[[3, 1], 2]).all()
        for got, whole, large in (
            (found.area_px, table.area_px, table.large_area_px),
            (overlap_px, table.overlap_px, table.large_overlap_px),
        ):
            expected = whole[[3, 1], 2, 128] if place is None else large[[3, 1], 2, place, 4]
            assert (got[:, 128] == expected).all()


def test_wrong_layout_is_refused() -> None:
    fields = vars(small_table())
    with pytest.raises(UserError, match="gate is float64"):
        Table(**{**fields, "gate": np.ones((3, 4))})
    with pytest.raises(UserError, match=r"true_px is int32 \(2, 4\)"):
        Table(**{**fields, "true_px": fields["true_px"][:2]})
    for gate in (float("nan"), 1.5, -0.5):
        bad = np.array([[1, 1, 1, 1], [1, 1, gate, 1], [1, 1, 1, 1]], np.float32)
        with pytest.raises(UserError, match=rf"1\.jpg class 3 is {gate}"):
            Table(**{**fields, "gate": bad})


@pytest.mark.parametrize("content", [b"", b"no npy", b"\x93NUMPY cut off"])
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.npy"
    with pytest.raises(UserError, match="does not exist"):
        Table.load(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"table\.npy is no decision table"):
        Table.load(path)


def test_a_cut_or_foreign_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "table.npy"
    np.save(path, np.zeros(3, [("gate", "f4", 4)]))
    with pytest.raises(UserError, match="image_ids"):
        Table.load(path)
    small_table().save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="no decision table"):
        Table.load(path)
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(UserError, match="no decision table"):
        Table.load(tmp_path / "array.npy")
