"""Stage `folds`: use the split that stands in folds/, or make one; never overwrite another one unasked."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from steel import files
from steel.data import duplicates
from steel.data.cache import Strips, open_strips
from steel.data.folds import draw_groups, fold_of, make_folds, read_folds, summary, write_folds
from steel.errors import UserError, shorten
from steel.paths import Paths
from steel.progress import say
from steel.stage import RECORD, Spec, recorded

CODE = ("data/split", "data/folds", "data/duplicates")


def spec(paths: Paths) -> Spec:
    """What the split is made from: the images, their areas, the wanted number of folds, the file that stands."""
    split = paths.solution.split
    config = asdict(split)
    inputs = {"cache": recorded(paths.cache, "train.csv", "train_images.npy")}
    if split.known_duplicates and Path(split.known_duplicates).is_file():
        inputs["known duplicates"] = files.sha256(Path(split.known_duplicates))
    return Spec("folds", paths.folds_record, config, inputs, CODE)


def make(paths: Paths, force: bool) -> dict[Path, str]:
    """Check and keep the split that stands, or write one; its digest."""
    strips = open_strips(paths.cache, "train")
    if paths.folds.exists() and not force:
        _check_standing(paths, strips)
        say(f"folds: uses {paths.folds} as it stands")
    else:
        _write_new(paths, strips)
        say(f"folds: wrote {paths.folds}")
    say(summary(strips.index, fold_of(paths.folds, strips.image_ids)).to_string())
    return {paths.folds: files.sha256(paths.folds)}


def _check_standing(paths: Paths, strips: Strips) -> None:
    """Refuse the split that stands unless it is one of these images, made as wanted."""
    table = read_folds(paths.folds)
    have, want = set(table.image_id), set(strips.image_ids)
    advice = "`steel folds CONFIG --force` overwrites it; another data.name keeps both"
    if have != want:
        faults = [f"lacks {shorten(sorted(want - have))}"] if want - have else []
        faults += [f"names {shorten(sorted(have - want))}, not in the data"] if have - want else []
        raise UserError(f"{paths.folds} is a split of other images: it {' and '.join(faults)}; {advice}")
    split, n_folds = paths.solution.split, table.fold.nunique()
    if split.holdout and n_folds != 2:
        raise UserError(f"{paths.folds} has {n_folds} folds, split.holdout {split.holdout} makes two; {advice}")
    share, largest = (table.fold == 0).mean(), table.group.value_counts().max() / len(table)
    if split.holdout and not split.holdout - largest <= share <= split.holdout + largest:
        raise UserError(
            f"{paths.folds} holds out {share:.3f} of the strips, not split.holdout {split.holdout}; {advice}"
        )
    if not split.holdout and n_folds != split.n_folds:
        raise UserError(f"{paths.folds} has {n_folds} folds, split.n_folds is {split.n_folds}; {advice}")
    record = paths.folds_record / RECORD
    made_with = files.read_json(record)["config"] if record.exists() else {}
    for key, value in spec(paths).config.items():
        if made_with.get(key, value) != value:
            raise UserError(f"{paths.folds} was made with {key} {made_with[key]}, split.{key} is {value}; {advice}")


def _write_new(paths: Paths, strips: Strips) -> None:
    """Find duplicates, split, write."""
    split, image_ids = paths.solution.split, strips.image_ids
    pairs = [(image_ids[a], image_ids[b]) for a, b in duplicates.find_pairs(strips.images)]
    if split.known_duplicates:
        pairs += duplicates.read_known_pairs(Path(split.known_duplicates))
    group = duplicates.group(image_ids, pairs)
    say(f"folds: {len(image_ids) - len(set(group))} strips repeat another one and stay with it")
    if split.holdout:
        fold = np.where(draw_groups(group, split.holdout, split.seed), 0, 1)
    else:
        fold = make_folds(strips.index, group, split.n_folds, split.seed)
    write_folds(paths.folds, image_ids, fold, group)
