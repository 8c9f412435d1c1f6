"""What trainings and predictions are made from: known without the nets, whose libraries take seconds to import."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from steel import files
from steel.device import describe, describe_training, for_training
from steel.paths import Paths
from steel.stage import Spec, recorded

TRAIN_PARTS = ("train.csv", "train_images.npy", "train_masks.npy")
TRAIN_CODE = (
    "fit",
    "overlap",
    "nets",
    "data/augment",
    "data/balance",
    "data/cache",
    "data/dataset",
    "data/folds",
    "data/mix",
    "data/on_device",
    "data/paste",
    "metrics",
    "competition",
    "device",
    "tables",
)
TRAIN_PACKAGES = ("segmentation-models-pytorch", "timm", "albumentations", "numpy")
PREDICT_CODE = ("infer", "overlap", "nets", "data/cache", "competition", "device")
PREDICT_PACKAGES = ("segmentation-models-pytorch", "timm", "numpy")


def of_training(paths: Paths, name: str, fold: int) -> Spec:
    """What the weights of a model on a fold are made from."""
    folder = paths.fold(name, fold)
    inputs = {"cache": recorded(paths.cache, *TRAIN_PARTS), "folds": recorded(paths.folds_record)}
    weights = Path(paths.solution.models[name].weights or "imagenet")
    if weights.is_file():
        inputs["pretrained weights"] = files.sha256(weights)
    return Spec(
        f"train {name} fold {fold}",
        folder,
        {"model": asdict(paths.solution.models[name]), "fold": fold},
        inputs,
        TRAIN_CODE,
        describe_training(for_training(paths.solution), *TRAIN_PACKAGES),
        keep=True,
        partial=folder / "last.pt",
        made_by=folder / "env.json",
    )


def of_oof(paths: Paths, name: str, fold: int) -> Spec:
    """What the held-out probabilities of a model on a fold are made from."""
    inputs = {
        "weights": recorded(paths.fold(name, fold)),
        "cache": recorded(paths.cache, "train.csv", "train_images.npy"),
    }
    return _of_prediction(f"{paths.held_out} {name} fold {fold}", paths, name, inputs, paths.oof(name, fold))


def of_test(paths: Paths, name: str, folds: Sequence[int]) -> Spec:
    """What the test probabilities of a model are made from."""
    inputs = {f"weights fold {fold}": recorded(paths.fold(name, fold)) for fold in folds}
    inputs["cache"] = recorded(paths.cache, "test.csv", "test_images.npy")
    return _of_prediction(f"predict {name}", paths, name, inputs, paths.test(name))


def _of_prediction(title: str, paths: Paths, name: str, inputs: dict[str, str], folder: Path) -> Spec:
    config = {"predict": asdict(paths.solution.predict), "amp": paths.solution.models[name].amp}
    env = describe(paths.solution.machine, *PREDICT_PACKAGES)
    return Spec(title, folder, config, inputs, PREDICT_CODE, env, keep_env=True)
