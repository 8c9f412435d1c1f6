"""Stage `report`: the cross-validation in numbers (cv.json, strips.csv), in words (cv.md), in pictures, as a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from steel import files
from steel.data.folds import group_of
from steel.decide import family_gains, run
from steel.decide.decision import Decision
from steel.decide.model_scores import Models
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.metrics import dice
from steel.paths import Paths
from steel.report import change, cv, sheets, strip_table
from steel.report.change import Change
from steel.report.eda import run as eda
from steel.report.limits import Limits, limits
from steel.report.outcomes import Outcome, best_known, judge
from steel.report.overlay import write_png
from steel.report.section import Section
from steel.report.strips import HeldOut, fold_word
from steel.stage import Spec, recorded

CODE = ("report", "decide", "metrics", "study_metrics", "competition", "infer/store", "data/cache", "data/folds")
NUMBERS, WORDS, CHANGES, PAGE = change.NUMBERS, "cv.md", "changes.json", "index.html"
PACKAGES = ("altair", "vl-convert-python", "opencv-python-headless")  # those that have a say in the page


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What the report is made from."""
    inputs = {**run.spec(paths, folds).inputs, "decide": recorded(paths.decide)}  # stores and masks are read again
    inputs["eda"] = recorded(paths.eda)
    return Spec(
        "report", paths.report, {"folds": list(folds)}, inputs, CODE, {name: version(name) for name in PACKAGES}
    )


def make(paths: Paths) -> dict[Path, str]:
    """Write numbers, words, pictures and page; their digests."""
    table, ships, decision = run.load(paths.decide, paths.solution)
    outcomes = judge(table, decision, ships)
    outcome = outcomes[best_known(outcomes)]
    group = group_of(paths.folds, table.image_ids.tolist())
    change.keep(paths.report, recorded(paths.decide))
    strips = strip_table.of_outcome(table, outcome)
    changes = _changes(paths, strips, group)
    models = Models.load(paths.decide)
    limited = limits(table, decision, best_known(outcomes))
    numbers = {
        **cv.as_json(paths, table, decision, outcomes, group),
        "decided": recorded(paths.decide),
        "limits": limited.as_dict(),
        "models": [row.as_dict() for row in models.rows],
        "left_out": models.left_out,
        "correlations": models.correlations,
        "families": family_gains.load(paths.decide),
        "votes": files.read_json(paths.decide / run.VOTES) if (paths.decide / run.VOTES).exists() else None,
    }
    written = draw_all(paths, numbers, limited, changes, table, decision, outcome)
    files.write_json(paths.report / CHANGES, [one.as_dict() for one in changes])
    files.write_json(paths.report / NUMBERS, numbers)  # before the strips, see `change.keep`
    strip_table.save(strips, paths.report / strip_table.FILE)
    with files.atomic(paths.report / WORDS) as temporary:
        temporary.write_text(cv.as_markdown(paths.solution.name, numbers, decision, models.rows, limited))
    written += [paths.report / name for name in (NUMBERS, WORDS, CHANGES, strip_table.FILE)]
    files.keep_only(paths.report, "*.png", written)
    return {path: files.sha256(path) for path in written}


def draw_all(
    paths: Paths,
    numbers: dict[str, Any],
    limited: Limits,
    changes: Sequence[Change],
    table: Table,
    decision: Decision,
    outcome: Outcome,
) -> list[Path]:
    """Write page, charts and sheets of strips."""
    from steel.report import overview, page  # Altair takes a second to import
    from steel.report.charts import draw

    made = overview.page(numbers, limited, changes, sections(paths, numbers, table, decision, outcome))
    written = [page.write(paths.report / PAGE, made, _gallery(paths, table, decision, outcome))]
    written += [draw.write_png(one, paths.report) for one in made.figures]
    return written + _sheets(paths, table, decision, outcome)


def sections(
    paths: Paths, numbers: dict[str, Any], table: Table, decision: Decision, outcome: Outcome
) -> list[Section]:
    """The sections of the page, but for the gallery."""
    from steel.report.charts import confusion, curves, decisions, folds, models

    names = dict.fromkeys([*decision.segmenters, *decision.gates])
    logs = {(name, fold): _log(paths.fold(name, fold)) for name in names for fold in decision.folds}
    return [
        folds.section(numbers, folds.read_split(paths)),
        decisions.section(Surfaces.load(paths.decide / run.SURFACES), table, decision, outcome, numbers["families"]),
        models.section(numbers["models"], numbers["votes"], numbers),
        curves.section(logs),
        confusion.section(table, outcome),
        eda.section(paths, short=True),
    ]


def _changes(paths: Paths, strips: Any, group: Sequence[str]) -> list[Change]:
    previous = change.since_previous(paths.report, strips, group)
    other = paths.solution.report.against
    return [
        *([previous] if previous else []),
        *([change.since_other(Path(other), paths.run, strips, group)] if other else []),
    ]


def _gallery(paths: Paths, table: Table, decision: Decision, outcome: Outcome) -> str:
    from steel.report.gallery import cards, choose

    held_out = HeldOut(paths, decision)

    def grants(row: int, k: int) -> float:
        view = held_out.of_row(table, row)
        assert view.true is not None
        return choose.granted(view.prob[k], view.true[k])

    chosen = cards.pictures(paths, table, decision, choose.choose(table, outcome, grants))
    return cards.fragment(chosen, fold_word(decision))


def _sheets(paths: Paths, table: Table, decision: Decision, outcome: Outcome) -> list[Path]:
    """Pictures of the worst and the best strips."""
    positive = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    positive[table.true_px == 0] = np.nan
    written = []
    for name, sign in (("worst", 1), ("best", -1)):
        if rows := sheets.extremes(sign * positive):
            path = paths.report / f"{name}.png"
            write_png(path, sheets.gallery(paths, table, decision, rows, positive))
            written.append(path)
    return written


def _log(folder: Path) -> list[dict[str, Any]]:
    """A training's epochs."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
