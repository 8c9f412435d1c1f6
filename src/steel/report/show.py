"""What `steel show` draws."""

import difflib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from steel import files, specs, stage
from steel.competition import N_CLASSES
from steel.data.cache import Strips, open_strips
from steel.decide import run
from steel.errors import UserError, shorten
from steel.paths import Paths
from steel.progress import say
from steel.report.augment_sheet import sheet
from steel.report.overlay import write_png
from steel.report.strip_sheet import as_text, strip_sheet
from steel.report.strips import View, decided, models_of, of_test, of_training

CROP_PX = 448


def augmentation(paths: Paths, recipe: str | Mapping[str, str], n: int, seed: int, out: Path) -> None:
    """Write a sheet of a recipe as PNG: a crop around a defect of each class and a clean one, each in `n` versions.

    `n` >= 1, `seed` >= 0; what is out of range, an unknown recipe or a missing cache is a UserError.
    """
    _check(paths, out)
    if seed < 0:
        raise UserError(f"--seed: {seed} is out of range; allowed: >= 0")
    strips = open_strips(paths.cache, "train")
    write_png(out, sheet(*_crops(strips, np.random.default_rng(seed)), recipe, n, seed))
    say(f"show: {out}: each row a crop as it is, then {n} versions of it under {recipe}")


def strip(paths: Paths, image_id: str, out: Path) -> None:
    """Write a PNG of one strip: truth, prediction, maps and numbers, which are printed too.

    A training strip is shown as the nets and rules see it that it was held out from; a test strip, of which
    `steel predict` has kept the maps, as it is submitted. An unknown name or what is not there yet is a UserError.
    """
    _check(paths, out)
    view = _find(paths, image_id)
    if old := _stale(paths, of_test_set=view.true is None):
        say(f"show: stale: {shorten(old)}; the picture is of what stands (`steel status CONFIG` says more)")
    write_png(out, strip_sheet(view))
    say(f"{as_text(view)}\nshow: {out}")


def _stale(paths: Paths, of_test_set: bool) -> list[str]:
    """Outputs that a picture rests on, and that would be made anew."""
    _, _, decision = decided(paths)
    names, folds = models_of(decision), decision.folds
    maps = [specs.of_test(paths, name, folds) for name in names]
    if not of_test_set:
        maps = [specs.of_oof(paths, name, fold) for name in names for fold in folds]
    return [one.name for one in (*maps, run.spec(paths, folds)) if stage.look(one).kind == "stale"]


def _find(paths: Paths, image_id: str) -> View:
    train, test = open_strips(paths.cache, "train"), open_strips(paths.cache, "test")
    for strips, view_of in ((train, of_training), (test, of_test)):
        if image_id in strips.image_ids:
            return view_of(paths, image_id)
    known = train.image_ids + test.image_ids
    near = difflib.get_close_matches(image_id, known, 1)
    hint = f"; is {near[0]} meant?" if near else f", such as {known[0]}" if known else ""
    raise UserError(f"show: no strip {image_id!r} in {paths.cache}; allowed: a training or test strip{hint}")


def _check(paths: Paths, out: Path) -> None:
    """Refuse to begin without the cache, or for another kind of file."""
    if not paths.cache.exists():
        raise UserError(f"show needs the cache {paths.cache}, which is missing: run `steel prepare CONFIG` first")
    if out.suffix != ".png":
        raise UserError(f"--out: {out} is not a PNG; allowed: a name that ends in .png")
    files.check_writable(out, "--out")


def _crops(strips: Strips, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A crop of each class, centred on a defect, then one of a clean strip; images and masks, (256, 448) uint8 each."""
    assert strips.masks is not None
    images, masks = [], []
    shows = [strips.areas[:, k] > 0 for k in range(N_CLASSES)] + [~strips.areas.any(1)]
    for k, found in enumerate(shows):
        if not found.any():
            continue
        row = int(rng.choice(np.flatnonzero(found)))
        bits = strips.masks[row]
        columns = np.flatnonzero((bits & (1 << k)).any(0)) if k < N_CLASSES else np.array([bits.shape[1] // 2])
        left = int(np.clip(np.median(columns) - CROP_PX // 2, 0, bits.shape[1] - CROP_PX))
        images.append(np.array(strips.images[row, :, left : left + CROP_PX]))
        masks.append(np.array(bits[:, left : left + CROP_PX]))
    return images, masks
