"""The cross-validation in numbers, for cv.json, and in words, for cv.md."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from steel.competition import CLASSES
from steel.decide.decision import Decision
from steel.decide.table import Table
from steel.paths import Paths
from steel.report import limits, uncertainty
from steel.report.limits import Limits
from steel.report.outcomes import WAYS, Outcome, best_known, public_mean
from steel.report.rule_words import of_rule
from steel.report.section import Numbers, Section
from steel.report.text import number, of_section


def as_json(
    paths: Paths,
    table: Table,
    decision: Decision,
    outcomes: dict[str, Outcome],
    group: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Scores and folds as plain values; with the duplicate group of each strip also the intervals of the scores."""
    best = best_known(outcomes)
    folds, parts = [int(k) for k in decision.folds], [int(k) for k in np.unique(table.fold)]
    n_folds = len(paths.solution.folds)
    by_fold = {
        kind: {str(k): outcome.score(table, table.fold == k).as_dict() for k in parts}
        for kind, outcome in outcomes.items()
    }
    means = [by_fold[best][str(k)]["mean"] for k in parts]
    whole = {kind: outcome.score(table).as_dict() for kind, outcome in outcomes.items()}
    headline = {
        "kind": best,
        "mean": whole[best]["mean"],
        "positive": whole[best]["positive"],
        "std_over_folds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "public_mean": public_mean(table, outcomes[best]),
        "empty_mean": whole["empty"]["mean"],
        "optimism": whole["in_sample"]["mean"] - whole["lofo"]["mean"] if "lofo" in whole else None,
        "partial": len(folds) < n_folds,
        "folds": folds,
        "n_folds": n_folds,
        "holdout": paths.solution.split.holdout,
        "n_images": len(table),
    }
    intervals = None if group is None else uncertainty.as_json(table, outcomes[best], group)
    return {
        "solution": paths.solution.name,
        "headline": headline | uncertainty.of_headline(intervals),
        "all": whole,
        "by_fold": by_fold,
        "intervals": intervals,
    }


def as_markdown(name: str, numbers: dict[str, Any], sections: Sequence[Section]) -> str:
    """The report in words and tables."""
    parts = [part for section in sections for part in of_section(section)]
    return "\n\n".join([f"# {name}: cross-validation", *_headline(numbers), *parts]) + "\n"


def score_section(numbers: dict[str, Any], limited: Limits | None = None) -> Section:
    """Ways of deciding, intervals, and what limits the score; without what is not known."""
    intervals = numbers["intervals"]
    blocks = [
        _rules_table(numbers),
        *([uncertainty.table(intervals)] if intervals else []),
        *(limits.tables(limited) if limited else []),
    ]
    return Section("score", "Score", [], blocks)


def _headline(numbers: dict[str, Any]) -> list[str]:
    head = numbers["headline"]
    std = head["std_over_folds"]
    spread = [
        uncertainty.within(head["mean_interval"], 5),
        f"standard deviation over folds {std:.4f}" if std is not None else "",
    ]
    lines = [
        f"**Mean Dice {head['mean']:.5f}**{_in_brackets(*spread)}, positive-only {number(head['positive'])}, on "
        f"{head['n_images']} held-out strips, {WAYS[head['kind']]}. Showing nothing scores {head['empty_mean']:.5f}.",
        f"**Expected LB {head['public_mean']:.4f}**{_in_brackets(uncertainty.within(head['public_interval'], 4))}: "
        "the mean at the class shares of the public test set, if its strips are otherwise like these.",
    ]
    told = cautions(head)
    partial = [f"**Partial:**{line.removeprefix('Partial:')}" for line in told[:1] if head["partial"]]
    return [*partial, *lines, *told[len(partial) :]]


def cautions(head: dict[str, Any]) -> list[str]:
    """What the score is not, from the headline: sentences."""
    lines = []
    if head["partial"]:
        done = ", ".join(map(str, head["folds"]))
        lines.append(f"Partial: only fold {done} of {head['n_folds']}; not comparable with a full cross-validation.")
    if len(head["folds"]) == 1:
        share = f" (a random {head['holdout']:.0%} of the strips)" if head["holdout"] else ""
        lines.append(
            f"Fold {head['folds'][0]} alone was held out{share}: the rules were tuned on four fifths of it and scored "
            "on the last, in turn; below, a fold is such a part."
        )
    if len(head["folds"]) == 2:
        lines.append(
            "With two folds a rotation has one to choose by, and leaves none out: its rules are plain. Those that ship "
            "may be of another family, and this score is then not quite theirs."
        )
    if head["optimism"] is not None:
        lines.append(f"Tuning and scoring on the same strips would claim {head['optimism']:+.5f}.")
    return lines


def _in_brackets(*texts: str) -> str:
    """The texts that are not empty, in brackets after a space; nothing if all are."""
    told = "; ".join(text for text in texts if text)
    return f" ({told})" if told else ""


def _rules_table(numbers: dict[str, Any]) -> Numbers:
    rows = [
        [WAYS[kind], f"{s['mean']:.5f}", number(s["positive"]), str(sum(s["fp"])), str(sum(s["fn"]))]
        for kind, s in numbers["all"].items()
    ]
    return Numbers(
        "Rules",
        ["rules", "mean Dice", "positive-only", "FP", "FN"],
        rows,
        f"The score of this report is that of “{WAYS[numbers['headline']['kind']]}”. FP are masks shown where there is "
        "none, FN true masks of which nothing is shown.",
    )


def class_table(score: Mapping[str, Any], decision: Decision) -> Numbers:
    """What ships for each class, and what such rules score held out: the latter as `Score.as_dict` gives it."""
    rows = []
    for k, rule in enumerate(decision.tuned.classes):
        scores = [f"{score['class_mean'][k]:.5f}", number(score["class_positive"][k])]
        counts = [str(score[key][k]) for key in ("n_positive", "fp", "fn")]
        rows.append([str(CLASSES[k]), *of_rule(rule), *scores, *counts])
    head = ["class", "threshold", "min area, px", "gate", "more", "mean Dice", "positive-only", "masks", "FP", "FN"]
    return Numbers("What ships, and what such rules score held out", head, rows)


def fold_table(numbers: Mapping[str, Any]) -> Numbers:
    """The score of each fold, of all classes and of each, and its spread over the folds."""
    kind = numbers["headline"]["kind"]
    scores = numbers["by_fold"][kind]
    counts = [[s["n_images"], sum(s["fp"]), sum(s["fn"])] for s in scores.values()]
    dices = [
        [s["mean"], s["positive"], *chain(*zip(s["class_mean"], s["class_positive"], strict=True))]
        for s in scores.values()
    ]
    rows = [[fold, *map(str, n), *_dices(row)] for fold, n, row in zip(scores, counts, dices, strict=True)]
    if len(rows) > 1:
        values = np.array(dices, np.float64)  # None: NaN, and so is what it goes into
        for name, found in (("mean", values.mean(0)), ("standard deviation", values.std(0, ddof=1))):
            rows.append([name, "", "", "", *_dices([None if np.isnan(v) else float(v) for v in found])])
    per_class = [head for c in CLASSES for head in (f"class {c}", "positive-only")]
    head = ["fold", "strips", "FP", "FN", "mean Dice", "positive-only", *per_class]
    return Numbers(f"Dice of each fold, {WAYS[kind]}", head, rows)


def _dices(values: Sequence[Any]) -> list[str]:
    return [f"{values[0]:.5f}", *map(number, values[1:])]
