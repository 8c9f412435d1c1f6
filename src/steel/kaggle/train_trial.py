"""The dry run of a training kernel: a reduced training on a few strips, as Kaggle would run it and as it runs here.

The kernel is the one that goes up, with its wheels; the rest of its dataset is that of the reduced training. What it
leaves is taken over by the stages of here, in a folder of their own, and must be the weights that these have trained.
"""

import contextlib
import io
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from steel import files, specs, stage
from steel.competition import SLUG
from steel.config import DataConfig, ModelConfig, Solution
from steel.data import prepare, split
from steel.data.cache import AREAS
from steel.data.folds import read_folds, write_folds
from steel.data.images import list_images
from steel.data.labels import read_labels
from steel.errors import UserError
from steel.fit import train
from steel.fit.checkpoint import load_weights
from steel.kaggle import dryrun, parts, train_bundle, train_result
from steel.kaggle.image import TRAINING_IMAGE
from steel.kaggle.training import IMAGENET, Training
from steel.nets.build import build
from steel.paths import Paths
from steel.progress import say

N_DEFECT, N_CLEAN = 4, 2  # strips of each fold, at most
BATCH, SAMPLES = 2, 4  # of each phase, which lasts one epoch
LIMIT_S = 3600.0  # for what takes a minute or two


def run(training: Training, fold: int) -> None:
    """Run the kernel on a reduced training of one fold; record that it left what is trained here."""
    files.remove(training.folder / parts.DRY_RUN)
    bundle, machine = training.folder.absolute(), training.paths.solution.machine
    with tempfile.TemporaryDirectory(prefix="steel-kernel-") as name:
        root, home = Path(name), Path(name) / "home"
        n = _lay_out(root, home, training)
        say(f"kernel train: dry run of fold {fold} on {n} strips, {SAMPLES} crops of each phase")
        with contextlib.chdir(home):
            small = Training(Paths(reduced(training, root)), training.model, (fold,), training.owner)
            expected = _train_here(small)
            dataset = root / "input" / training.names[1].partition("/")[2]
            parts.write(dataset, train_bundle.dataset_of(small, [fold]))
        _link(bundle / "dataset/wheels", dataset / "wheels")
        variables = dryrun.environment(root, machine)
        usage = dryrun.execute(root, bundle / "kernel.py", variables, LIMIT_S, packages=TRAINING_IMAGE)
        with contextlib.chdir(home):
            is_equal = _take_over(small, root / "working", expected)
    usage.record(training.folder, weights="equal" if is_equal else "of the same shapes")
    weights = "the weights of a training here, byte by byte" if is_equal else "weights that fit the net"
    say(f"kernel train: the dry run has passed; {weights}, in {usage}")


def reduced(training: Training, root: Path) -> Solution:
    """The solution with the model's training cut short, on the strips of the dry run; imagenet weights are left out."""
    solution = train_bundle.shipped(training)
    data = DataConfig(solution.data.name, raw=str(root / "input" / SLUG))
    machine = replace(solution.machine, device=training.paths.solution.machine.device)
    return replace(solution, models={training.model: reduced_model(training.config)}, data=data, machine=machine)


def reduced_model(model: ModelConfig) -> ModelConfig:
    """A model with a few steps in each of its phases; fp16, which not every device here computes, becomes auto."""
    phases = [replace(one, epochs=1, batch=min(one.batch, BATCH), samples=SAMPLES) for one in model.phases]
    return replace(
        model,
        phases=phases,
        weights=None if model.weights == IMAGENET else model.weights,
        amp="auto" if model.amp == "fp16" else model.amp,
        average_epochs=min(model.average_epochs, len(phases)),
        best_epochs=min(model.best_epochs, 1),
    )


def _lay_out(root: Path, home: Path, training: Training) -> int:
    """Make Kaggle's folders with a few strips, and a working directory with their split; the number of strips."""
    paths, competition = training.paths, root / "input" / SLUG
    for folder in (root / "working", root / "tmp", competition / "train_images", competition / "test_images"):
        folder.mkdir(parents=True)
    for name in ("train.csv", "train_images", "test_images"):
        if not (paths.raw / name).exists():
            raise UserError(f"{paths.raw} lacks {name}: the dry run trains on some of its strips")
    strips, test_id = few_strips(paths), list_images(paths.raw / "test_images")[0]
    for part, image_ids in (("train_images", list(strips.image_id)), ("test_images", [test_id])):
        for image_id in image_ids:
            (competition / part / image_id).symlink_to((paths.raw / part / image_id).absolute())
    (competition / "sample_submission.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{test_id},1 1,1\n")
    labels = read_labels(paths.raw / "train.csv")
    rows = labels[labels.image_id.isin(strips.image_id)][["image_id", "class_id", "rle"]]
    rows.to_csv(competition / "train.csv", index=False, header=["ImageId", "ClassId", "EncodedPixels"])
    write_folds(home / paths.folds, strips.image_id, strips.fold, strips.group)
    if weights := train_bundle.weights_file(training.config):
        (home / weights).parent.mkdir(parents=True, exist_ok=True)
        (home / weights).symlink_to(weights.absolute())
    return len(strips)


def few_strips(paths: Paths) -> pd.DataFrame:
    """Some strips of each fold, with a defect and without: columns image_id, fold and group of the split."""
    index = pd.read_csv(paths.cache / "train.csv", dtype={"image_id": str})
    table = read_folds(paths.folds).merge(index, on="image_id").sort_values("image_id")
    has_defect = table[AREAS].any(axis=1)
    chosen = [table[has_defect].groupby("fold").head(N_DEFECT), table[~has_defect].groupby("fold").head(N_CLEAN)]
    return pd.concat(chosen)[["image_id", "fold", "group"]]


def _link(folder: Path, target: Path) -> None:
    """Links to the files of a folder; one to the folder itself would not be looked into."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).symlink_to(path)


def _train_here(small: Training) -> bytes:
    """Take the reduced training through the stages in the working directory; the bytes of its weights."""
    paths, (fold,) = small.paths, small.folds
    with contextlib.redirect_stdout(io.StringIO()):  # their lines would pass for those of the solution's own stages
        stage.ensure(prepare.spec(paths), partial(prepare.make, paths, 0))
        stage.ensure(split.spec(paths), partial(split.make, paths, False))
        spec = specs.of_training(paths, small.model, fold)
        stage.ensure(spec, partial(train.make, paths, small.model, fold))
    return (spec.folder / "weights.safetensors").read_bytes()


def _take_over(small: Training, output: Path, expected: bytes) -> bool:
    """Put what the kernel left in place of what was trained here; whether the weights have the same bytes."""
    paths, (fold,) = small.paths, small.folds
    spec = specs.of_training(paths, small.model, fold)
    files.remove(spec.folder)
    result = train_result.adopt(paths, small.model, output)
    state = stage.look(spec)
    if not state.usable:
        raise UserError(f"kernel train: fold {fold} is {state} after the dry run, the kernel: {result.ended}")
    weights = spec.folder / "weights.safetensors"
    load_weights(build(small.config, pretrained=False), weights)
    is_equal = weights.read_bytes() == expected
    if not is_equal and spec.env["device"].startswith("cpu"):  # a GPU adds in any order
        raise UserError(f"kernel train: the dry run gives other weights than a training here; it is {state}")
    return is_equal
