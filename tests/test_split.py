"""A split that stands is used or refused, never overwritten unasked; a new one keeps copies together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy

from steel import stage
from steel.config import DataConfig, Solution, SplitConfig
from steel.data import split
from steel.data.folds import read_folds, write_folds
from steel.errors import UserError
from steel.paths import Paths

IDS = [f"{row:09x}.jpg" for row in range(toy.N_TRAIN)]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The toy data set with its split of three folds, as the working directory."""
    toy.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return with_split(SplitConfig(n_folds=3))


def with_split(config: SplitConfig) -> Paths:
    return Paths(Solution("toy", {}, DataConfig("toy"), config))


def ensure(paths: Paths, force: bool = False) -> None:
    stage.ensure(split.spec(paths), lambda: split.make(paths, force), force)


def message(paths: Paths) -> str:
    before = paths.folds.read_bytes()
    with pytest.raises(UserError) as error:
        ensure(paths)
    assert paths.folds.read_bytes() == before
    return str(error.value)


def test_the_split_that_stands_is_used(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    before = paths.folds.read_bytes()
    ensure(paths)
    assert paths.folds.read_bytes() == before
    text = capsys.readouterr().out
    assert "folds: uses folds/toy.csv as it stands\n" in text
    assert text.splitlines()[-2].split()[:7] == ["all", "12", "2", "1", "4", "1", "5"]  # strips, classes, clean


def test_another_split_is_refused(paths: Paths) -> None:
    advice = "`steel folds CONFIG --force` overwrites it; another data.name keeps both"
    four = with_split(SplitConfig(n_folds=4))
    assert message(four) == f"folds/toy.csv has 3 folds, split.n_folds is 4; {advice}"
    paths.folds.write_text(paths.folds.read_text().replace(IDS[5], "new.jpg"))
    fault = f"it lacks {IDS[5]} and names new.jpg, not in the data"
    assert message(paths) == f"folds/toy.csv is a split of other images: {fault}; {advice}"
    ensure(four, force=True)
    assert read_folds(four.folds).fold.nunique() == 4
    assert sorted(read_folds(four.folds).image_id) == IDS


def test_a_split_made_with_another_seed_is_refused(paths: Paths) -> None:
    paths.folds.unlink()
    ensure(paths)
    assert "was made with seed 0, split.seed is 1" in message(with_split(SplitConfig(n_folds=3, seed=1)))


def test_a_random_part_is_held_out(paths: Paths) -> None:
    quarter = with_split(SplitConfig(n_folds=3, holdout=0.25))
    assert "folds/toy.csv has 3 folds, split.holdout 0.25 makes two;" in message(quarter)
    ensure(quarter, force=True)
    table = read_folds(quarter.folds)
    assert table.fold.value_counts().to_dict() == {1: 9, 0: 3}
    assert sorted(table.image_id) == IDS
    ensure(quarter)
    assert "holds out 0.250 of the strips, not split.holdout 0.5;" in message(
        with_split(SplitConfig(n_folds=3, holdout=0.5))
    )
    assert "folds/toy.csv has 2 folds, split.n_folds is 3" in message(paths)


def test_another_share_than_the_one_held_out_is_refused(paths: Paths) -> None:
    """Also where the file came without a record."""
    write_folds(paths.folds, IDS, np.arange(toy.N_TRAIN) % 2, IDS)
    assert "holds out 0.500 of the strips, not split.holdout 0.15" in message(with_split(SplitConfig(holdout=0.15)))


def test_a_new_split_holds_every_strip_and_keeps_copies_together(paths: Paths) -> None:
    images = np.load(paths.cache / "train_images.npy")
    images[9] = images[2] // 2 + 20  # a darker copy
    np.save(paths.cache / "train_images.npy", images)
    Path("known.csv").write_text(f"ImageId,DuplicateOf\n{IDS[0]},{IDS[7]}\n{IDS[7]},{IDS[11]}\n")
    ensure(with_split(SplitConfig(n_folds=3, known_duplicates="known.csv")), force=True)
    table = read_folds(paths.folds)
    assert list(table.columns) == ["image_id", "fold", "group"]
    assert sorted(table.image_id) == IDS
    groups = {frozenset(part.image_id) for _, part in table.groupby("group") if len(part) > 1}
    assert groups == {frozenset((IDS[2], IDS[9])), frozenset((IDS[0], IDS[7], IDS[11]))}
    assert (table.groupby("group").fold.nunique() == 1).all()
    assert sorted(table.fold.unique()) == [0, 1, 2]


def test_known_duplicates_must_be_there(paths: Paths) -> None:
    paths.folds.unlink()
    with pytest.raises(UserError, match=r"^nowhere\.csv: cannot be read as csv \(.*No such file"):
        ensure(with_split(SplitConfig(n_folds=3, known_duplicates="nowhere.csv")))
    assert not paths.folds.exists()


def test_an_edited_split_is_noticed_and_judged_anew(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    ensure(paths)
    before = stage.recorded(paths.folds_record)
    table = pd.read_csv(paths.folds)
    table.loc[[0, 1], "fold"] = table.loc[[1, 0], "fold"].to_numpy()  # two strips change places: the size is the same
    table.to_csv(paths.folds, index=False)
    assert str(stage.look(split.spec(paths))) == f"stale ({paths.folds} is gone or was changed)"
    ensure(paths)
    assert "uses folds/toy.csv as it stands" in capsys.readouterr().out
    assert stage.recorded(paths.folds_record) != before  # what was trained on the old one is stale now
    paths.folds.write_text(paths.folds.read_text().replace(",2,", ",7,"))
    assert message(paths) == "folds/toy.csv: no image is in fold 2, but the folds go up to 7"


def test_the_committed_split_serves_the_real_data(severstal: Path) -> None:
    table = read_folds(Path(__file__).parents[1] / "folds/severstal.csv")
    known = pd.read_csv(severstal / "labels/classes_12568.csv")
    assert sorted(table.image_id) == sorted(known.ImageId)
    assert table.fold.nunique() == SplitConfig().n_folds
