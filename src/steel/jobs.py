"""The jobs of `train`, `oof` and `predict`, an output each: what each needs, and how this program runs them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from steel.errors import UserError
from steel.paths import Paths
from steel.progress import say
from steel.stage import PATIENCE_S, Spec, ensure, need
from steel.workers import each


@dataclass(frozen=True)
class Job:
    """One output of a stage, of one model.

    Attributes:
        stage: what is done.
        model: name of the model.
        folds: the one fold of `train` and `oof`; those whose mean `predict` takes.
    """

    stage: Literal["train", "oof", "predict"]
    model: str
    folds: tuple[int, ...]

    def spec(self, paths: Paths) -> Spec:
        """The output, and all it depends on."""
        from steel import specs

        if self.stage == "predict":
            return specs.of_test(paths, self.model, self.folds)
        return (specs.of_training if self.stage == "train" else specs.of_oof)(paths, self.model, self.folds[0])

    def inputs(self, paths: Paths) -> list[Path]:
        """Files and folders that it reads, as far as they lie in the working directory."""
        weights = Path(paths.solution.models[self.model].weights or "")
        given = [weights] if weights.suffix and not weights.is_absolute() else []
        upstream = [] if self.stage == "train" else [paths.fold(self.model, fold) for fold in self.folds]
        return [paths.cache, paths.folds_record, paths.folds, *given, *upstream]

    def check(self, paths: Paths) -> None:
        """Refuse to go on unless the weights stand that it reads."""
        from steel import specs

        for fold in self.folds if self.stage != "train" else ():
            need(specs.of_training(paths, self.model, fold), self.stage)

    def run(self, paths: Paths, force: bool, patience_s: float = PATIENCE_S) -> None:
        """Make the output unless it stands; who holds its lock is waited for, s."""
        self.check(paths)
        ensure(self.spec(paths), partial(MAKERS[self.stage], paths, self.model, self.folds), force, patience_s)


def run_here(jobs: Sequence[Job], paths: Paths, force: bool) -> None:
    """Run jobs by this program: trainings as many at once as the device bears, the rest in turn."""
    if jobs[0].stage != "train":
        for job in jobs:
            job.run(paths, force)
        return
    from steel.device import for_training

    trainings = [(job, paths, force, len(jobs) > 1) for job in jobs]
    faults = each(_train, trainings, for_training(paths.solution).jobs or 1)
    if faults:
        others = f" ({len(faults)} of {len(jobs)} trainings failed, see above)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{others}")


def _train(job: Job, paths: Paths, force: bool, one_of_many: bool) -> None:
    try:
        job.run(paths, force)
    except UserError as error:
        if one_of_many:  # the others go on for long: it is told now, and again at the end
            say(f"{job.spec(paths).name}: failed: {error}")
        raise


def _make_weights(paths: Paths, model: str, folds: tuple[int, ...]) -> dict[Path, str]:
    from steel.fit import train as room

    return room.make(paths, model, folds[0])


def _make_oof(paths: Paths, model: str, folds: tuple[int, ...]) -> dict[Path, str]:
    from steel.infer import predict as room

    return room.make_oof(paths, model, folds[0])


def _make_test(paths: Paths, model: str, folds: tuple[int, ...]) -> dict[Path, str]:
    from steel.infer import predict as room

    return room.make_test(paths, model, folds)


# By stage.
MAKERS: dict[str, Callable[[Paths, str, tuple[int, ...]], dict[Path, str]]] = {
    "train": _make_weights,
    "oof": _make_oof,
    "predict": _make_test,
}
