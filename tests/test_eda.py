"""The prepared data in numbers: by eye on the toy data, against other libraries where there is nothing to see."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from steel import files
from steel.data.cache import AREAS, open_strips
from steel.data.folds import write_folds
from steel.paths import Paths
from steel.report.eda import look as eda_pass
from steel.report.eda import measure as eda
from steel.report.eda import run as eda_run
from steel.report.overlay import COLOURS

PATHS = Paths(toy.solution({}))
IDS = [f"{row:09x}.jpg" for row in range(toy.N_TRAIN)]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The toy data set: 12 training strips with squares of 100 x 80 px, 3 test strips; the working directory."""
    toy.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return PATHS


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the toy data set."""
    return toy.numbers(tmp_path_factory.mktemp("numbers"))


def put_masks(paths: Paths, masks: NDArray[np.uint8]) -> None:
    """Give the training strips other masks, (12, 256, 1600) bits."""
    np.save(paths.cache / "train_masks.npy", masks)
    index = open_strips(paths.cache, "train").index
    index[AREAS] = toy.areas_of(masks)
    index.to_csv(paths.cache / "train.csv", index=False)


def test_counts(numbers: dict[str, Any]) -> None:
    assert (numbers["n_train"], numbers["n_test"], numbers["n_clean"]) == (12, 3, 5)
    assert numbers["n_masks"] == [2, 1, 4, 1]
    assert numbers["n_by_classes"] == [5, 6, 1, 0, 0]
    assert numbers["together"] == [[2, 0, 1, 0], [0, 1, 0, 0], [1, 0, 4, 0], [0, 0, 0, 1]]
    assert numbers["sets"][:2] == [{"classes": [], "n": 5}, {"classes": [3], "n": 3}]
    assert {tuple(one["classes"]): one["n"] for one in numbers["sets"][2:]} == {(1,): 1, (2,): 1, (4,): 1, (1, 3): 1}


def test_areas(data: Paths) -> None:
    masks = np.zeros((12, 256, 1600), np.uint8)
    for row, px in enumerate((1, 10, 100, 100, 1000)):  # powers of ten lie on the edges of bins
        masks[row].reshape(-1)[:px] = 1
    masks[5, :50, :50] = 4
    put_masks(data, masks)
    found = eda.measure(data)["areas"]
    one, two, three, _ = found["classes"]
    assert (one["min_px"], one["max_px"], one["quantiles_px"][1:4]) == (1, 1000, [10.0, 100.0, 100.0])
    assert {n: found["edges_px"][n] for n in np.flatnonzero(one["histogram"])} == {0: 1, 5: 10, 10: 100, 15: 1000}
    assert [one["histogram"][n] for n in (0, 5, 10, 15)] == [1, 1, 2, 1]
    assert (two["min_px"], two["max_px"], two["quantiles_px"], sum(two["histogram"])) == (None, None, None, 0)
    place = three["histogram"].index(1)
    assert found["edges_px"][place] <= 2500 < found["edges_px"][place + 1]


def test_positions(numbers: dict[str, Any]) -> None:
    """The mask of class 2 fills rows 60 to 159 and columns 999 to 1078: cells 1 to 4 down, 31 to 33 across."""
    expected = np.zeros((8, 50))
    expected[1:5, 31:34] = 1
    assert (np.array(numbers["positions"][1]) == expected).all()
    assert set(np.unique(numbers["positions"][2])) <= {0, 0.25, 0.5, 0.75, 1}  # of four masks


def test_components_and_borders(data: Paths) -> None:
    masks = np.zeros((12, 256, 1600), np.uint8)
    masks[0, 5, 5] = masks[0, 6, 6] = 1  # they touch at a corner: one component
    masks[1, 0, 700] = masks[1, 2, 700] = 1  # two, one at the upper rim
    masks[2, 255, 0] = 1  # a corner of the strip
    masks[2, 100, 1599] = 8
    put_masks(data, masks)
    found = eda.measure(data)["components"]
    assert found[0] == {"mean": 1.333, "one": 0.6667, "most": 2, "ends": 0.3333, "rims": 0.6667}
    assert found[1] is None
    assert found[3] == {"mean": 1.0, "one": 1.0, "most": 1, "ends": 1.0, "rims": 0.0}


def test_the_pass_agrees_with_scipy(data: Paths) -> None:
    rng = np.random.default_rng(0)
    blobs = ndimage.zoom(rng.random((12, 64, 400)), (1, 4, 4), order=0) > 0.6
    masks = np.where(blobs, 1 << rng.integers(4, size=(12, 1, 1)), 0).astype(np.uint8)
    put_masks(data, masks)
    present = toy.areas_of(masks) > 0
    seen = eda_pass.look(data.cache, present, 3)
    for row, k in np.argwhere(present):
        mask = masks[row] >> k & 1
        assert seen.n_components[row, k] == ndimage.label(mask, np.ones((3, 3)))[1]
    covered = [[mask.reshape(8, 32, 50, 32).any((1, 3)) for mask in masks >> k & 1] for k in range(4)]
    assert (seen.covers == np.sum(covered, axis=1)).all()


def test_statistics_agree_with_numpy(data: Paths) -> None:
    """A strip whose left half is black, a bare one and one without any steel."""
    rng = np.random.default_rng(1)
    images = np.load(data.cache / "test_images.npy")
    images[:] = rng.integers(30, 200, images.shape) // np.array([1, 2, 40])[:, None, None]
    images[0, :, :800] = 3
    np.save(data.cache / "test_images.npy", images)
    found = eda_pass.look(data.cache, np.zeros((12, 4), bool), 3).statistics[12:]
    assert found.shape == (3, len(eda_pass.STATISTICS))
    assert found[:, 0].tolist() == [0.5, 0.0, 1.0]
    for values, image in zip(found, (images[0, :, 800:], images[1], images[2]), strict=True):
        quantiles = np.quantile(image, eda_pass.QUANTILES, method="inverted_cdf")
        changes = [np.abs(np.diff(image.astype(int), axis=axis)).mean() for axis in (1, 0)]
        spreads = [image.mean(axis).std() for axis in (0, 1)]
        expected = [image.mean(), image.std(), *quantiles, *changes, *spreads]
        assert values[1:12] == pytest.approx(expected, rel=1e-4)
    assert found[0, 12:] == pytest.approx(images[0].reshape(256, 8, 200).mean((0, 2)), rel=1e-5)


def test_more_processes_change_nothing(data: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    present = open_strips(data.cache, "train").areas > 0
    alone = eda_pass.look(data.cache, present, 3)
    monkeypatch.setattr(eda_pass, "CHUNK", 5)
    monkeypatch.setattr(eda_pass, "N_SERIAL", 0)
    monkeypatch.setattr(eda_pass, "cores", lambda: 2)
    shared = eda_pass.look(data.cache, present, 3)
    for name, values in vars(alone).items():
        assert np.array_equal(values, getattr(shared, name)), name


def test_levels(data: Paths) -> None:
    for part, n in (("train", 12), ("test", 3)):
        images = np.full((n, 256, 1600), 60 if part == "test" else 100, np.uint8)
        images[:, ::2] += 20  # half of the rows: a standard deviation of 10
        images[0, :, :400] = 0
        np.save(data.cache / f"{part}_images.npy", images)
    levels = eda.measure(data)["levels"]
    test, clean, defect = (levels["kinds"][kind] for kind in ("test", "train, clean", "train, defect"))
    assert [one["n"] for one in (test, clean, defect)] == [3, 5, 7]
    assert [one["median_mean"] for one in (test, clean, defect)] == [70, 110, 110]
    assert [test["median_std"], test["has_black"], test["black"]] == [10, 0.3333, 0.0833]
    assert clean["has_black"] == 0
    for one, level in ((test, 70), (clean, 110)):
        (place,) = np.flatnonzero(one["mean"])
        assert levels["mean_edges"][place] <= level < levels["mean_edges"][place + 1]
        assert sum(one["std"]) == one["n"]


def test_duplicates(data: Paths, numbers: dict[str, Any]) -> None:
    assert numbers["duplicates"]["n_groups"] == 0
    group = list(IDS)
    group[1] = IDS[0]  # class 1 and class 2
    group[5] = group[6] = IDS[2]  # class 3 elsewhere
    group[8] = IDS[7]  # both clean
    write_folds(data.folds, IDS, np.array([0, 0, 1, *[2] * 2, 1, 1, *[0] * 5]), group)
    expected = {"n_groups": 3, "n_strips": 7, "largest": 3, "n_other_classes": 1, "n_other_masks": 1}
    assert eda.measure(data)["duplicates"] == expected
    data.folds.unlink()
    assert eda.measure(data)["duplicates"] is None


def test_the_same_file_in_train_and_test_is_told(data: Paths, numbers: dict[str, Any]) -> None:
    assert numbers["n_test_in_train"] == 3  # the toy's digests are all dashes
    index = open_strips(data.cache, "test").index.assign(sha256=["a", "b", "-"])
    index.to_csv(data.cache / "test.csv", index=False)
    assert eda.measure(data)["n_test_in_train"] == 1


def test_auc() -> None:
    assert eda.auc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))[0] == 0.875  # three of four pairs won, one tied
    rng = np.random.default_rng(0)
    found = []
    for _ in range(150):
        above, below = rng.normal(0.7, 1, 60).round(1), rng.normal(0, 1, 90).round(1)
        value, error = eda.auc(above, below)
        truth = np.repeat([1, 0], [60, 90])
        assert value == pytest.approx(roc_auc_score(truth, np.concatenate([above, below])))
        found.append((value, error))
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)  # the error tells how the value scatters


def test_train_against_test() -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, len(eda_pass.STATISTICS))) for n in (200, 100))
    found = eda.alike(train, test)
    assert abs(found["auc"] - 0.5) < 3 * found["error"]
    test[:, 1] -= 2  # darker
    found = eda.alike(train, test)
    assert found["auc"] > 0.8
    assert found["auc"] == eda.alike(train, test)["auc"]
    first = found["telling"][0]
    assert first["statistic"] == "mean level"
    assert first["auc"] == pytest.approx(0.079, abs=0.03)  # P(N(-2, 1) > N(0, 1)) = Phi(-2 / sqrt 2)
    assert first["train"] - first["test"] == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(("n_train", "n_test"), [(49, 60), (60, 49), (60, 0)])
def test_too_few_strips_are_not_judged(n_train: int, n_test: int) -> None:
    values = np.random.default_rng(0).random((n_train + n_test, len(eda_pass.STATISTICS)))
    assert eda.alike(values[:n_train], values[n_train:]) == {"auc": None, "error": None, "telling": []}


def test_without_test_strips(data: Paths) -> None:
    for name in ("test.csv", "test_images.npy"):
        (data.cache / name).unlink()
    numbers = eda.measure(data)
    assert (numbers["n_test"], numbers["n_test_in_train"], numbers["train_test"]["auc"]) == (0, 0, None)
    assert list(numbers["levels"]["kinds"]) == ["train, defect", "train, clean"]


def test_examples(data: Paths) -> None:
    pictures = eda.examples(data)
    kinds = [picture.caption.split(":")[0] for picture in pictures]
    assert kinds == ["class 1"] * 2 + ["class 2"] + ["class 3"] * 2 + ["class 4"] + ["clean"] * 2
    assert pictures[2].caption == f"class 2: {IDS[1]} (class 2: 8000 px)"
    assert pictures[2].alt == f"Grey strip {IDS[1]}, outlined: class 2: 8000 px"
    for picture in pictures:
        assert picture.pixels.shape == (128, 800, 3) and picture.pixels.dtype == np.uint8
        outlined = {c for c, rgb in enumerate(COLOURS, 1) if (picture.pixels == rgb[::-1]).all(2).any()}
        assert outlined == {c for c in range(1, 5) if f"class {c}: 8000 px" in picture.caption}
    y, x = np.nonzero((pictures[2].pixels == COLOURS[1][::-1]).all(2))
    assert (y.min(), y.max()) == (30, 79)  # rows 60 to 159, halved
    assert (x.min(), x.max()) == (500, 539)


def test_examples_are_of_typical_area(data: Paths) -> None:
    masks = np.zeros((12, 256, 1600), np.uint8)
    for row, width in enumerate((10, 900, 30, 32, 40)):
        masks[row, :100, :width] = 1
    put_masks(data, masks)
    assert [p.caption.split()[2] for p in eda.examples(data)[:2]] == [IDS[3], IDS[2]]  # median 32 px wide


def test_stage(data: Paths, numbers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> str:
        eda_run.ensure(data)
        return capsys.readouterr().out

    assert "eda: new" in run()
    folder = data.data / "eda"
    assert files.read_json(folder / "eda.json") == numbers
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {
        "counts",
        "together",
        "areas",
        "levels-mean",
        "levels-std",
        *(f"positions-{c}" for c in range(1, 5)),
    }
    assert run() == "eda: up to date\n"
    write_folds(data.folds, IDS, np.arange(12) % 2, IDS)
    assert "eda: stale (input changed: folds)" in run()
