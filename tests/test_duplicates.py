"""Duplicates: the hash and the check on made-up and on real strips, the list of known pairs, the groups."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steel.data import duplicates
from steel.data.duplicates import find_pairs, group, read_known_pairs
from steel.errors import UserError

SAMPLE = Path(__file__).parents[2] / "shared" / "severstal" / "sample" / "train_images"


def strip(seed: int, dark_px: int = 0) -> NDArray[np.uint8]:
    """A textured strip (256, 1600): blurred noise with vertical streaks, and a black border `dark_px` wide."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (256, 1600)).astype(np.float32), (0, 0), 3)
    grey = 100 + 90 * noise + 8 * rng.normal(0, 1, (1, 1600))
    grey[:, :dark_px] = 5
    return np.clip(grey, 0, 255).astype(np.uint8)


def recode(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The strip after a trip through JPEG."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def brighter(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The strip 20 levels brighter."""
    return np.clip(image.astype(np.int16) + 20, 0, 255).astype(np.uint8)


def darker(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The strip at 60 % of its brightness."""
    return np.asarray(image * 0.6, np.uint8)


def moved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The strip 2 px to the right."""
    return np.roll(image, 2, axis=1)


@pytest.fixture(scope="module")
def real() -> NDArray[np.uint8]:
    """Every fourth strip of the real sample, (46, 256, 1600)."""
    if not SAMPLE.is_dir():
        pytest.skip(f"no real strips at {SAMPLE}")
    files = sorted(SAMPLE.iterdir())[::4]
    return np.stack([np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8) for file in files])


def test_copies_are_found_and_nothing_else() -> None:
    a, b, c = strip(0), strip(1), strip(2, dark_px=600)
    images = np.stack([a, b, c, strip(3, dark_px=600), brighter(recode(a, 80)), darker(c), moved(b), recode(a, 70)])
    assert find_pairs(images) == [(0, 4), (0, 7), (1, 6), (2, 5), (4, 7)]


def test_mirrored_and_far_moved_strips_are_no_copies() -> None:
    a = strip(0)
    assert find_pairs(np.stack([a, a[:, ::-1], a[::-1], np.roll(a, 40, axis=1)])) == []


def test_featureless_strips_are_never_paired() -> None:
    flat = [np.full((256, 1600), level, np.uint8) for level in (0, 0, 128, 128, 255)]
    half = np.zeros((256, 1600), np.uint8)
    half[:, 800:] = 1
    assert find_pairs(np.stack([*flat, half, half])) == []


def test_same_border_or_same_pattern_is_not_enough() -> None:
    y, x = np.mgrid[:256, :1600]
    pattern = 60.0 * (np.sin(x / 16) * np.sin(y / 16) > 0.6)  # the bumps of a checker plate
    plates = [np.clip(strip(seed) * 0.5 + pattern, 0, 255).astype(np.uint8) for seed in range(4)]
    borders = [strip(seed, dark_px=1000) for seed in range(4, 8)]
    assert find_pairs(np.stack([*plates, *borders])) == []


def test_no_strips_give_no_pairs() -> None:
    assert find_pairs(np.zeros((0, 256, 1600), np.uint8)) == []


def test_memory_mapped_strips(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.stack([strip(0), strip(1), strip(0)]))
    assert find_pairs(np.load(tmp_path / "images.npy", mmap_mode="r")) == [(0, 2)]


def moved_both_ways(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The strip 2 px down and to the left: half a pixel at a quarter of the size."""
    return np.roll(image, (2, -2), axis=(0, 1))


@pytest.mark.parametrize("change", [brighter, darker, moved, moved_both_ways, lambda image: recode(image, 80)])
def test_real_strips_and_their_copies(real: NDArray[np.uint8], change: object) -> None:
    assert callable(change)
    originals = real[:20]
    copies = np.stack([change(image) for image in originals])
    assert find_pairs(np.concatenate([originals, copies])) == [(i, i + 20) for i in range(20)]


def test_no_false_pair_among_real_strips(real: NDArray[np.uint8]) -> None:
    assert find_pairs(real) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 64), st.integers(1, 8))
def test_near_codes_as_by_brute_force(words: list[int], max_bits: int, block: int) -> None:
    codes = np.array(words, np.uint64)[:, None]
    expected = [
        (i, j)
        for i in range(len(words))
        for j in range(i + 1, len(words))
        if (words[i] ^ words[j]).bit_count() <= max_bits
    ]
    assert sorted(duplicates._near(codes, max_bits, block)) == expected


def test_groups_are_transitive_and_named_by_the_smallest_id() -> None:
    assert group(["d", "a", "c", "b", "e"], [("d", "c"), ("b", "d")]) == ["b", "a", "b", "b", "e"]


def test_absent_images_link_but_name_no_group() -> None:
    assert group(["c", "b", "x"], [("a", "c"), ("b", "a"), ("x", "y")]) == ["b", "b", "x"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.permutations(range(10)))
def test_groups_as_by_flooding(links: list[tuple[int, int]], order: list[int]) -> None:
    smallest = list(range(10))
    for _ in range(10):
        for a, b in links:
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
    pairs = [(str(a), str(b)) for a, b in links]
    assert group([str(i) for i in order], pairs) == [str(smallest[i]) for i in order]


def test_known_pairs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("ImageId,DuplicateOf\r\na.jpg, b.jpg\r\nc.jpg,d.jpg\r\n")
    assert read_known_pairs(path) == [("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns are missing; needed: ImageId,DuplicateOf"),
        ("ImageId,Other\na,b\n", "line 1: columns are ImageId,Other; needed: ImageId,DuplicateOf"),
        ("ImageId,DuplicateOf\na,b\na,\n", "line 3: 'a,' is not ImageId,DuplicateOf"),
        ("ImageId,DuplicateOf\na,b,c\n", "line 2: 'a,b,c' is not"),
        ("ImageId,DuplicateOf\na,b\nc,c\n", "line 3: c is given as a duplicate of itself"),
    ],
)
def test_bad_known_pairs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"pairs\.csv") as error:
        read_known_pairs(path)
    assert message in str(error.value)


def test_missing_and_binary_known_pairs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        read_known_pairs(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match=r"binary\.csv: cannot be read"):
        read_known_pairs(tmp_path / "binary.csv")
