"""The stages in order: what each needs, and what it runs. Heavy rooms are imported by the stages that use them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steel import stage
from steel.cli import Options
from steel.config import Solution
from steel.errors import UserError, meant
from steel.jobs import Job, run_here
from steel.paths import Paths
from steel.progress import say


@dataclass(frozen=True)
class Context:
    """One call of a stage."""

    solution: Solution
    options: Options

    @property
    def paths(self) -> Paths:
        """Where everything lies."""
        return Paths(self.solution)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that count."""
        return self.options.folds or self.solution.folds

    @property
    def models(self) -> list[str]:
        """The models that count."""
        return [self.options.model] if self.options.model else list(self.solution.models)

    @property
    def on_cluster(self) -> bool:
        """Whether a Ray cluster runs the jobs."""
        return self.solution.machine.executor == "ray"

    def execute(self, jobs: Sequence[Job]) -> None:
        """Run jobs of one stage, here or on a cluster."""
        if not self.on_cluster:
            run_here(jobs, self.paths, self.options.force)
            return
        from steel.cluster.jobs import run_there

        run_there(jobs, self.paths, self.options.force)


def download(c: Context) -> None:
    """Fetch the competition's files from Kaggle, once; a broken download continues."""
    from steel.kaggle import download as room

    room.run(c.paths, c.options.force)


def synth(c: Context) -> None:
    """Write a synthetic data set, if the solution asks for one."""
    from steel.data import synth_stage

    if c.solution.data.synth is None:
        say(f"synth: nothing to do, {c.solution.name} reads real data from {c.paths.raw}")
        return
    stage.ensure(synth_stage.spec(c.paths), lambda: synth_stage.make(c.paths), c.options.force)


def prepare(c: Context) -> None:
    """Check labels and images, build the memory-mapped cache."""
    from steel.data import prepare as room

    if c.solution.data.synth:
        from steel.data import synth_stage

        stage.need(synth_stage.spec(c.paths), "prepare")
    stage.ensure(room.spec(c.paths), lambda: room.make(c.paths, c.solution.machine.workers), c.options.force)


def folds(c: Context) -> None:
    """Split the training strips into stratified folds, duplicates together."""
    from steel.data import prepare as upstream
    from steel.data import split

    stage.need(upstream.spec(c.paths), "folds")
    stage.ensure(split.spec(c.paths), lambda: split.make(c.paths, c.options.force), c.options.force)


def eda(c: Context) -> None:
    """Look at the prepared data: counts, areas, positions, brightness, train against test."""
    from steel.data import prepare as upstream
    from steel.report.eda import run as room

    stage.need(upstream.spec(c.paths), "eda")
    room.ensure(c.paths, c.options.force)
    say(f"eda: {c.paths.eda / room.PAGE}")


def train(c: Context) -> None:
    """Train every model on every fold (--model, --fold: only one)."""
    from steel import specs
    from steel.data import prepare as cache
    from steel.data import split

    stage.need(cache.spec(c.paths), "train")
    stage.need(split.spec(c.paths), "train")
    for name in c.models if not c.on_cluster else []:  # its jobs fail alone, and this machine may lack their device
        if c.options.force or not all(stage.look(specs.of_training(c.paths, name, k)).usable for k in c.folds):
            from steel.fit import train as room

            room.check(c.paths, name)
    c.execute([Job("train", name, (k,)) for name in c.models for k in c.folds])


def oof(c: Context) -> None:
    """Predict every training strip by the models that did not see it."""
    c.execute([Job("oof", name, (k,)) for name in c.models for k in c.folds])


def decide(c: Context) -> None:
    """Tune the rules that turn probabilities into masks; score them leaving one fold out."""
    from steel import specs
    from steel.decide import run as room

    for name in c.solution.models:
        for k in c.folds:
            stage.need(specs.of_oof(c.paths, name, k), "decide")
    stage.ensure(room.spec(c.paths, c.folds), lambda: room.make(c.paths, c.folds), c.options.force)


def report(c: Context) -> None:
    """Write the cross-validation report: a page, its charts, numbers and words."""
    from steel.decide import run as upstream
    from steel.report import change
    from steel.report import run as report_run
    from steel.report.eda import run as data

    other = c.solution.report.against
    if other is not None:
        change.check_other(Path(other), c.paths.run)
    stage.need(upstream.spec(c.paths, c.folds), "report")
    data.ensure(c.paths)
    force = c.options.force or other is not None  # what it compares with is no input
    stage.ensure(report_run.spec(c.paths, c.folds), lambda: report_run.make(c.paths), force)
    say(f"report: {c.paths.report / report_run.PAGE}")


def predict(c: Context) -> None:
    """Predict the test strips, mean over folds and views (--images DIR: any strips)."""
    if c.options.images:
        _predict_images(c)
        return
    c.execute([Job("predict", name, c.folds) for name in c.models])


def _predict_images(c: Context) -> None:
    if c.on_cluster:
        from steel.cluster.connect import load_ray

        load_ray()
        from steel.cluster import stream

        stream.run(c.paths, c.options)
    else:
        from steel.kaggle import apply

        apply.run(c.paths, c.options)


def submit(c: Context) -> None:
    """Apply the rules to the test probabilities, write and check submission.csv."""
    from steel import specs
    from steel.decide import run as rules
    from steel.kaggle import submit as room
    from steel.report import run as report_run

    stage.need(rules.spec(c.paths, c.folds), "submit")
    stage.need(report_run.spec(c.paths, c.folds), "submit")
    for name in c.solution.models:
        stage.need(specs.of_test(c.paths, name, c.folds), "submit")
    stage.ensure(room.spec(c.paths, c.folds), lambda: room.make(c.paths, c.folds), c.options.force)
    say((c.paths.report / "cv.md").read_text())
    say(f"submission: {c.paths.submission / 'submission.csv'}\nreport: {c.paths.report / report_run.PAGE}")


def status(c: Context) -> None:
    """Show how every output stands: done, kept or stale (what changed), interrupted, running or missing."""
    from steel import outputs

    for name, state in outputs.states(c.paths, c.models, c.folds):
        say(f"{name:<28} {state}")
    if not (c.paths.kernel / stage.RECORD).exists():  # few get that far: nothing of Kaggle is loaded for the others
        say(f"{'kernel':<28} missing (`steel kernel bundle CONFIG` makes it)")
        return
    from steel.kaggle import standing

    for name, how in standing.lines(c.paths, c.folds):
        say(f"{name:<28} {how}")


STAGES: dict[str, Callable[[Context], None]] = {
    f.__name__: f for f in (download, synth, prepare, folds, eda, train, oof, decide, report, predict, submit, status)
}


def check_known(name: str) -> None:
    """Refuse a name that is no stage."""
    allowed = [*STAGES, "score", "show", "compare", "submission", "kernel"]
    if name not in STAGES:
        hint = " (`steel --help` says what each does)" if name == "help" else meant(name, allowed)
        raise UserError(f"unknown stage {name!r}{hint}; allowed: {', '.join(allowed)}")
