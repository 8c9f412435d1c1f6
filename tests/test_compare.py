"""`steel compare`: differences against plain loops, verdicts by eye, and one line on what cannot be compared."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import make_table
import numpy as np
import pytest
import tiny

from steel import files
from steel.__main__ import main
from steel.config import DataConfig, ModelConfig, Solution
from steel.data.folds import write_folds
from steel.decide.bootstrap import Interval
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.decide.table import Table
from steel.metrics import dice
from steel.report.compare import WRITTEN, compare, format_comparison, verdict
from steel.report.outcomes import judge
from steel.report.paired import Difference, Paired

N = 40
GROUP = [str(i // 2) for i in range(N)]  # pairs of duplicates


def table(seed: int, quality: float) -> Table:
    """Masks of 100 px on half of the strips; a map shows the given share of each, and 5 px on every clean strip."""
    rng = np.random.default_rng(0)
    true = 100 * rng.integers(0, 2, (N, 4), np.int32)
    noise = np.random.default_rng(seed).integers(-9, 10, (N, 4))
    overlap = np.where(true > 0, (100 * quality + noise).clip(1, 100), 0).astype(np.int32)
    area = np.where(true > 0, overlap, 5).astype(np.int32)
    ids = np.array([f"{i:02}.jpg" for i in range(N)])
    fold = (np.arange(N) // 2 % 2).astype(np.int16)
    area_px, overlap_px = (np.repeat(px[..., None], 256, 2) for px in (area, overlap))
    return make_table.of_areas(ids, fold, true, area_px, overlap_px, np.ones((N, 4), np.float32))


def rules(min_area_px: int) -> Rules:
    return Rules((Rule(128, min_area_px, 0.0),) * 4)


DECISION = Decision(["m"], [], [0, 1], Blend.equal(1, 0), rules(10), rules(0), {0: rules(10), 1: rules(10)})


def write(name: str, held_out: Table, decision: Decision = DECISION, data: str = "flat") -> Path:
    """A run as the stage decide leaves it, and the split."""
    folder = Path("runs", name)
    decided = folder / "decide"
    decided.mkdir(parents=True, exist_ok=True)
    held_out.save(decided / "table.npy")
    decision.save(decided / "rules.json")
    files.write_json(decided / "solution.json", asdict(Solution(name, {"m": ModelConfig()}, DataConfig(data))))
    outputs = {f"runs/{name}/decide/{part}": files.sha256(decided / part) for part in WRITTEN}
    files.write_json(decided / "stage.json", {"outputs": outputs})
    ids, fold = held_out.image_ids.tolist(), held_out.fold.astype(np.int64)
    write_folds(Path("folds", f"{data}.csv"), ids, fold, GROUP[: len(ids)])
    Path(f"{name}.yaml").write_text(f"name: {name}\ndata: {{name: {data}}}\nmodels: {{m: {{}}}}\n")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs: a shows some .6 of each mask, b .8."""
    monkeypatch.chdir(tmp_path)
    write("a", table(1, 0.6))
    write("b", table(2, 0.8))
    return tmp_path


def values(name: str, kind: str) -> np.ndarray:
    folder = Path("runs", name, "decide")
    held_out = Table.load(folder / "table.npy")
    outcome = judge(held_out, Decision.load(folder / "rules.json"))[kind]
    return dice(outcome.pred_px, held_out.true_px, outcome.overlap_px)


def cells(text: str) -> dict[str, list[str]]:
    """The rows of a table, by their first cell."""
    rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|")
    return {row[0]: row[1:] for row in rows}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["lofo", "fixed", "in_sample"])
