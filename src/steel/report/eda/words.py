"""The data in words, from the numbers of `eda.measure`."""

from typing import Any

from steel.competition import CLASSES
from steel.report.eda.look import MIN_STRIPS, STATISTICS

# Bounds of an AUC above .5 that is not chance: below each, what it says of train and test.
VERDICTS = ((0.6, "nearly alike"), (0.75, "somewhat different"), (1.01, "easily told apart"))


def leads(numbers: dict[str, Any]) -> list[str]:
    """The main facts, a paragraph each."""
    return [_counts(numbers), _masks(numbers), _duplicates(numbers), _test(numbers)]


def verdict(auc: float, error: float) -> str:
    """What an AUC of train against test says, in words; within two standard errors of a guess it says nothing."""
    if auc - 2 * error <= 0.5:
        return "alike as far as this can tell"
    return next(words for bound, words in VERDICTS if auc < bound)


def ratio(part: float, whole: float) -> float:
    """To four decimals; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def _counts(numbers: dict[str, Any]) -> str:
    n, clean = numbers["n_train"], numbers["n_clean"]
    several = sum(numbers["n_by_classes"][2:])
    text = (
        f"{n:,} training strips: {n - clean:,} with a defect ({percent(ratio(n - clean, n))}), {clean:,} clean. "
        f"{several:,} ({percent(ratio(several, n))}) show more than one class."
    )
    tested = f" {numbers['n_test']:,} test strips." if numbers["n_test"] else " No test strips."
    return text + tested


def _masks(numbers: dict[str, Any]) -> str:
    counts, total = numbers["n_masks"], sum(numbers["n_masks"])
    if not total:
        return "No masks."
    most, least = (choice(range(len(counts)), key=counts.__getitem__) for choice in (max, min))
    text = (
        f"{total:,} masks: {percent(counts[most] / total)} are of class {CLASSES[most]}, "
        f"{percent(counts[least] / total)} of class {CLASSES[least]}."
    )
    medians = [
        (one["quantiles_px"][2], c)
        for c, one in zip(CLASSES, numbers["areas"]["classes"], strict=True)
        if one["quantiles_px"]
    ]
    (small, a), (large, b) = min(medians), max(medians)
    return (
        f"{text} The median area is smallest in class {a}, {small:,.0f} px, and largest in class {b}, {large:,.0f} px."
    )


def _duplicates(numbers: dict[str, Any]) -> str:
    found, same = numbers["duplicates"], numbers["n_test_in_train"]
    files = f" {same} test files are also training files, byte by byte." if same else ""
    if found is None:
        return "Duplicates are not known before there is a split: `steel folds` looks for them." + files
    if not found["n_groups"]:
        return "By the split, no training strip repeats another one." + files
    return (
        f"By the split, {found['n_strips']} training strips form {found['n_groups']} groups of copies, the largest of "
        f"{found['largest']}. Groups whose labels contradict each other: {found['n_other_classes']} in the classes, "
        f"{found['n_other_masks']} in the masks alone.{files}"
    )


def _test(numbers: dict[str, Any]) -> str:
    found, n = numbers["train_test"], numbers["n_test"]
    if found["auc"] is None:
        n_few, part = min((n, "test"), (numbers["n_train"], "training"))
        few = f"{n_few} {part} strips are too few" if n_few else f"there are no {part} strips"
        return f"Whether the test strips look like the training strips is not judged: {few}, each needs {MIN_STRIPS}."
    return (
        f"Do the test strips look like the training strips? Boosted trees on {len(STATISTICS)} statistics of the grey "
        f"levels tell them apart with an AUC of {found['auc']:.3f} ± {found['error']:.3f} (0.5 is guessing): they are "
        f"{verdict(found['auc'], found['error'])}."
    )
