"""Folds: balance, duplicates together, determinism, the file, and the committed split against the real labels."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.competition import N_TRAIN
from steel.data.cache import AREAS
from steel.data.duplicates import read_known_pairs
from steel.data.folds import deal_groups, draw_groups, make_folds, read_folds, summary, write_folds
from steel.errors import UserError

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "folds" / "severstal.csv"
SHARES = ["class1_share", "class3_share", "class4_share", "clean_share"]


def make_index(n: int, seed: int = 0, shares: tuple[float, ...] = (0.1, 0.05, 0.4, 0.1)) -> pd.DataFrame:
    """An index of n images with log-normal areas, each class present with the given probability."""
    rng = np.random.default_rng(seed)
    areas = np.exp(rng.normal(8, 1, (n, 4))).astype(int) * (rng.random((n, 4)) < shares)
    index = pd.DataFrame(areas, columns=AREAS)
    index.insert(0, "image_id", [f"{i:05d}.jpg" for i in range(n)])
    return index


def alone(index: pd.DataFrame) -> list[str]:
    """Every image its own group."""
    return [str(image_id) for image_id in index["image_id"]]


@pytest.fixture(scope="module")
def labels() -> Path:
    """The folder of real labels."""
    path = ROOT.parent / "shared" / "severstal" / "labels"
    if not path.is_dir():
        pytest.skip(f"no real labels at {path}")
    return path


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The program that makes the committed split."""
    spec = importlib.util.spec_from_file_location("make_severstal_folds", ROOT / "scripts" / "make_severstal_folds.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_classes_and_sizes_are_even() -> None:
    index = make_index(3000)
    several = (index[AREAS] > 0).sum(axis=1) > 1
    index.loc[several & (index.index % 10 > 0), ["area1_px", "area2_px", "area4_px"]] = (
        0  # two classes are rare, as in truth
    )
    counts = summary(index, make_folds(index, alone(index), 5, seed=0))
    per_fold = counts.drop("all")
    assert list(per_fold.index) == ["0", "1", "2", "3", "4"]
    assert (abs(per_fold["images"] - 600) <= 8).all()
    for name in ("class1", "class2", "class3", "class4", "clean"):
        assert (abs(per_fold[name] - counts.loc["all", name] / 5) <= 4).all(), name


def test_areas_are_even() -> None:
    index = make_index(3000)
    fold = make_folds(index, alone(index), 5, seed=0)
    area = index["area3_px"].to_numpy()
    large = area > np.quantile(area[area > 0], 2 / 3)
    in_fold = np.bincount(fold[large], minlength=5)
    assert abs(in_fold - large.sum() / 5).max() <= 3


def test_groups_stay_together_and_count_their_union() -> None:
    index = make_index(60)
    group = [f"g{i // 3}" for i in range(60)]
    fold = make_folds(index, group, 5, seed=0)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 60, 3))
    assert np.bincount(fold, minlength=5).min() >= 9  # 12 +- one group
    assert np.bincount(fold).max() <= 15


def test_order_and_names_of_groups_do_not_matter() -> None:
    index = make_index(200)
    group = [f"g{i // 2}" for i in range(200)]
    fold = make_folds(index, group, 4, seed=3)
    order = np.random.default_rng(0).permutation(200)
    shuffled = make_folds(index.iloc[order], [f"other{group[i]}" for i in order], 4, seed=3)
    assert shuffled.tolist() == fold[order].tolist()
    assert make_folds(index, group, 4, seed=4).tolist() != fold.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 10), st.integers(0, 99), st.integers(0, 3))
def test_small_data_fill_every_fold(n: int, n_folds: int, seed: int, rare: int) -> None:
    shares = tuple(0.03 if k == rare else 0.3 for k in range(4))
    index = make_index(n, seed, shares)
    n_folds = min(n, n_folds)
    sizes = np.bincount(make_folds(index, alone(index), n_folds, seed), minlength=n_folds)
    assert len(sizes) == n_folds
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 5


@pytest.mark.parametrize("shares", [(0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 0)])
def test_uniform_labels(shares: tuple[float, ...]) -> None:
    index = make_index(30, shares=shares)
    sizes = np.bincount(make_folds(index, alone(index), 5, seed=0))
    assert all(size in (5, 6, 7) for size in sizes)


