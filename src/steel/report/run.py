"""Stage `report`: the cross-validation in numbers (cv.json, strips.csv), in words (cv.md), in pictures, as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from steel import files
from steel.data.folds import group_of
from steel.decide import family_gains, run
from steel.decide.decision import Decision
from steel.decide.model_scores import ModelRow, Models
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.metrics import dice
from steel.paths import Paths
from steel.report import change, cv, sheets, strip_table
from steel.report import models as models_report
from steel.report import votes as votes_report
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


@dataclass(frozen=True)
class Found:
    """All that the report tells.

    Attributes:
        paths: of the run.
        table, decision: every strip under the votes that did not see it; votes and rules.
        outcome: what is shown under the rules that did not see it.
        numbers: of cv.json.
        limited, changes, models: what limits the score; what has changed, and since when; each model alone.
    """

    paths: Paths
    table: Table
    decision: Decision
    outcome: Outcome
    numbers: dict[str, Any]
    limited: Limits
    changes: Sequence[Change]
    models: Sequence[ModelRow]


def make(paths: Paths) -> dict[Path, str]:
    """Write numbers, words, pictures and page; their digests."""
    table, ships, decision = run.load(paths.decide, paths.solution)
    outcomes = judge(table, decision, ships)
    outcome = outcomes[best_known(outcomes)]
    group = group_of(paths.folds, table.image_ids.tolist())
    change.keep(paths.report, recorded(paths.decide))
    strips = strip_table.of_outcome(table, outcome)
    config = files.read_json(paths.decide / run.SOLUTION)
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
        change.CONFIG: config,
    }
    changes = _changes(paths, strips, group, config)
    found = Found(paths, table, decision, outcome, numbers, limited, changes, models.rows)
    written = draw_all(found)
    files.write_json(paths.report / CHANGES, [one.as_dict() for one in changes])
    files.write_json(paths.report / NUMBERS, numbers)  # before the strips, see `change.keep`
    strip_table.save(strips, paths.report / strip_table.FILE)
    with files.atomic(paths.report / WORDS) as temporary:
        temporary.write_text(cv.as_markdown(paths.solution.name, numbers, in_words(found)))
    written += [paths.report / name for name in (NUMBERS, WORDS, CHANGES, strip_table.FILE)]
    files.keep_only(paths.report, "*.png", written)
    return {path: files.sha256(path) for path in written}


def in_words(found: Found) -> list[Section]:
    """The sections of cv.md: tables alone."""
    numbers, votes = found.numbers, found.numbers["votes"]
    score = numbers["all"][numbers["headline"]["kind"]]
    parts = [
        *_score_and_change(found),
        Section("classes", "Classes", [], [cv.class_table(score, found.decision)]),
        Section("models", "Models, each alone", [], models_report.tables(found.models)),
    ]
    if votes is not None:
        parts.append(Section("votes", "Votes", [votes_report.told(votes)], votes_report.tables(votes, found.decision)))
    return [*parts, Section("folds", "Folds", [], [cv.fold_table(numbers)])]


def draw_all(found: Found) -> list[Path]:
    """Write page, charts and sheets of strips."""
    from steel.report import overview, page  # Altair takes a second to import
    from steel.report.charts import draw

    folder = found.paths.report
    made = overview.page(found.numbers, found.limited, found.changes, sections(found))
    written = [page.write(folder / PAGE, made, _gallery(found))]
    written += [draw.write_png(one, folder) for one in made.figures]
    return written + _sheets(found)


def sections(found: Found) -> list[Section]:
    """The sections of the page, but for the gallery."""
    from steel.report.charts import confusion, curves, decisions, folds, models

    paths, table, decision, numbers = found.paths, found.table, found.decision, found.numbers
    names = dict.fromkeys([*decision.segmenters, *decision.gates])
    logs = {(name, fold): _log(paths.fold(name, fold)) for name in names for fold in decision.folds}
    surfaces = Surfaces.load(paths.decide / run.SURFACES)
    alone = models.section(numbers["models"], numbers["votes"], numbers)
    told = [votes_report.told(numbers["votes"])] if numbers["votes"] else []
    return [
        *_score_and_change(found),
        folds.section(numbers, folds.read_split(paths)),
        decisions.section(surfaces, table, decision, found.outcome, numbers["families"]),
        replace(alone, lead=[*alone.lead, *told], blocks=[*alone.blocks, *models_report.tables(found.models)]),
        curves.section(logs, decision.segmenters),
        confusion.section(table, found.outcome),
        eda.section(paths, short=True),
    ]


def _score_and_change(found: Found) -> list[Section]:
    """What page and cv.md begin with."""
    score = cv.score_section(found.numbers, found.limited)
    return [score, change.section(found.changes)] if found.changes else [score]


def _changes(paths: Paths, strips: Any, group: Sequence[str], config: Mapping[str, Any]) -> list[Change]:
    previous = change.since_previous(paths.report, strips, group, config)
    other = paths.solution.report.against
    return [
        *([previous] if previous else []),
        *([change.since_other(Path(other), paths.run, strips, group, config)] if other else []),
    ]


def _gallery(found: Found) -> str:
    from steel.report.gallery import cards, choose

    paths, table, decision = found.paths, found.table, found.decision
    held_out = HeldOut(paths, decision)

    def grants(row: int, k: int) -> float:
        view = held_out.of_row(table, row)
        assert view.true is not None
        return choose.granted(view.prob[k], view.true[k])

    chosen = cards.pictures(paths, table, decision, choose.choose(table, found.outcome, grants))
    return cards.fragment(chosen, fold_word(decision))


def _sheets(found: Found) -> list[Path]:
    """Pictures of the worst and the best strips."""
    positive = dice(found.outcome.pred_px, found.table.true_px, found.outcome.overlap_px)
    positive[found.table.true_px == 0] = np.nan
    written = []
    for name, sign in (("worst", 1), ("best", -1)):
        if rows := sheets.extremes(sign * positive):
            path = found.paths.report / f"{name}.png"
            write_png(path, sheets.gallery(found.paths, found.table, found.decision, rows, positive))
            written.append(path)
    return written


def _log(folder: Path) -> list[dict[str, Any]]:
    """A training's epochs."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