def test_differences_equal_a_plain_loop(kind: str) -> None:
    write("b", table(1, 0.62))  # little better, on the same noise
    found = compare(Path("runs/a"), Path("runs/b"), [kind], n_resamples=300, seed=5).found
    a, b = values("a", kind), values("b", kind)
    names = sorted(set(GROUP))
    gaps = []
    for drawn in np.random.default_rng(5).integers(20, size=(300, 20)):
        rows = [i for j in drawn for i in range(N) if GROUP[i] == names[j]]
        gaps.append((b[rows] - a[rows]).mean(0))
    by_class = np.array(gaps)  # (300, 4)
    for draws, one, x, y in [
        (by_class.mean(1), found.whole, a.mean(), b.mean()),
        *zip(by_class.T, found.classes, a.mean(0), b.mean(0), strict=True),
    ]:
        assert (one.a, one.b, one.gap.value) == pytest.approx((x, y, y - x))
        assert (one.gap.low, one.gap.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
        assert one.b_better == pytest.approx((draws > 0).mean())
    positive = Table.load(Path("runs/a/decide/table.npy")).true_px > 0
    assert found.positive.gap.value == pytest.approx(b[positive].mean() - a[positive].mean())
    assert found.n_masks == tuple(positive.sum(0).tolist())


@pytest.mark.usefixtures("here")
def test_pairing_makes_it_sure() -> None:
    """A gain of .01 on every mask is sure, though the masks themselves differ by far more."""
    write("b", table(1, 0.61))
    found = compare(Path("runs/a"), Path("runs/b")).found
    assert found.whole.gap.low > 0
    assert found.whole.b_better == 1
    assert verdict(found).startswith("B is better, by 0.0")


@pytest.mark.usefixtures("here")
def test_the_other_way_round_is_the_mirror() -> None:
    a, b = Path("runs/a"), Path("runs/b")
    one, other = compare(a, b).found, compare(b, a).found
    assert (one.whole.gap.low, one.whole.gap.high) == pytest.approx((-other.whole.gap.high, -other.whole.gap.low))
    assert verdict(one).replace("B is", "A is") == verdict(other)


@pytest.mark.usefixtures("here")
def test_a_run_is_as_good_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "a.yaml", "runs/a"])
    out = capsys.readouterr().out
    assert out.endswith("Neither is better: both score the same.\n")
    assert out.count("+0.00000 to +0.00000") == 7


@pytest.mark.usefixtures("here")
def test_a_yaml_and_a_folder_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "a.yaml", "b.yaml"])
    by_yaml = capsys.readouterr().out
    main(["compare", "runs/a", "runs/b"])
    assert capsys.readouterr().out == by_yaml
    lines = by_yaml.splitlines()
    way = "tuned, leaving one fold out"
    assert lines[:3] == [f"A: runs/a, {way}", f"B: runs/b, {way}", "40 held-out strips"]
    names = ["mean Dice", *(f"class {c}" for c in (1, 2, 3, 4)), "positive-only", "expected LB"]
    assert list(cells(by_yaml))[2:] == names
    assert len({len(line) for line in lines[3:-1]}) == 1  # the columns line up
    a, b = values("a", "lofo").mean(), values("b", "lofo").mean()
    assert f" {a:.5f} | {b:.5f} | {b - a:+.5f} " in lines[5]
    assert lines[-1].startswith(f"B is better, by {b - a:.5f} of the mean Dice (95 % interval +0.")


@pytest.mark.usefixtures("here")
def test_the_rules_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "runs/a", "runs/b", "--rules", "fixed"])
    out = capsys.readouterr().out
    assert "A: runs/a, fixed rules\nB: runs/b, fixed rules\n" in out
    assert f"| {values('a', 'fixed').mean():.5f} |" in out
    assert values("a", "fixed").mean() < values("a", "lofo").mean() - 0.1  # every clean strip is marked in vain
    main(["compare", "runs/a", "runs/a", "--rules", "fixed,lofo"])
    out = capsys.readouterr().out
    assert "A: runs/a, fixed rules\nB: runs/a, tuned, leaving one fold out\n" in out
    assert f"| {values('a', 'lofo').mean() - values('a', 'fixed').mean():+.5f} |" in out


@pytest.mark.usefixtures("here")
def test_strips_in_common_count() -> None:
    write("b", table(2, 0.8).subset(np.arange(30)))
    write("a", table(1, 0.6))  # and the whole split
    found = compare(Path("runs/a"), Path("runs/b"))
    assert found.n_strips == (30, 40, 30)
    assert found.found.whole.a == pytest.approx(values("a", "lofo")[:30].mean())
    assert "compared on the 30 strips that both hold out; A holds out 40, B 30" in format_comparison(found)
    order = np.random.default_rng(0).permutation(30)
    write("b", table(2, 0.8).subset(order))
    write("a", table(1, 0.6))
    assert compare(Path("runs/a"), Path("runs/b")).found.whole.gap.value == pytest.approx(found.found.whole.gap.value)


@pytest.mark.usefixtures("here")
def test_a_class_without_a_mask_has_a_dash() -> None:
    for name, seed in (("a", 1), ("b", 2)):
        clean = np.zeros((N, 4), np.int32)
        one = table(seed, 0.5)
        write(name, replace(one, true_px=clean, overlap_px=np.zeros_like(one.overlap_px)))
    text = format_comparison(compare(Path("runs/a"), Path("runs/b")))
    assert cells(text)["positive-only"] == ["0", "–", "–", "–", "–", "–"]
    assert cells(text)["mean Dice"][0] == "0"