def test_a_class_with_one_image() -> None:
    index = make_index(30, shares=(0.3, 0, 0.5, 0))
    index.loc[7, "area2_px"] = 900
    counts = summary(index, make_folds(index, alone(index), 5, seed=0))
    assert counts.loc["all", "class2"] == 1
    assert counts.drop("all")["images"].between(5, 7).all()


@pytest.mark.parametrize("n_folds", [-1, 0, 1])
def test_too_few_folds(n_folds: int) -> None:
    index = make_index(10)
    with pytest.raises(UserError, match=f"n_folds is {n_folds}; allowed: 2 or more"):
        make_folds(index, alone(index), n_folds, seed=0)


def test_more_folds_than_groups() -> None:
    with pytest.raises(UserError, match="n_folds is 5, but the 12 images form only 4 groups; allowed: 2 to 4"):
        make_folds(make_index(12), [str(i // 3) for i in range(12)], 5, seed=0)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.01, 0.9), st.integers(0, 99))
def test_whole_groups_are_drawn(group: list[int], share: float, seed: int) -> None:
    names = [f"g{k}" for k in group]
    if len(set(group)) < 2:
        with pytest.raises(UserError, match="form a single group of duplicates"):
            draw_groups(names, share, seed)
        return
    drawn = draw_groups(names, share, seed)
    assert drawn.any() and not drawn.all()
    assert not set(np.array(names)[drawn]) & set(np.array(names)[~drawn])
    largest = max(group.count(k) for k in group)
    assert drawn.sum() < share * len(group) + largest  # no group more than it takes
    if len(set(np.array(names)[~drawn])) > 1:
        assert drawn.sum() >= share * len(group)
    assert (draw_groups([f"other{k}" for k in group], share, seed) == drawn).all()


def test_another_seed_draws_others() -> None:
    names = [str(i) for i in range(100)]
    draws = [draw_groups(names, 0.15, seed) for seed in range(5)]
    assert [drawn.sum() for drawn in draws] == [15] * 5
    assert len({drawn.tobytes() for drawn in draws}) == 5


def test_groups_are_dealt_evenly_and_whole() -> None:
    names = [str(i // 2) for i in range(46)]  # 23 pairs
    part = deal_groups(names, 5)
    assert sorted(np.bincount(part)) == [8, 8, 10, 10, 10]
    assert (part[::2] == part[1::2]).all()
    assert sorted(deal_groups(["a", "b"], 5)) == [0, 1]


def test_summary_by_eye() -> None:
    index = pd.DataFrame([[1, 0, 0, 0], [1, 0, 9, 0], [0, 0, 0, 0], [0, 0, 0, 0]], columns=AREAS)
    counts = summary(index, np.array([0, 1, 1, 1]))
    assert counts.loc["0", ["images", "class1", "class3", "clean"]].tolist() == [1, 1, 0, 0]
    assert counts.loc["all", ["images", "class1", "class3", "clean"]].tolist() == [4, 2, 1, 2]
    assert counts.loc["1", "clean_share"] == pytest.approx(2 / 3)


def test_written_sorted_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "folds" / "mine.csv"
    write_folds(path, ["b.jpg", "a.jpg", "c.jpg"], np.array([1, 0, 1]), ["b.jpg", "a.jpg", "b.jpg"])
    assert path.read_bytes() == b"image_id,fold,group\na.jpg,0,a.jpg\nb.jpg,1,b.jpg\nc.jpg,1,b.jpg\n"
    read = read_folds(path)
    assert read["image_id"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert read["fold"].tolist() == [0, 1, 1]
    assert read["fold"].dtype == np.int64
    assert read["group"].tolist() == ["a.jpg", "b.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id,fold\na,0\n", "line 1: columns are id,fold; needed: image_id,fold,group"),
        ("image_id,fold,group\na,0,a\nb,1\n", "line 3: 'b,1' is not image_id,fold,group"),
        ("image_id,fold,group\na,0,a\n\nb,1,b\n", "line 3: '' is not image_id,fold,group"),
        ("image_id,fold,group\na,0,a\nb,1,b\na,0,a\n", "line 4: a is already in line 2"),
        ("image_id,fold,group\na,-1,a\n", "line 2: fold of a is '-1'; allowed: 0, 1, 2"),
        ("image_id,fold,group\na,0.0,a\n", "line 2: fold of a is '0.0'; allowed: 0, 1, 2"),
        ("image_id,fold,group\na,0,g\nb,1,g\n", "line 3: group g is in fold 1, but in fold 0 in line 2"),
        ("image_id,fold,group\na,0,a\nb,2,b\n", "no image is in fold 1, but the folds go up to 2"),
        ("image_id,fold,group\na,1,a\nb,2,b\n", "no image is in fold 0"),
        ("image_id,fold,group\na,0,a\n", "1 folds in 1 rows; allowed: 2 or more"),
        ("image_id,fold,group\n", "0 folds in 0 rows"),
    ],
)
def test_bad_fold_files(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(rows)
    with pytest.raises(UserError, match=r"bad\.csv") as error:
        read_folds(path)
    assert message in str(error.value)


def test_script_keeps_a_different_split(tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    table, pairs, out = (str(tmp_path / name) for name in ("table.csv", "pairs.csv", "out.csv"))
    index = make_index(40).rename(columns={"image_id": "ImageId"})
    index.to_csv(table, index=False)
    Path(pairs).write_text("ImageId,DuplicateOf\n00003.jpg,00030.jpg\n")
    assert script.main([table, pairs, out]) == 0
    before = Path(out).read_bytes()
    assert read_folds(Path(out)).set_index("image_id").loc["00030.jpg", "group"] == "00003.jpg"
    assert script.main([table, pairs, out]) == 0
    assert script.main([table, pairs, out, "--seed", "1"]) == 2
    assert "holds a different split; it is overwritten only with --force" in capsys.readouterr().err
    assert Path(out).read_bytes() == before
    assert script.main([table, pairs, out, "--seed", "1", "--force"]) == 0
    assert Path(out).read_bytes() != before


def test_script_tells_bad_tables(tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("ImageId,DuplicateOf\n")
    for text, message in {
        "ImageId,area1_px\na,0\n": "no column area2_px",
        "ImageId,area1_px,area2_px,area3_px,area4_px\na,0,0,0,0\na,0,0,0,0\n": "a is listed twice",
        "": "cannot be read as csv",
    }.items():
        table.write_text(text)
        assert script.main([str(table), str(pairs), str(tmp_path / "out.csv")]) == 2
        assert message in capsys.readouterr().err


def test_committed_split_is_sound() -> None:
    split = read_folds(COMMITTED)
    assert len(split) == N_TRAIN
    assert split["image_id"].is_monotonic_increasing
    assert split["fold"].nunique() == 5
    assert split.groupby("group")["image_id"].min().eq(split["group"].drop_duplicates().sort_values().values).all()


def test_committed_split_against_the_real_labels(labels: Path) -> None:
    index = pd.read_csv(labels / "classes_12568.csv").rename(columns={"ImageId": "image_id"}).sort_values("image_id")
    split = read_folds(COMMITTED)
    assert split["image_id"].tolist() == index["image_id"].tolist()
    counts = summary(index, split["fold"].to_numpy())
    per_fold, whole = counts.drop("all"), counts.loc["all"]
    assert (abs(per_fold[SHARES] / whole[SHARES] - 1) <= 0.02).all(axis=None)
    assert (abs(per_fold["class2"] - whole["class2"] / 5) <= 2).all()
    assert (abs(per_fold["images"] - N_TRAIN / 5) <= 0.01 * N_TRAIN / 5).all()
    fold, group = (split.set_index("image_id")[name] for name in ("fold", "group"))
    pairs = read_known_pairs(labels / "duplicates_44.csv")
    assert len(pairs) == 44
    assert all(fold[a] == fold[b] and group[a] == group[b] for a, b in pairs)


def test_committed_split_is_made_again(labels: Path, script: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "severstal.csv"
    assert script.main([str(labels / "classes_12568.csv"), str(labels / "duplicates_44.csv"), str(out)]) == 0
    assert out.read_bytes() == COMMITTED.read_bytes()
