"""Every artifact has one place, and no two share one."""

from dataclasses import replace
from pathlib import Path

from steel.config import DataConfig, ModelConfig, Solution
from steel.paths import Paths

SOLUTION = Solution("gold", {"unet": ModelConfig()}, DataConfig("steel"))
PATHS = Paths(SOLUTION)


def test_where_everything_lies() -> None:
    assert PATHS.raw == Path("data/steel/raw")
    assert PATHS.cache == Path("data/steel/cache")
    assert PATHS.folds == Path("folds/steel.csv")
    assert PATHS.fold("unet", 2) == Path("runs/gold/unet/fold2")
    assert PATHS.decide == Path("runs/gold/decide")
    assert PATHS.report == Path("runs/gold/report")
    assert PATHS.submission == Path("submissions/gold")
    assert PATHS.kernel == Path("kernels/gold")


def test_a_raw_folder_of_ones_own() -> None:
    assert Paths(replace(SOLUTION, data=DataConfig("steel", raw="../x y"))).raw == Path("../x y")
    assert Paths(replace(SOLUTION, data=DataConfig("steel", raw="../x y"))).cache == PATHS.cache


def test_no_two_stages_record_in_one_folder() -> None:
    folders = [PATHS.data, PATHS.cache, PATHS.folds_record, PATHS.fold("unet", 0), PATHS.fold("unet", 1)]
    folders += [PATHS.oof("unet", 0), PATHS.test("unet"), PATHS.decide, PATHS.report, PATHS.submission, PATHS.kernel]
    assert len(set(folders)) == len(folders)


def test_solutions_share_data_and_nothing_else() -> None:
    other = Paths(replace(SOLUTION, name="silver"))
    assert (other.cache, other.folds) == (PATHS.cache, PATHS.folds)
    assert not {other.run, other.submission} & {PATHS.run, PATHS.submission}
