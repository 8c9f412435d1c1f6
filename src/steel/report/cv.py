"""The cross-validation in numbers, for cv.json, and in words, for cv.md."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steel.competition import CLASSES, N_CLASSES
from steel.decide.decision import Decision
from steel.decide.model_scores import ModelRow
from steel.decide.table import Table
from steel.paths import Paths
from steel.report import uncertainty
from steel.report.limits import Limits
from steel.report.limits import as_markdown as limits_section
from steel.report.models import as_markdown as models_section
from steel.report.outcomes import WAYS, Outcome, best_known, public_mean
from steel.report.rule_words import of_rule
from steel.report.text import number, text_table
from steel.report.votes import as_markdown as votes_section


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


def as_markdown(
    name: str,
    numbers: dict[str, Any],
    decision: Decision,
    models: Sequence[ModelRow] = (),
    limited: Limits | None = None,
) -> str:
    """The report in words and tables; without intervals, limits or models, without their sections."""
    return (
        "\n\n".join(
            [
                f"# {name}: cross-validation",
                *_headline(numbers),
                *_rules_table(numbers),
                *_class_table(numbers, decision),
                *uncertainty.as_markdown(numbers["intervals"]),
                *(limits_section(limited) if limited else []),
                *models_section(models),
                *votes_section(numbers.get("votes"), decision),
                *_fold_table(numbers),
            ]
        )
        + "\n"
    )


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


def _rules_table(numbers: dict[str, Any]) -> list[str]:
    rows = [
        [WAYS[kind], f"{s['mean']:.5f}", number(s["positive"]), str(sum(s["fp"])), str(sum(s["fn"]))]
        for kind, s in numbers["all"].items()
    ]
    return ["## Rules", text_table(["rules", "mean Dice", "positive-only", "FP", "FN"], rows)]


def _class_table(numbers: dict[str, Any], decision: Decision) -> list[str]:
    s = numbers["all"][numbers["headline"]["kind"]]
    rows = []
    for k, rule in enumerate(decision.tuned.classes):
        cells = [
            str(k + 1),
            f"{s['class_mean'][k]:.5f}",
            number(s["class_positive"][k]),
            s["n_positive"][k],
            s["fp"][k],
            s["fn"][k],
        ]
        rows.append([*map(str, cells), *of_rule(rule)])
    head = [
        "class",
        "mean Dice",
        "positive-only",
        "masks",
        "FP",
        "FN",
        "ships: threshold",
        "min area, px",
        "gate",
        "more",
    ]
    return ["## Classes", text_table(head, rows)]


def _fold_table(numbers: dict[str, Any]) -> list[str]:
    kind = numbers["headline"]["kind"]
    rows = []
    for fold, s in numbers["by_fold"][kind].items():
        per_class = [
            f"{mean:.4f} / {number(positive)}"
            for mean, positive in zip(s["class_mean"], s["class_positive"], strict=True)
        ]
        rows.append(
            [
                fold,
                str(s["n_images"]),
                f"{s['mean']:.5f}",
                number(s["positive"]),
                str(sum(s["fp"])),
                str(sum(s["fn"])),
                *per_class,
            ]
        )
    if len(rows) > 1:
        scores = list(numbers["by_fold"][kind].values())
        for label, f in (("mean", np.mean), ("std", _std)):
            means, positives = ([s[key] for s in scores if s[key] is not None] for key in ("mean", "positive"))
            positive = float(f(positives)) if len(positives) == len(scores) else None
            rows.append([label, "", f"{f(means):.5f}", number(positive), "", "", *[""] * N_CLASSES])
    head = [
        "fold",
        "strips",
        "mean Dice",
        "positive-only",
        "FP",
        "FN",
        *(f"class {c}: mean / positive-only" for c in CLASSES),
    ]
    return ["## Folds", f"Under {WAYS[kind]}.", text_table(head, rows)]


def _std(values: list[float]) -> float:
    return float(np.std(values, ddof=1))
