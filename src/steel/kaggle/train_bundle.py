"""What goes up to train a model on Kaggle's GPU: a kernel with the whole package in it, and the dataset that it reads.

A training that was stopped goes on from the checkpoint that was fetched: it travels in the dataset's next version, not
as the kernel's own earlier output. So it is known which bytes are continued, the dry run sees what Kaggle will see, and
a training may go on there that was begun here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import steel
from steel import __version__, files, specs
from steel.competition import SLUG
from steel.config import DataConfig, MachineConfig, ModelConfig, Solution, SplitConfig, digest
from steel.data.folds import read_folds
from steel.errors import UserError
from steel.fit.checkpoint import epochs_done
from steel.kaggle import parts, train_kernel
from steel.kaggle.image import TRAINING_IMAGE, TRAINING_SHIPPED, wheel
from steel.kaggle.layout import SOLUTION
from steel.kaggle.pack import needed_by
from steel.kaggle.train_kernel import FOLDS, JOB, Job
from steel.kaggle.training import IMAGENET, Training
from steel.nets.segmenters import title as net_title
from steel.stage import Spec, source_digest

CODE = ("kaggle/train_bundle", "kaggle/parts", "kaggle/image", "kaggle/pack", "kaggle/template")
# Kaggle ends a kernel after 12 hours and keeps nothing of it: an hour is left for an epoch longer than those before it.
LIMIT_S = 11 * 3600.0


def spec(training: Training, left: Sequence[int]) -> Spec:
    """What the bundle is made from, if these of the folds are left to train."""
    inputs = {"packed code": digest({name: files.sha256(path) for name, path in packed(training.config).items()})}
    inputs |= {name: files.sha256(path) for name, path in _copied(training, left).items()}
    plain = {"job": asdict(_job(training, left)), "solution": asdict(shipped(training))}
    config = {"owner": training.owner, "folds": list(training.folds), "image": TRAINING_IMAGE, **plain}
    env = {name: version(name) for name in TRAINING_SHIPPED}
    return Spec(f"kernel {training.title}", training.folder, config, inputs, CODE, env)


def make(training: Training, left: Sequence[int]) -> dict[Path, str]:
    """Write what differs from what is there, delete what is no part of it; digests of all files."""
    kernel, dataset = training.names
    text = parts.kernel_text(_header(training), dataset, train_kernel.__name__, packed(training.config))
    content: dict[str, bytes | Path] = {
        "kernel.py": text.encode(),
        parts.KERNEL: parts.as_json(parts.kernel_metadata(kernel, dataset, training.internet)),
        f"dataset/{parts.DATASET}": parts.as_json(parts.dataset_metadata(dataset)),
    }
    content |= {f"dataset/{name}": value for name, value in dataset_of(training, left).items()}
    for package in TRAINING_SHIPPED:
        file, data = wheel(package)
        content[f"dataset/wheels/{file}"] = data
    return parts.write(training.folder, content)


def dataset_of(training: Training, left: Sequence[int]) -> dict[str, bytes | Path]:
    """What the kernel reads beside wheels and the competition's files: bytes or a file by its name."""
    solution, job = asdict(shipped(training)), asdict(_job(training, left))
    return {SOLUTION: parts.as_json(solution), JOB: parts.as_json(job), **_copied(training, left)}


def packed(model: ModelConfig) -> dict[str, Path]:
    """The whole package, so that a training's record has the digest of the same code; and modules of a user's own."""
    root = Path(steel.__file__).parent
    whole = {f"{root.name}/{path.relative_to(root)}": path for path in root.rglob("*.py")}
    return dict(sorted((whole | needed_by(sorted(set(_own_modules(asdict(model)))))).items()))


def shipped(training: Training) -> Solution:
    """The solution as far as the training depends on it, without what is of this machine; the folds are the file's."""
    solution = training.paths.solution
    return Solution(
        solution.name,
        {training.model: training.config},
        DataConfig(solution.data.name),
        SplitConfig(n_folds=int(read_folds(training.paths.folds).fold.nunique())),
        machine=MachineConfig(threads=solution.machine.threads),
    )


def weights_file(model: ModelConfig) -> Path | None:
    """The file of pretrained weights, if the model has one.

    The record of a training holds its path: one that leads out of the working directory would be another there.
    """
    if model.weights in (None, IMAGENET):
        return None
    path = Path(str(model.weights))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"weights: {path} cannot be sent; allowed: a relative path, below the working directory")
    if not path.is_file():
        raise UserError(f"weights: {path} is no file; allowed: imagenet, a .safetensors or .pt file, or null")
    return path


def _job(training: Training, left: Sequence[int]) -> Job:
    return Job(training.model, list(left), LIMIT_S, train_kernel.prepared(training.paths))


def _copied(training: Training, left: Sequence[int]) -> dict[str, Path]:
    """Files that go up as they are, by their names in the dataset: the split, pretrained weights, checkpoints."""
    found = {FOLDS: training.paths.folds}
    if weights := weights_file(training.config):
        found[train_kernel.weights_name(weights)] = weights
    for fold in left:
        job = specs.of_training(training.paths, training.model, fold)
        assert job.partial is not None
        if epochs_done(job.partial, job.key):  # else of another configuration: it would not be continued
            found[train_kernel.checkpoint_name(fold)] = job.partial
    return found


def _own_modules(value: Any) -> Iterator[str]:
    """Modules that ``module:function`` names anywhere in a configuration."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _own_modules(item)
    elif isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value):
        yield value.partition(":")[0]


def _header(training: Training) -> str:
    """What a reader of the kernel wants to know first."""
    kernel, dataset = training.names
    model = training.config
    epochs = " + ".join(f"{phase.epochs} epochs at {phase.width} px" for phase in model.phases)
    rows = [
        ("Code", f"steel {__version__}, source {source_digest(('.',))}"),
        ("Model", f"{training.model}: {model.kind}, {net_title(model)}, weights {model.weights or 'random'}"),
        ("Training", f"{epochs}; at most {LIMIT_S / 3600:g} hours at a time"),
        ("Folds", ", ".join(map(str, training.folds))),
        ("Leaves", f"runs/{training.paths.solution.name}/{training.model}/foldK/, {train_kernel.RESULT}"),
        ("Attach", f"competition {SLUG}, dataset {dataset}"),
        ("Machine", f"GPU T4, internet {'on, for the weights' if training.internet else 'off'}"),
    ]
    first = f"Kaggle kernel {kernel}, made by `steel kernel train`: do not edit, make it anew."
    return "\n".join([first, "", *(f"{key:<13}{value}" for key, value in rows), ""])
