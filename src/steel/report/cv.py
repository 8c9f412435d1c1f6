"""Stage `report`: the cross-validation in numbers (cv.json), in words (cv.md) and in pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.competition import CLASSES, N_CLASSES, PUBLIC_SHARES
from steel.decide.rules import NEVER_PX, Rule, Rules, apply_to_table
from steel.decide.run import Decision
from steel.decide.table import Table
from steel.metrics import Score, dice, score
from steel.paths import Paths
from steel.stage import Spec, recorded

CODE = ("report", "decide", "metrics")


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What the report is made from."""
    inputs = {"decide": recorded(paths.decide), "folds": recorded(paths.folds_record)}
    return Spec("report", paths.report, {"folds": list(folds)}, inputs, CODE)


def make(paths: Paths) -> dict[Path, str]:
    """Write cv.json, cv.md and the plots; their digests."""
    from steel.report import plots  # matplotlib takes a second to import

    table = Table.load(paths.decide / "table.npz")
    decision = Decision.load(paths.decide / "rules.json")
    outcomes = judge(table, decision)
    numbers = as_json(paths, table, decision, outcomes)
    files.write_json(paths.report / "cv.json", numbers)
    with files.atomic(paths.report / "cv.md") as temporary:
        temporary.write_text(as_markdown(paths.solution.name, numbers, decision))
    pictures = plots.write(paths, table, decision, outcomes[_best_known(outcomes)])
    written = [paths.report / "cv.json", paths.report / "cv.md", *pictures]
    return {path: files.sha256(path) for path in written}


@dataclass(frozen=True)
class Outcome:
    """What one way of deciding gives on all held-out images: pred_px and overlap_px, (n, 4) int32."""

    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]

    def score(self, table: Table, rows: NDArray[np.bool_] | slice = slice(None)) -> Score:
        """Score on all or some rows of the table."""
        return score(self.pred_px[rows], table.true_px[rows], self.overlap_px[rows])


def judge(table: Table, decision: Decision) -> dict[str, Outcome]:
    """All ways of deciding: empty, fixed, tuned leaving one fold out (with two folds or more), tuned in sample."""
    nothing = Rules(tuple(Rule(255, NEVER_PX, 1.0) for _ in CLASSES))
    outcomes = {
        "empty": Outcome(*apply_to_table(nothing, table)),
        "fixed": Outcome(*apply_to_table(decision.fixed, table)),
    }
    if decision.lofo:
        pred, overlap = np.zeros_like(table.true_px), np.zeros_like(table.true_px)
        for fold, rules in decision.lofo.items():
            rows = table.fold == fold
            pred[rows], overlap[rows] = apply_to_table(rules, table.subset(rows))
        outcomes["lofo"] = Outcome(pred, overlap)
    outcomes["in_sample"] = Outcome(*apply_to_table(decision.tuned, table))
    return outcomes


def public_mean(table: Table, outcome: Outcome) -> float:
    """The mean Dice re-weighted to the class shares of the public test set; a class without positives counts as found.

    Source: the shares were probed on the leaderboard in 2019, see `competition.PUBLIC_SHARES`.
    """
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    positive = table.true_px > 0
    total = 0.0
    for k, share in enumerate(PUBLIC_SHARES):
        with_mask = values[positive[:, k], k].mean() if positive[:, k].any() else 1.0
        without = values[~positive[:, k], k].mean() if (~positive[:, k]).any() else 1.0
        total += share * with_mask + (1 - share) * without
    return float(total / N_CLASSES)


def as_json(paths: Paths, table: Table, decision: Decision, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """All numbers of the report as plain values."""
    best = _best_known(outcomes)
    folds = [int(k) for k in decision.folds]
    n_folds = paths.solution.split.n_folds
    by_fold = {
        kind: {str(k): outcome.score(table, table.fold == k).as_dict() for k in folds}
        for kind, outcome in outcomes.items()
    }
    means = [by_fold[best][str(k)]["mean"] for k in folds]
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
        "n_images": len(table),
    }
    return {"solution": paths.solution.name, "headline": headline, "all": whole, "by_fold": by_fold}


