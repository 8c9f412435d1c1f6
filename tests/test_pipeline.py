"""The whole pipeline on the tiny solution: what lies there in the end, what a second run does, what a change redoes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tiny

from steel import rle
from steel.__main__ import main
from steel.data.cache import AREAS, open_strips
from steel.decide.table import Table
from steel.infer.predictor import Predictor, quantise
from steel.infer.store import open_store
from steel.paths import Paths

MODELS, FOLDS = ("fpn", "gate"), (0, 1, 2)
TRAININGS = [(name, fold) for name in MODELS for fold in FOLDS]


@pytest.fixture
def here(finished: Path) -> Iterator[Path]:
    """The finished run, to look at: as the working directory."""
    with tiny.within(finished):
        yield finished


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out of reports: half of their time."""
    from steel.report import run as report_run

    monkeypatch.setattr(report_run, "draw_all", lambda *_: [])


def states(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    """What `steel status` says: the state by name; there is no kernel, see test_standing.py."""
    capsys.readouterr()
    main(["status", tiny.CONFIG, *args])
    rows = (
        re.split(" {2,}| (?=stale|done|missing)", line, maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    found = {name.strip(): state for name, state in rows}
    assert found.pop("kernel").startswith("missing ")
    return found


@pytest.mark.usefixtures("here")
def test_every_output_stands() -> None:
    cache = ["train_images.npy", "train_masks.npy", "test_images.npy", "train.csv", "test.csv", "meta.json"]
    expected = [f"data/tiny/cache/{name}" for name in cache]
    expected += [f"data/tiny/raw/{name}" for name in ("train.csv", "sample_submission.csv", "train_images")]
    expected += ["folds/tiny.csv", "runs/tiny/fpn/test/maps.zarr", "runs/tiny/gate/test/values.npz"]
    for name, fold in TRAININGS:
        training = ["config.json", "weights.safetensors", "log.jsonl", "env.json", "stage.json", "events"]
        expected += [f"runs/tiny/{name}/fold{fold}/{file}" for file in (*training, "oof/values.npz")]
    expected += [f"runs/tiny/fpn/fold{fold}/oof/maps.zarr" for fold in FOLDS]
    expected += [f"runs/tiny/decide/{file}" for file in ("table.npy", "rules.json", "surfaces.npz", "solution.json")]
    expected += [f"runs/tiny/decide/{file}" for file in ("models.json", "families.json")]
    pictures = ("surface-class3.png", "training-1-fpn-loss.png", "best.png", "worst.png")
    expected += [f"runs/tiny/report/{file}" for file in ("index.html", "cv.json", "cv.md", "strips.csv", *pictures)]
    expected += [f"data/tiny/eda/{file}" for file in ("index.html", "eda.json", "areas.png")]
    expected += ["submissions/tiny/submission.csv", "submissions/tiny/manifest.json"]
    assert [path for path in expected if not Path(path).exists()] == []
    left = [
        str(path) for path in Path().rglob("*") if re.search(r"\.tmp$|\.old$|\.begun$|building-|last\.pt", path.name)
    ]
    assert left == []
    for path in Path().rglob("*.json"):
        assert not re.search(r"\bNaN\b|\bInfinity\b", path.read_text()), path  # Python writes them, JSON has none


def test_a_second_run_touches_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stamps() -> dict[str, int]:
        files = (path for path in copied.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path): path.stat().st_mtime_ns for path in files}

    contents, before = tiny.contents(copied), stamps()
    capsys.readouterr()
    tiny.run(*tiny.STAGES)
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match(rf"({'|'.join(tiny.STAGES)})\b", line)]
    assert lines.count("report: runs/tiny/report/index.html") == 2  # of `report` and of `submit`
    done = [line.removesuffix(": up to date") for line in lines if line.endswith(": up to date")]
    fits = [f"{stage} {name} fold {fold}" for stage in ("train", "oof") for name, fold in TRAININGS]
    ends = ["decide", "report", "predict fpn", "predict gate", "submit"]
    assert done == ["synth", "prepare", "folds", *fits, *ends]
    assert stamps() == before
    assert tiny.contents(copied) == contents


@pytest.mark.usefixtures("copied", "without_pictures")
def test_a_changed_option_redoes_what_hangs_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    change = ("--models.gate.ema", "0.5")
    why = "stale (config changed: model.ema: 0.6 -> 0.5)"
    found = states(capsys, *change)
    assert {name for name, state in found.items() if state == why} == {f"train gate fold {k}" for k in FOLDS}
    waiting = {name for name, state in found.items() if state.startswith("stale (waits for '")}
    after = {"decide", "report", "predict gate", "submit"}
    assert waiting == {f"oof gate fold {k}" for k in FOLDS} | after
    assert found["oof gate fold 1"] == "stale (waits for 'train gate fold 1', which is stale)"
    assert {state for name, state in found.items() if name not in waiting} == {"done", why}
    for stage, stale in (
        ("train", {f"oof gate fold {k}" for k in FOLDS} | {"predict gate"}),
        ("oof", {"decide", "predict gate"}),
        ("decide", {"report", "predict gate"}),  # the rules may come out the same: then submit stands
    ):
        tiny.run(stage, args=change)
        found = states(capsys, *change)
        assert {name for name, state in found.items() if state.startswith("stale (input changed: ")} >= stale
        assert not any("fpn" in name and state != "done" for name, state in found.items())
    tiny.run("report", "predict", "submit", args=change)
    assert set(states(capsys, *change).values()) == {"done"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("args", "stale"),
    [
        (("--predict.batch", "3"), {"oof", "predict"}),
        (("--decide.n_area", "9"), {"decide"}),
        (("--split.seed", "1"), {"folds"}),
        (("--data.synth.seed", "2"), {"synth"}),
        (("--machine.workers", "2"), set()),
        (("--models.fpn.phases", "[{epochs: 1}]"), {"train"}),
    ],
)
def test_status_names_the_key(args: tuple[str, str], stale: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = states(capsys, *args)
    changed = {name for name, state in found.items() if state != "done" and "waits for" not in state}
    assert {name.split()[0] for name in changed} == stale
    assert (found["submit"] == "done") == (not stale)  # which is made from all of them
    assert all(args[0].rsplit(".", 1)[1] in found[name] for name in changed)


@pytest.mark.usefixtures("here")
def test_other_threads_are_told_but_redo_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = states(capsys, "--machine.threads", "2")
    told = {name for name, state in found.items() if state == "kept (the environment changed: threads: 1 -> 2)"}
    assert {name.split()[0] for name in told} == {"train", "oof", "predict"}
    assert {state for name, state in found.items() if name not in told} == {"done"}


@pytest.mark.usefixtures("copied", "without_pictures")
def test_some_folds_give_a_partial_result() -> None:
    args = ("--folds", "0,2")
    tiny.run(*tiny.STAGES[3:], args=args)
    cv = json.loads(Path("runs/tiny/report/cv.json").read_text())
    split = pd.read_csv("folds/tiny.csv")
    assert cv["headline"]["partial"] is True
    assert cv["headline"]["folds"] == [0, 2]
    assert cv["headline"]["n_images"] == (split.fold != 1).sum()
    assert list(cv["by_fold"]["lofo"]) == ["0", "2"]
    text = Path("runs/tiny/report/cv.md").read_text()
    assert "**Partial:** only fold 0, 2 of 3;" in text and "With two folds" in text
    manifest = json.loads(Path("submissions/tiny/manifest.json").read_text())
    assert (manifest["folds"]["used"], manifest["cv"]["partial"]) == ([0, 2], True)
    tiny.run("decide", "report", args=("--folds", "1"))
    cv = json.loads(Path("runs/tiny/report/cv.json").read_text())
    assert (cv["headline"]["kind"], cv["headline"]["n_images"]) == ("lofo", (split.fold == 1).sum())
    assert list(cv["by_fold"]["lofo"]) == ["0", "1", "2", "3", "4"]  # parts of the one fold
    assert sum(score["n_images"] for score in cv["by_fold"]["lofo"].values()) == (split.fold == 1).sum()
    assert "Fold 1 alone was held out: the rules were tuned on" in Path("runs/tiny/report/cv.md").read_text()


@pytest.mark.usefixtures("copied", "without_pictures")
def test_a_joint_head_gates_beside_the_classifiers() -> None:
    args = ("--folds", "0", "--models.fpn.gate_weight", "0.5")
    tiny.run("train", "oof", "decide", "report", "predict", "submit", args=args)
    rules = json.loads(Path("runs/tiny/decide/rules.json").read_text())
    assert (rules["segmenters"], rules["gates"]) == (["fpn"], ["fpn", "gate"])
    joint, alone = (open_store(Path(f"runs/tiny/{name}/fold0/oof")).gate for name in ("fpn", "gate"))
    assert joint is not None and alone is not None and not np.allclose(joint, alone)
    table = Table.load(Path("runs/tiny/decide/table.npy"))
    np.testing.assert_allclose(table.gate, (joint + alone) / 2, rtol=1e-6)
    applied = ("--images", "data/tiny/raw/test_images", "--out", "found.csv", "--models.fpn.gate_weight", "0.5")
    tiny.run("predict", args=applied)
    assert Path("found.csv").read_text() == Path("submissions/tiny/submission.csv").read_text()


def test_each_strip_is_predicted_once_by_models_that_never_saw_it_or_its_copies(here: Path) -> None:
    ids = open_strips(Path("data/tiny/cache"), "train").image_ids
    split = pd.read_csv("folds/tiny.csv").set_index("image_id")
    assert (split.group.value_counts() > 1).any()  # there is a pair of copies
    seen = {int(k): {ids[row] for row in rows} for k, rows in json.loads((here / "seen.json").read_text()).items()}
    assert sorted(seen) == [0, 1, 2]
    for name in MODELS:
        predicted = {k: open_store(Path(f"runs/tiny/{name}/fold{k}/oof")).image_ids for k in FOLDS}
        assert sorted(i for held in predicted.values() for i in held) == sorted(ids)
        for k, held in predicted.items():
            assert held == [i for i in ids if split.fold[i] == k]
            assert not set(split.group[held]) & set(split.group[list(seen[k])])
            assert len(seen[k]) > 0.9 * (len(ids) - len(held))  # a net that saw nothing would pass too


@pytest.mark.usefixtures("here")
def test_what_is_stored_is_what_the_weights_of_the_fold_say() -> None:
    paths = Paths(tiny.solution())
    strips = open_strips(paths.cache, "train")
    store = open_store(paths.oof("fpn", 1))
    rows = [strips.image_ids.index(i) for i in store.image_ids[:4]]
    own, other = (quantise(Predictor.load(paths, "fpn", [k])(strips.images[rows]).main) for k in (1, 2))
    stored = np.stack([store.map(i) for i in range(4)])
    assert (own == stored).all()
    assert not (other == stored).all()


@pytest.mark.usefixtures("here")
def test_the_submission_and_its_score(capsys: pytest.CaptureFixture[str]) -> None:
    truth = pd.read_csv("data/tiny/raw/test_labels.csv")
    true = {(row.ImageId, row.ClassId): rle.decode(row.EncodedPixels) for row in truth.itertuples()}
    rows = pd.read_csv("submissions/tiny/submission.csv", keep_default_na=False)
    sample = list(dict.fromkeys(pd.read_csv("data/tiny/raw/sample_submission.csv").ImageId))
    assert list(rows.ImageId_ClassId) == [f"{i}_{k}" for i in sample for k in (1, 2, 3, 4)]
    assert (rows.EncodedPixels != "").any()
    values = []
    for name, text in zip(rows.ImageId_ClassId, rows.EncodedPixels, strict=True):
        image_id, class_id = name.rsplit("_", 1)
        a, b = rle.decode(text), true.get((image_id, int(class_id)), np.zeros((256, 1600), np.uint8))
        values.append(1.0 if not (a.any() or b.any()) else 2 * (a & b).sum() / (a.sum(dtype=int) + b.sum(dtype=int)))
    capsys.readouterr()
    args = ["score", "--truth", "data/tiny/raw/test_labels.csv", "--submission", "submissions/tiny/submission.csv"]
    main(args)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{len(sample)} images"
    assert lines[2].split()[2] == f"{np.mean(values):.5f}"
    main([*args, "--images", "data/tiny/raw/test_images"])
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.usefixtures("here")
def test_pictures_of_the_report_are_whole() -> None:
    for name, least_px in (("training-1-fpn-loss", 500), ("best", 1600), ("worst", 1600)):
        picture = cv2.imread(f"runs/tiny/report/{name}.png")
        assert picture is not None
        assert picture.shape[1] >= least_px


@pytest.mark.usefixtures("here")
def test_areas_of_the_index_are_those_of_the_masks() -> None:
    strips = open_strips(Path("data/tiny/cache"), "train")
    assert strips.masks is not None
    assert strips.index[AREAS].to_numpy().tolist() == [
        [int((m >> k & 1).sum()) for k in range(4)] for m in strips.masks
    ]


def test_run_all_passes_every_argument_to_every_stage(tmp_path: Path) -> None:
    shutil.copy(tiny.ROOT / "run_all.sh", tmp_path)
    for name, body in (("scripts/setup.sh", "echo setup"), (".venv/bin/steel", 'printf "%s|" "$@"; echo')):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    work = tmp_path / "elsewhere"
    work.mkdir()
    command = [str(tmp_path / "run_all.sh"), "x y.yaml", "--name", "other", "--models.fpn.loss", "{bce: 1, dice: 2}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
    ending = "|x y.yaml|--name|other|--models.fpn.loss|{bce: 1, dice: 2}|"
    assert done.stdout.splitlines() == ["setup", *(stage + ending for stage in tiny.STAGES)]
    done = subprocess.run(command[:1], cwd=work, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["setup", *(f"{stage}|configs/demo.yaml|" for stage in tiny.STAGES)]


def test_run_all_stops_at_the_first_fault(tmp_path: Path) -> None:
    tiny.write_config(tmp_path, "name: x\nmodels: {unet: {net: Unet}}\n")
    done = subprocess.run(
        [tiny.runner(tmp_path), tiny.CONFIG], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == "synth: nothing to do, x reads real data from data/severstal/raw\nprepare: new\n"
    assert "get the data with `steel download CONFIG`" in tiny.one_line(done.stderr)


def test_two_trainings_at_once_give_the_same_weights(copied: Path) -> None:
    weights = sorted(copied.glob("runs/tiny/gate/fold[01]/weights.safetensors"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in weights}
    assert len(before) == 2
    tiny.run("train", args=("--model", "gate", "--folds", "0,1", "--force", "--machine.jobs", "2"))
    for path, (content, moment) in before.items():
        assert path.read_bytes() == content
        assert path.stat().st_mtime_ns > moment
