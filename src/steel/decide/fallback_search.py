"""Which views and models a kernel short of time misses least, told by held-out strips; and rules tuned without them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from steel import files, specs, stage
from steel.decide import run as rules
from steel.decide.decision import Decision
from steel.decide.fallback import Fallback, save, scored, told
from steel.decide.families import PLAIN
from steel.decide.grid import Grid, default_grid
from steel.decide.held_out import build_tables
from steel.decide.rules import Rules
from steel.decide.search import apply_rotated, lofo, search
from steel.decide.table import Table
from steel.metrics import score
from steel.paths import Paths
from steel.progress import say
from steel.stage import Spec, recorded

FILE = "fallbacks.json"


def fewer_views(paths: Paths) -> list[Paths]:
    """The run with half its views, a quarter, and so on down to the first alone."""
    n, found = len(paths.solution.predict.tta) // 2, []
    while n >= 1:
        found.append(paths.with_views(n))
        n //= 2
    return found


def ensure(paths: Paths, folds: Sequence[int], force: bool = False) -> None:
    """Predict the held-out strips with fewer views, and search the fallbacks, unless they stand."""
    from steel.infer.predict import make_oof  # which loads the nets' libraries

    stands = not force and stage.look(spec(paths, folds)).usable
    for fewer in [] if stands else fewer_views(paths):
        for name in paths.solution.models:
            for k in folds:
                stage.ensure(specs.of_oof(fewer, name, k), partial(make_oof, fewer, name, k), force)
    stage.ensure(spec(paths, folds), lambda: make(paths, folds), force)


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What the fallbacks are made from."""
    of_rules = rules.spec(paths, folds)
    inputs = {"decide": recorded(paths.decide)}
    for fewer in fewer_views(paths):
        pairs = [(name, k) for name in paths.solution.models for k in folds]
        inputs |= {f"{fewer.held_out} {name} fold {k}": recorded(fewer.oof(name, k)) for name, k in pairs}
    config = {"decide": asdict(paths.solution.decide), "tta": paths.solution.predict.tta, "folds": list(folds)}
    return Spec("fallbacks", paths.fallbacks, config, inputs, ("decide", "metrics"), of_rules.env)


def make(paths: Paths, folds: Sequence[int]) -> dict[Path, str]:
    """Search and write the fallbacks, from the best to the quickest: fewer views, fewer models, fewer nets of each.

    The votes are those that ship, whatever has chosen them. Of a model's nets a held-out strip knows one alone, that of
    its fold: with fewer the rules are the same, and there is no score.
    """
    table, _, decision = rules.load(paths.decide, paths.solution)
    fewer = fewer_views(paths)
    found = [Fallback(paths.solution.predict.tta, _alone(decision), _mean(decision.lofo, table))]
    for one in fewer:
        (table,) = build_tables(one, folds, [decision.blend]).tables
        found.append(_tuned(one, table, decision, frozenset()))
    least = [paths, *fewer][-1]
    for dropped, table in _drops(least, folds, decision):
        found.append(_tuned(least, table, decision, dropped))
    n = len(folds) // 2
    while n >= 1:
        found.append(replace(found[-1], mean=None, decision=replace(found[-1].decision, folds=decision.folds[:n])))
        n //= 2
    path = paths.fallbacks / FILE
    save(path, found[1:])
    for way in found:
        say(f"fallbacks: {told(way)}; {scored(way)}")
    return {path: files.sha256(path)}


def _drops(paths: Paths, folds: Sequence[int], decision: Decision) -> list[tuple[frozenset[str], Table]]:
    """Models that go, ever more of them, in the order of what each is missed alone; and the table without them.

    The last segmenter stays, and the last classifier: a gate spares the segmenters half of the strips.
    """
    models = [frozenset([name]) for name in paths.solution.models if _may_go(decision, frozenset([name]))]
    if not models:
        return []
    alone = _without(paths, folds, decision, models)
    kept = {gone: _mean(lofo(table, _grid(paths, table), (PLAIN,)), table) for gone, table in alone.items()}
    order: list[frozenset[str]] = []
    for gone in sorted(models, key=lambda one: kept[one], reverse=True):
        together = gone.union(*order[-1:])
        if _may_go(decision, together):
            order.append(together)
    found = alone | _without(paths, folds, decision, [gone for gone in order if gone not in alone])
    return [(gone, found[gone]) for gone in order]


def _without(
    paths: Paths, folds: Sequence[int], decision: Decision, dropped: Sequence[frozenset[str]]
) -> dict[frozenset[str], Table]:
    """The tables without some models, each by what is left."""
    if not dropped:
        return {}
    blends = [decision.blend.without(*_places(decision, gone)) for gone in dropped]
    return dict(zip(dropped, build_tables(paths, folds, blends).tables, strict=True))


def _may_go(decision: Decision, gone: frozenset[str]) -> bool:
    has_gate = not decision.gates or bool(set(decision.gates) - gone)
    return bool(set(decision.segmenters) - gone) and has_gate


def _places(decision: Decision, names: frozenset[str]) -> tuple[list[int], list[int]]:
    """Places of some models among the segmenters and among the gates."""
    of_both = (decision.segmenters, decision.gates)
    first, second = ([i for i, name in enumerate(of_one) if name in names] for of_one in of_both)
    return first, second


def _tuned(paths: Paths, table: Table, decision: Decision, dropped: frozenset[str]) -> Fallback:
    """The fallback without some models, with the views of `paths`."""
    grid = _grid(paths, table)
    left = frozenset([*decision.segmenters, *decision.gates]) - dropped
    alone = replace(
        _alone(decision),
        segmenters=[name for name in decision.segmenters if name in left],
        gates=[name for name in decision.gates if name in left],
        blend=decision.blend.without(*_places(decision, dropped)).of(*_places(decision, left)),
        tuned=search(table, grid),
    )
    return Fallback(paths.solution.predict.tta, alone, _mean(lofo(table, grid), table))


def _alone(decision: Decision) -> Decision:
    """What applies the decision, without what judges it."""
    return replace(decision, lofo={}, plain={}, blends={})


def _grid(paths: Paths, table: Table) -> Grid:
    config = paths.solution.decide
    return default_grid(table, config.n_area, config.n_gate)


def _mean(rotations: Mapping[int, Rules], table: Table) -> float:
    pred_px, overlap_px = apply_rotated(rotations, table)
    return score(pred_px, table.true_px, overlap_px).mean
