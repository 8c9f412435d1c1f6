"""Which training a kernel does, and whose it is: known without what packs it, whose libraries load for seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steel.config import ModelConfig
from steel.errors import UserError
from steel.kaggle import parts
from steel.kaggle.owner import owner_name
from steel.paths import Paths

IMAGENET = "imagenet"


@dataclass(frozen=True)
class Training:
    """One kernel: it trains a model on some folds, and keeps its name until all of them are trained."""

    paths: Paths
    model: str
    folds: tuple[int, ...]
    owner: str

    @property
    def title(self) -> str:
        """SOLUTION-train-MODEL-fFOLDS, such as baseline-train-unet-f0-1."""
        return self.stem + "-".join(map(str, self.folds))

    @property
    def stem(self) -> str:
        """What the titles of its model's kernels begin with; the f tells folds 1, 2 from fold 2 of a model unet-1."""
        return f"{self.paths.solution.name}-train-{self.model}-f"

    @property
    def folder(self) -> Path:
        """Where its bundle lies."""
        return self.paths.kernel.with_name(self.title)

    @property
    def names(self) -> tuple[str, str]:
        """What Kaggle calls its kernel and its dataset, each "owner/slug"."""
        kernel, dataset = parts.slugs(self.title, "data")
        return f"{self.owner}/{kernel}", f"{self.owner}/{dataset}"

    @property
    def config(self) -> ModelConfig:
        """How the model is trained."""
        return self.paths.solution.models[self.model]

    @property
    def internet(self) -> bool:
        """Whether the kernel has it: only to download pretrained weights."""
        return self.config.weights == IMAGENET


def training_of(paths: Paths, model: str, folds: Sequence[int], owner: str | None) -> Training:
    """The training of a model of the solution on some folds, its owner asked for; a UserError for an unknown model."""
    if model not in paths.solution.models:
        raise UserError(f"--model: the solution has no model {model!r}; allowed: {', '.join(paths.solution.models)}")
    training = Training(paths, model, tuple(folds), "")
    return replace(training, owner=owner_name(owner, training.folder))