def gap(value: float, low: float, high: float) -> Paired:
    one = Difference(0.5, 0.5 + value, Interval(value, low, high), 0.5)
    return Paired((0,) * 4, one, (one,) * 4, one, one)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (gap(0.02, 0.01, 0.03), "B is better, by 0.02000 of the mean Dice (95 % interval +0.01000 to +0.03000)."),
        (gap(-0.02, -0.03, -0.01), "A is better, by 0.02000 of the mean Dice (95 % interval +0.01000 to +0.03000)."),
        (
            gap(-0.02, -0.03, 0.01),
            "Neither is clearly better: A is ahead by 0.02000 of the mean Dice (95 % interval -0.01000 to +0.03000).",
        ),
        (gap(0.0, -0.01, 0.01), "Neither is clearly better: B is ahead by 0.00000 of the mean Dice (95 % interval -0"),
        (gap(0.0, 0.0, 0.0), "Neither is better: both score the same."),
    ],
)
def test_verdicts(found: Paired, expected: str) -> None:
    assert verdict(found).startswith(expected)


@pytest.mark.usefixtures("here")
def test_what_cannot_be_compared_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = table(2, 0.8)
    write("c", replace(other, image_ids=np.array([f"x{i}" for i in range(N)])), data="other")
    relabelled = other.true_px.copy()
    relabelled[3, 1] += 7
    write("d", replace(other, true_px=relabelled))
    write("e", other, replace(DECISION, lofo={}))
    Path("runs/f").mkdir()
    write("g", other)
    Path("runs/g/decide/rules.json").write_text("{}")
    write("h", other, data="lost")
    Path("folds/lost.csv").unlink()
    at = int(other.true_px[3, 1])
    for args, message in {
        "runs/a runs/c": "compare: runs/a (data flat) and runs/c (data other) hold out no strip in common; allowed: ru",
        "runs/a runs/d": f"compare: class 2 of 03.jpg has {at} px in runs/a (data flat) and {at + 7} px in runs/d (dat",
        "runs/e runs/a": "--rules: runs/e has no 'lofo'; allowed: fixed, empty, in_sample",
        "runs/a runs/f": "runs/f: runs/f/decide has no stage.json, table.npy, rules.json and 1 more: run `steel decide",
        "runs/a runs/g": "runs/g/decide/rules.json is not as recorded: run `steel decide CONFIG` again",
        "runs/h runs/a": "folds/lost.csv: cannot be read as csv",
        "runs/a runs/z": "compare: there is no runs/z; allowed: the folder of a run, such as runs/demo, or its YAML",
        "runs/a": "the following arguments are required: B (`steel compare --help` lists the options)",
        "runs/a runs/b --rules best": "--rules: runs/a has no 'best'; allowed: lofo, fixed, empty, in_sample",
        "runs/a runs/b --rules lofo,fixed,empty": "--rules: lofo fixed empty are 3 ways; allowed: one for both, or",
    }.items():
        assert tiny.fault(capsys, "compare", *args.split()).startswith(message)


@pytest.fixture
def ran(copied: Path) -> Iterator[Path]:
    """The finished run, and beside it another that differs in the rules alone."""
    tiny.copy(copied / "runs/tiny", copied / "runs/other")
    text = Path(tiny.CONFIG).read_text()
    Path("other.yaml").write_text(text.replace("name: tiny\n", "name: other\n", 1))
    main(["decide", "other.yaml", "--decide.n_area", "5"])
    yield copied


@pytest.mark.usefixtures("ran")
def test_finished_runs_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["compare", tiny.CONFIG, "other.yaml"])
    out = capsys.readouterr().out
    assert "A: runs/tiny, tuned, leaving one fold out\nB: runs/other, tuned, leaving one fold out\n32 held-out" in out
    assert [(name, row) for name, row in cells(out).items() if "." in name] == [("decide.n_area", ["8", "5"])]
    for at, name in ((1, "tiny"), (2, "other")):
        decision = Decision.load(Path("runs", name, "decide/rules.json"))
        held_out = Table.load(Path("runs", name, "decide/table.npy"))
        assert cells(out)["mean Dice"][at] == f"{judge(held_out, decision)['lofo'].score(held_out).mean:.5f}"
    head = files.read_json(Path("runs/tiny/report/cv.json"))["headline"]
    assert cells(out)["mean Dice"][1] == f"{head['mean']:.5f}"
    assert cells(out)["expected LB"][1][:6] == f"{head['public_mean']:.5f}"[:6]
