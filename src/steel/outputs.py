"""All outputs of a solution, what each is made from, and how each stands if those above it do not."""

from collections.abc import Sequence
from pathlib import Path

from steel import specs, stage
from steel.data import prepare, split, synth_stage
from steel.decide import run as decide
from steel.kaggle import download, submit
from steel.paths import Paths
from steel.report import run as report
from steel.report.eda import run as eda
from steel.stage import Spec, State


def states(paths: Paths, models: Sequence[str], folds: Sequence[int]) -> list[tuple[str, State]]:
    """Name and state of every output, in the order of the stages.

    An output that stands, but is made from one that does not, is stale: it would be redone after that one, unless it
    should come out alike.
    """
    found: dict[Path, tuple[str, State]] = {}
    for spec, above in made_from(paths, models, folds):
        state = stage.look(spec)
        if state.usable:
            missing = [found[one.folder] for one in above if not found[one.folder][1].usable]
            if missing:
                state = State("stale", f"waits for '{missing[0][0]}', which is {missing[0][1].kind}")
        found[spec.folder] = (spec.name, state)
    return list(found.values())


def made_from(paths: Paths, models: Sequence[str], folds: Sequence[int]) -> list[tuple[Spec, list[Spec]]]:
    """Every output of some models and folds, each after those that it is made from, which stand beside it."""
    fetched = [download.spec(paths)] if download.concerns(paths) else []
    written = [synth_stage.spec(paths)] if paths.solution.data.synth else []
    cache, folds_made, looked_at = prepare.spec(paths), split.spec(paths), eda.spec(paths)
    pairs = [(name, fold) for name in models for fold in folds]
    trained = {pair: specs.of_training(paths, *pair) for pair in pairs}
    held_out = {pair: specs.of_oof(paths, *pair) for pair in pairs}
    tested = {name: specs.of_test(paths, name, folds) for name in models}
    decided, told = decide.spec(paths, folds), report.spec(paths, folds)
    return [
        *((spec, []) for spec in [*fetched, *written]),
        (cache, [*fetched, *written]),
        (folds_made, [cache]),
        (looked_at, [cache, folds_made]),
        *((spec, [cache, folds_made]) for spec in trained.values()),
        *((held_out[pair], [trained[pair], cache]) for pair in pairs),
        (decided, [*held_out.values(), cache, folds_made]),
        (told, [decided, looked_at]),
        *((tested[name], [cache, *(trained[name, fold] for fold in folds)]) for name in models),
        (submit.spec(paths, folds), [*tested.values(), decided, told]),
    ]
