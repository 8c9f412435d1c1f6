"""Section `models`: each alone, the ensemble without each, how alike they are, and their votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steel.report.charts import alike, alone
from steel.report.outcomes import WAYS
from steel.report.section import Figure, Numbers, Section
from steel.report.uncertainty import PERCENT
from steel.report.votes import votes_table


def section(
    rows: Sequence[Mapping[str, Any]], votes: Mapping[str, Any] | None, extra: Mapping[str, Any] | None
) -> Section:
    """Charts and tables of the models.

    Args:
        rows: "models" of cv.json.
        votes: "votes" of cv.json; None where they were not searched.
        extra: "left_out" and "correlations" by role, as `decide` writes them; what is None or lacking is left out.
    """
    if not rows:
        return Section("models", "Models", ["No model was judged alone."])
    left_out = (extra or {}).get("left_out")
    correlations = (extra or {}).get("correlations") or (votes or {}).get("correlations") or {}
    names = {plural: [row["name"] for row in rows if row["role"] == role] for role, plural in alone.ROLES.items()}
    lost = alone.left_out_rows(left_out) if left_out else []
    blocks: list[Figure | Numbers] = [*(alone.alone(rows, key) for key in alone.SCORES), alone.alone_table(rows)]
    if left_out and lost:
        blocks += [alone.left_out(lost, left_out["how"]), alone.left_out_table(lost, left_out["how"])]
    for part, (plural, own) in zip(("masks", "gates"), names.items(), strict=True):
        if len(own) < 2:
            continue
        if correlations.get(plural):
            blocks.append(alike.correlation(plural, own, correlations[plural]))
        if votes is not None:
            blocks += [alike.votes(plural, own, votes[part]), votes_table(plural, own, votes[part])]
    told = [*([alone.costs(lost)] if lost else []), *_not_left_out(rows, names["segmenters"])]
    return Section("models", "Models", [*_lead(rows), *([" ".join(told)] if told else [])], blocks)


def _lead(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "A segmenter alone is its masks without any gate; a gate alone is all segmenters together, gated by it. Scores "
        f"are the competition's on all {rows[0]['score']['n_images']} held-out strips, {WAYS[rows[0]['rules']]}.",
        f"Lines are {PERCENT}s: what other strips like these would give (a bootstrap, duplicates drawn together). All "
        "models meet the same strips: of two whose lines overlap, one may still surely be the better.",
    ]


def _not_left_out(rows: Sequence[Mapping[str, Any]], segmenters: Sequence[str]) -> list[str]:
    """Why the ensemble is not judged without some model: sentences."""
    if rows[0]["rules"] == "fixed":
        return ["No model is left out: that takes rules from other folds, and there is a single one."]
    if len(segmenters) == 1:
        return [f"Not left out: {segmenters[0]} as segmenter, the only one; nothing would be shown."]
    return []
