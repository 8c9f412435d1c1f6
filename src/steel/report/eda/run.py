"""Stage `eda`: the prepared data in numbers (eda.json), in charts (PNG) and as a page, before anything is trained."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steel import files, stage
from steel.competition import CLASSES
from steel.paths import Paths
from steel.report.eda.measure import examples, measure
from steel.report.eda.words import verdict
from steel.report.section import Section
from steel.stage import Spec, recorded

CODE = (
    *("report/eda", "report/charts/draw", "report/charts/data", "report/section", "report/overlay", "report/page"),
    *("report/templates", "report/text", "data/cache", "data/folds", "competition"),
)
NUMBERS, PAGE = "eda.json", "index.html"
PACKAGES = ("opencv-python-headless", "scikit-learn", "altair", "vl-convert-python")  # those that have a say in it


def spec(paths: Paths) -> Spec:
    """What the numbers are made from; the split, where one stands, tells the duplicates."""
    folds = files.sha256(paths.folds) if paths.folds.exists() else "missing"
    inputs = {"cache": recorded(paths.cache), "folds": folds}
    return Spec("eda", paths.eda, {}, inputs, CODE, {name: version(name) for name in PACKAGES})


def ensure(paths: Paths, force: bool = False) -> None:
    """Make it unless it stands."""
    stage.ensure(spec(paths), lambda: make(paths), force)


def make(paths: Paths) -> dict[Path, str]:
    """Write numbers, charts and page; their digests."""
    from steel.report import page  # Altair takes a second to import
    from steel.report.charts import draw
    from steel.report.page import Fact, Page

    numbers = measure(paths)
    files.write_json(paths.eda / NUMBERS, numbers)
    made = Page(
        title=f"{numbers['data']}: data",
        subtitle=f"{numbers['n_train']} training strips, {numbers['n_test']} test strips",
        facts=[Fact(name, value, note) for name, value, note in _facts(numbers)],
        sections=[section(paths)],
        footer="The charts lie beside this page as PNG.",
        beside=(NUMBERS,),
    )
    written = [paths.eda / NUMBERS, page.write(paths.eda / PAGE, made)]
    written += [draw.write_png(figure, paths.eda) for figure in made.figures]
    files.keep_only(paths.eda, "*.png", written)
    return {path: files.sha256(path) for path in written}


def section(paths: Paths, short: bool = False) -> Section:
    """The section of a page from the numbers that `make` wrote; `short`: shut at first, as part of a longer page."""
    from steel.report.charts import data

    found = data.section(files.read_json(paths.eda / NUMBERS))
    return replace(found, blocks=[*found.blocks, *examples(paths)], folded=short)


def _facts(numbers: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, number, note."""
    n, clean, auc = numbers["n_train"], numbers["n_clean"], numbers["train_test"]["auc"]
    counts = ", ".join(f"{m:,} of class {c}" for c, m in zip(CLASSES, numbers["n_masks"], strict=True))
    return [
        ("Training strips", f"{n:,}", f"{n - clean:,} with a defect, {clean:,} clean"),
        ("Masks", f"{sum(numbers['n_masks']):,}", counts),
        ("Test strips", f"{numbers['n_test']:,}", f"{numbers['n_test_in_train']:,} of them are training strips, too"),
        (
            "Train against test",
            "–" if auc is None else f"AUC {auc:.3f}",
            "too few strips to judge" if auc is None else verdict(auc, numbers["train_test"]["error"]),
        ),
    ]
