"""Make a committed split from a table of mask areas and a list of known duplicates, without the images.

    python scripts/make_severstal_folds.py TABLE DUPLICATES OUT [--n_folds 5] [--seed 0] [--force]

TABLE is a csv with the columns ImageId and area1_px..area4_px (0 = class absent), one row per training image;
DUPLICATES a csv with ImageId,DuplicateOf. OUT gets image_id,fold,group: no labels.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from steel.data.cache import AREAS
from steel.data.duplicates import group, read_known_pairs
from steel.data.folds import make_folds, read_folds, summary, write_folds
from steel.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the exit code is 0, or 2 after a user's mistake, told in one line."""
    options = _parse(arguments)
    try:
        make(options.table, options.duplicates, options.out, options.n_folds, options.seed, options.force)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def make(table: Path, duplicates: Path, out: Path, n_folds: int, seed: int, force: bool) -> None:
    """Write the split to `out` and print its balance; a different split that is already there stays, unless `force`."""
    index = _read_table(table)
    ids = index["image_id"].tolist()
    groups = group(ids, read_known_pairs(duplicates))
    fold = make_folds(index, groups, n_folds, seed)
    if out.exists() and not force:
        old = read_folds(out).itertuples(index=False, name=None)
        if set(old) != set(zip(ids, fold.tolist(), groups, strict=True)):
            raise UserError(f"{out} holds a different split; it is overwritten only with --force")
    write_folds(out, ids, fold, groups)
    print(summary(index, fold).round(4).to_string())


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as csv ({error})") from error
    missing = [name for name in ("ImageId", *AREAS) if name not in table]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; needed: ImageId, {', '.join(AREAS)}")
    twice = table.loc[table["ImageId"].duplicated(), "ImageId"]
    if len(twice):
        raise UserError(f"{path}: {twice.iloc[0]} is listed twice; each image is allowed once")
    return table.rename(columns={"ImageId": "image_id"})[["image_id", *AREAS]]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="csv: ImageId, area1_px..area4_px")
    parser.add_argument("duplicates", type=Path, help="csv: ImageId,DuplicateOf")
    parser.add_argument("out", type=Path, help="the split to write")
    parser.add_argument("--n_folds", type=int, default=5, help="2 or more (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="breaks ties (default: 0)")
    parser.add_argument("--force", action="store_true", help="overwrite a different split")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
