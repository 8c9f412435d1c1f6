"""Run-length strings: by eye, against a per-px reference, and on the real labels."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steel import rle
from steel.competition import HEIGHT, N_PIXELS, WIDTH


def runs_of(flat: NDArray) -> str:
    """Brute force: walk the px one by one."""
    words: list[str] = []
    length = 0
    for at, value in enumerate([*flat.tolist(), 0]):
        if value:
            length += 1
        elif length:
            words += [str(at - length + 1), str(length)]
            length = 0
    return " ".join(words)


def flat_of(text: str) -> NDArray[np.uint8]:
    """Brute force: fill run by run."""
    flat = np.zeros(N_PIXELS, np.uint8)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    return flat


@st.composite
def strings(draw: st.DrawFn) -> str:
    """Valid strings; runs may touch, be long, and end at the last px."""
    gaps = draw(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3000)), max_size=40))
    end, words = draw(st.sampled_from([0, 1, 255, 256, N_PIXELS - 9])), []
    for gap, length in gaps:
        start = end + gap
        length = min(length, N_PIXELS - start)
        if length <= 0:
            break
        words.append(f"{start + 1} {length}")
        end = start + length
    return " ".join(words)


def test_by_eye() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[0, 0] = mask[2, 0] = mask[3, 0] = 1  # px 1, 3, 4 of the first column
    mask[0, 1] = 1  # px 257: the top of the second
    mask[-1, -1] = 1
    text = "1 1 3 2 257 1 409600 1"
    assert rle.encode(mask) == text
    np.testing.assert_array_equal(rle.decode(text), mask)
    assert rle.parse(text).tolist() == [[0, 1], [2, 2], [256, 1], [409599, 1]]
    assert rle.area(text) == 5


def test_empty_and_full() -> None:
    assert rle.encode(np.zeros((HEIGHT, WIDTH), np.uint8)) == ""
    assert rle.encode(np.ones((HEIGHT, WIDTH), bool)) == "1 409600"
    assert not rle.decode("").any()
    assert rle.decode("1 409600").all()
    assert rle.parse("").shape == (0, 2)
    assert rle.area("") == 0


def test_a_run_goes_on_in_the_next_column() -> None:
    mask = rle.decode("256 2")
    assert mask[255, 0] == mask[0, 1] == 1
    assert mask.sum() == 2


def test_numbers_are_written_as_python_writes_them() -> None:
    numbers = [1, 9, 11, 99, 101, 999, 1001, 1010, 1099, 99_999, 100_001, 409_600]
    text = " ".join(f"{number} 1" for number in numbers)
    assert rle.encode(rle.decode(text)) == text


def test_touching_runs_become_one() -> None:
    assert rle.encode(rle.decode("1 3 4 2")) == "1 5"


@settings(max_examples=100, deadline=None)
@given(strings())
def test_decode_equals_brute_force(text: str) -> None:
    flat = flat_of(text)
    mask = rle.decode(text)
    assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == np.uint8
    np.testing.assert_array_equal(mask.T.ravel(), flat)
    assert rle.area(text) == flat.sum()


@settings(max_examples=100, deadline=None)
@given(strings(), st.sampled_from(["C", "F"]), st.booleans())
def test_round_trip_is_canonical(text: str, order: Literal["C", "F"], as_bool: bool) -> None:
    mask = rle.decode(text).astype(bool if as_bool else np.uint8, order=order)
    again = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(again), mask)
    runs = rle.parse(again)
    assert (runs[1:, 0] > runs[:-1].sum(axis=1)).all()  # merged


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.3, 0.999]))
def test_encode_equals_brute_force(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share
    assert rle.encode(mask) == runs_of(mask.T.ravel())


def test_encode_takes_views() -> None:
    wide = np.random.default_rng(0).random((HEIGHT, 2 * WIDTH)) < 0.1
    for view in (wide[:, ::2], wide[:, :WIDTH], wide[::-1, WIDTH:]):
        assert rle.encode(view) == runs_of(view.T.ravel())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((WIDTH, HEIGHT), np.uint8), "expected"),
        (np.zeros((HEIGHT, WIDTH), np.float32), "float32"),
        (np.full((HEIGHT, WIDTH), 255, np.uint8), "other values"),
        (np.full((HEIGHT, WIDTH), 255, np.uint8, order="F"), "other values"),
    ],
)
def test_encode_refuses(mask: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rle.encode(mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "3 numbers: expected pairs"),
        ("7", "1 numbers: expected pairs"),
        ("1 x", r"'x' \(number 2 of 2\)"),
        ("1.5 2", "'1.5'"),
        ("-1 2", "'-1'"),
        ("1 ²", "'²'"),
        ("1 1_0", "'1_0'"),
        ("0 2", r"has 0 \(number 1 of 2\)"),
        ("1 0", r"has 0 \(number 2 of 2\)"),
        ("409601 1", "has 409601"),
        ("409600 2", "ends at 409601: expected at most 409600"),
        ("99999999999999999999999 1", "expected a whole number"),
        ("1 9223372036854775807", "expected a whole number"),
        ("10 2 5 1", r"starts at 5 \(number 3 of 4\) but the run before ends at 11"),
        ("10 2 11 1", "starts at 11"),
        (" ", "0 numbers: expected pairs"),
        ("1\t2", "expected a whole number"),
        ("nan", "'nan'"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    for function in (rle.parse, rle.decode, rle.area):
        with pytest.raises(ValueError, match=message) as caught:
            function(text)
        assert "\n" not in str(caught.value)


def test_spare_blanks_do_no_harm() -> None:
    assert rle.parse(" 1  2 ").tolist() == [[0, 2]]


def test_paint_sets_one_bit() -> None:
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    rle.paint(bits, "1 2", 1)
    rle.paint(bits, "2 2 409600 1", 4)
    rle.paint(bits, "", 2)
    assert bits[:4, 0].tolist() == [1, 9, 8, 0]
    assert bits[-1, -1] == 8
    assert np.count_nonzero(bits) == 4
    with pytest.raises(ValueError, match="class 5"):
        rle.paint(bits, "1 2", 5)


@settings(max_examples=30, deadline=None)
@given(strings(), st.integers(1, 4))
def test_paint_equals_decode(text: str, class_id: int) -> None:
    bits = np.full((HEIGHT, WIDTH), 16, np.uint8)
    rle.paint(bits, text, class_id)
    np.testing.assert_array_equal(bits, 16 | rle.decode(text) << (class_id - 1))


def test_real_strings_are_canonical_and_have_the_known_areas(severstal: Path) -> None:
    masks = pd.read_csv(severstal / "labels" / "train_partial.csv.gz")
    classes = pd.read_csv(severstal / "labels" / "classes_12568.csv").set_index("ImageId")
    known = classes[[f"area{k}_px" for k in (1, 2, 3, 4)]].to_numpy()
    row_of = {image_id: row for row, image_id in enumerate(classes.index)}
    expected = [known[row_of[i], k - 1] for i, k in zip(masks.ImageId, masks.ClassId, strict=True)]
    assert [rle.area(text) for text in masks.EncodedPixels] == expected
    complete = classes.masks_in_train_partial.to_numpy()
    assert sum(expected) == known[complete].sum()
    for text in masks.EncodedPixels:
        mask = rle.decode(text)
        assert rle.encode(mask) == text
    np.testing.assert_array_equal(mask.T.ravel(), flat_of(text))