def as_markdown(name: str, numbers: dict[str, Any], decision: Decision) -> str:
    """The report in words and tables."""
    return (
        "\n\n".join(
            [
                f"# {name}: cross-validation",
                *_headline(numbers),
                *_rules_table(numbers),
                *_class_table(numbers, decision),
                *_fold_table(numbers),
            ]
        )
        + "\n"
    )


WAYS = {
    "empty": "nothing shown",
    "fixed": "fixed rules",
    "lofo": "tuned, leaving one fold out",
    "in_sample": "tuned, in sample (optimistic)",
}


def _best_known(outcomes: dict[str, Outcome]) -> str:
    """The honest way of deciding: tuned leaving one fold out, or with a single fold the fixed rules."""
    return "lofo" if "lofo" in outcomes else "fixed"


def _headline(numbers: dict[str, Any]) -> list[str]:
    head = numbers["headline"]
    spread = (
        f" (standard deviation over folds {head['std_over_folds']:.4f})" if head["std_over_folds"] is not None else ""
    )
    lines = [
        f"**Mean Dice {head['mean']:.5f}**{spread}, positive-only {_number(head['positive'])}, on {head['n_images']} "
        f"held-out strips, {WAYS[head['kind']]}. Showing nothing scores {head['empty_mean']:.5f}. Re-weighted to the "
        f"public test set's class shares: {head['public_mean']:.4f}."
    ]
    if head["partial"]:
        done = ", ".join(map(str, head["folds"]))
        lines.insert(
            0, f"**Partial:** only fold {done} of {head['n_folds']}; not comparable with a full cross-validation."
        )
    if head["optimism"] is not None:
        lines.append(f"Tuning and scoring on the same strips would claim {head['optimism']:+.5f}.")
    return lines


def _rules_table(numbers: dict[str, Any]) -> list[str]:
    rows = [
        [WAYS[kind], f"{s['mean']:.5f}", _number(s["positive"]), str(sum(s["fp"])), str(sum(s["fn"]))]
        for kind, s in numbers["all"].items()
    ]
    return ["## Rules", _table(["rules", "mean Dice", "positive-only", "FP", "FN"], rows)]


def _class_table(numbers: dict[str, Any], decision: Decision) -> list[str]:
    s = numbers["all"][numbers["headline"]["kind"]]
    rows = []
    for k, rule in enumerate(decision.tuned.classes):
        area = "never" if rule.min_area_px >= NEVER_PX else str(rule.min_area_px)
        cells = [
            str(k + 1),
            f"{s['class_mean'][k]:.5f}",
            _number(s["class_positive"][k]),
            s["n_positive"][k],
            s["fp"][k],
            s["fn"][k],
        ]
        rows.append([*map(str, cells), f"{rule.threshold / 255:.3f}", area, f"{rule.min_gate:.3f}"])
    head = ["class", "mean Dice", "positive-only", "masks", "FP", "FN", "ships: threshold", "min area, px", "gate"]
    return ["## Classes", _table(head, rows)]


def _fold_table(numbers: dict[str, Any]) -> list[str]:
    kind = numbers["headline"]["kind"]
    rows = []
    for fold, s in numbers["by_fold"][kind].items():
        per_class = [
            f"{mean:.4f} / {_number(positive)}"
            for mean, positive in zip(s["class_mean"], s["class_positive"], strict=True)
        ]
        rows.append(
            [
                fold,
                str(s["n_images"]),
                f"{s['mean']:.5f}",
                _number(s["positive"]),
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
            rows.append([label, "", f"{f(means):.5f}", _number(positive), "", "", *[""] * N_CLASSES])
    head = [
        "fold",
        "strips",
        "mean Dice",
        "positive-only",
        "FP",
        "FN",
        *(f"class {c}: mean / positive-only" for c in CLASSES),
    ]
    return ["## Folds", f"Under {WAYS[kind]}.", _table(head, rows)]


def _std(values: list[float]) -> float:
    return float(np.std(values, ddof=1))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        [cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in [head, ["-" * w for w in widths], *rows]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
