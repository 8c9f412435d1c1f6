"""The bundle: what lies in it, nothing of this machine, and nothing written where nothing changed."""

import ast
import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tiny

from steel import files
from steel.__main__ import main
from steel.config import Solution
from steel.decide import fallback
from steel.decide.decision import Decision
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.errors import UserError
from steel.kaggle import bundle, parts
from steel.kaggle.image import SHIPPED
from steel.paths import Paths
from steel.stage import recorded

KERNEL = Path("kernels/tiny")
OFFICIAL = """
import json, sys
from kaggle.api.kaggle_api_extended import KaggleApi
api = KaggleApi()
api.config_values = {"username": "me"}
print(json.dumps(list(json.loads(open(api.kernels_initialize(sys.argv[1])).read()))))
"""


@pytest.fixture
def here(bundled: Path) -> Iterator[Path]:
    """The bundled run, to look at: as the working directory."""
    with tiny.within(bundled):
        yield bundled


@pytest.fixture
def own(bundled: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of it, to change: as the working directory."""
    tiny.copy(bundled, tmp_path)
    with tiny.within(tmp_path):
        yield Paths(tiny.solution())


def make(*args: str) -> None:
    main(["kernel", "bundle", tiny.CONFIG, "--owner", "me", *args])


def packed(text: str) -> zipfile.ZipFile:
    """The code in a kernel."""
    (code,) = [node.value for node in ast.parse(text).body if isinstance(node, ast.Assign) and _names(node) == ["CODE"]]
    assert isinstance(code, ast.Constant) and isinstance(code.value, str)
    return zipfile.ZipFile(io.BytesIO(base64.b64decode(code.value)))


def opened(content: dict[str, bytes]) -> dict[str, bytes]:
    """Files of a bundle by name, and beside them those in its packed code and its wheels."""
    inside: dict[str, bytes] = {}
    for name, data in content.items():
        if Path(name).name == "kernel.py" or name.endswith(".whl"):
            archive = zipfile.ZipFile(io.BytesIO(data)) if name.endswith(".whl") else packed(data.decode())
            inside |= {f"{name}/{member}": archive.read(member) for member in archive.namelist()}
    return content | inside


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def written() -> dict[str, int]:
    """Time of change of each file of the bundle."""
    kept = [path for path in KERNEL.rglob("*") if path.is_file() and path.name not in (".lock", "stage.json")]
    return {str(path.relative_to(KERNEL)): path.stat().st_mtime_ns for path in kept}


@pytest.mark.usefixtures("here")
def test_what_lies_in_it() -> None:
    names = sorted(name for name in written() if not name.startswith("dataset/wheels/"))
    weights = [f"dataset/{model}-fold{k}.safetensors" for model in ("fpn", "gate") for k in range(3)]
    data = [
        "dataset/dataset-metadata.json",
        "dataset/fallbacks.json",
        *weights,
        "dataset/rules.json",
        "dataset/solution.json",
    ]
    assert names == [*data, "kernel-metadata.json", "kernel.py"]
    wheels = sorted(path.name for path in (KERNEL / "dataset/wheels").iterdir())
    assert [name.partition("-")[0] for name in wheels] == sorted(SHIPPED)
    assert all(name.endswith("-py3-none-any.whl") for name in wheels)
    assert (KERNEL / "dataset/fpn-fold1.safetensors").read_bytes() == Path(
        "runs/tiny/fpn/fold1/weights.safetensors"
    ).read_bytes()
    assert (KERNEL / "dataset/rules.json").read_bytes() == Path("runs/tiny/decide/rules.json").read_bytes()


@pytest.mark.usefixtures("here")
def test_metadata() -> None:
    kernel = json.loads((KERNEL / "kernel-metadata.json").read_text())
    assert kernel["id"] == "me/steel-tiny" and kernel["title"] == "steel-tiny"
    assert kernel["dataset_sources"] == ["me/steel-tiny-weights"]
    assert kernel["competition_sources"] == ["severstal-steel-defect-detection"]
    assert (kernel["enable_gpu"], kernel["enable_internet"], kernel["is_private"]) == (True, False, True)
    assert kernel["machine_shape"] == "NvidiaTeslaT4"
    assert (KERNEL / kernel["code_file"]).is_file()
    dataset = json.loads((KERNEL / "dataset/dataset-metadata.json").read_text())
    assert dataset == {"title": "steel-tiny-weights", "id": "me/steel-tiny-weights", "licenses": [{"name": "other"}]}


@pytest.mark.usefixtures("here")
def test_the_kernel_has_the_keys_of_the_official_template(tmp_path: Path) -> None:
    env = {**os.environ, "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "none", "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", OFFICIAL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    expected = json.loads(done.stdout.splitlines()[-1])
    assert list(json.loads((KERNEL / "kernel-metadata.json").read_text())) == expected


@pytest.mark.usefixtures("here")
def test_the_kernel_says_at_its_top_what_it_is() -> None:
    text = (KERNEL / "kernel.py").read_text()
    assert len(text) < 1_000_000 and max(map(len, text.splitlines())) <= 120
    told = ast.get_docstring(ast.parse(text))
    assert told is not None
    lines = {line[:13].strip(): line[13:] for line in told.splitlines()[2:]}
    head = json.loads(Path("runs/tiny/report/cv.json").read_text())["headline"]
    low, high = head["mean_interval"]
    rule = Decision.load(Path("runs/tiny/decide/rules.json")).tuned.classes[2]
    assert "solution tiny" in told.splitlines()[0]
    assert lines["Code"].startswith("steel 0.1.0, commit ")
    assert lines["Score"] == (
        f"mean Dice {head['mean']:.5f} (95 % interval {low:.5f} to {high:.5f}) on held-out strips"
    )
    assert lines["Models"] == "fpn (FPN on tu-test_resnet), gate (test_resnet)"
    assert lines["Folds"] == "0, 1, 2" and lines["Views"] == "identity, hflip"
    assert lines["Class 3"] == bundle._asks(rule)
    first, second = fallback.load(KERNEL / "dataset/fallbacks.json")
    assert lines["Fallback 1"] == f"fpn, gate; 1 view; 3 folds; CV {first.mean:.5f}"
    assert lines["Fallback 2"] == "fpn, gate; 1 view; 1 fold; CV not measurable" and second.mean is None
    assert lines["Attach"] == "competition severstal-steel-defect-detection, dataset me/steel-tiny-weights"
    assert "@" not in text  # every place is filled


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(128, 600, 0.5), "plain, threshold 0.502, min_area_px 600, min_gate 0.500"),
        (Rule(128, 409_601, 0.5), "never shown"),
        (Rule(9, 0, 0.0, gate_power=2.0), "soft_gate, threshold 0.035, min_area_px 0, min_gate 0.000, gate_power 2"),
        (
            ExpectedRule(Calibration((0,) * 256, 0, 0, 0, 0), 0, True),
            "rank_expected, threshold each strip's own, by_score 1",
        ),
    ],
)
def test_rules_in_words(rule: Rule | ExpectedRule, text: str) -> None:
    assert bundle._asks(rule) == text


@pytest.mark.usefixtures("here")
def test_the_packed_code_is_what_predicts_and_no_more() -> None:
    archive = packed((KERNEL / "kernel.py").read_text())
    names = set(archive.namelist())
    source = tiny.ROOT / "src"
    assert all(archive.read(name) == (source / name).read_bytes() for name in names)
    assert {"steel/__init__.py", "steel/kaggle/kernel.py", "steel/infer/predictor.py", "steel/rle.py"} <= names
    assert {"steel/nets/study_segmenters.py", "steel/decide/expected.py", "steel/data/images.py"} <= names
    rooms = ("steel/report/", "steel/fit/train", "steel/cli", "steel/infer/store", "steel/data/aug", "steel/stage")
    assert not [name for name in names if name.startswith(rooms)]


@pytest.mark.usefixtures("here")
def test_nothing_of_this_machine_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, no home, no token, no image: in the files, in the packed code, in the wheels."""
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef-secret")
    make("--force")
    content = {str(path): path.read_bytes() for path in KERNEL.rglob("*") if path.is_file()}
    content = opened({n: data for n, data in content.items() if Path(n).name not in ("stage.json", ".lock")})
    private = [str(Path.cwd()), str(tiny.ROOT), sys.prefix, str(Path.home()), "0123456789abcdef-secret", "kaggle.json"]
    for text in private:
        assert len(text) < 5 or [name for name, held in content.items() if text.encode() in held] == [], text
    for folder in ("train_images", "test_images"):
        for image in Path("data/tiny/raw", folder).iterdir():
            data = image.read_bytes()
            assert [name for name, held in content.items() if data[:512] in held] == []
    assert not [name for name in content if name.lower().endswith((".jpg", ".jpeg", ".png", ".npy", ".csv"))]


def test_what_is_of_this_machine_is_left_out_of_the_configuration(own: Paths) -> None:
    solution = own.solution
    models = {name: replace(model, weights="/secret/w.pt") for name, model in solution.models.items()}
    split = replace(solution.split, known_duplicates="/secret/d.csv")
    data, ray = replace(solution.data, raw="/secret/raw"), replace(solution.ray, address="secret:6379")
    local = replace(solution, models=models, split=split, data=data, ray=ray)
    found = bundle.shipped(Paths(local))
    assert "secret" not in json.dumps(asdict(found))
    assert (found.machine.device, found.machine.threads) == ("auto", 1)  # threads as `predict` recorded them
    assert replace(found.models["fpn"], weights="/secret/w.pt") == local.models["fpn"]
    assert found.predict == local.predict


def test_nothing_changed_nothing_written(own: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    before = written()
    make()
    assert "kernel: up to date\n" in capsys.readouterr().out
    make("--force")
    assert written() == before
    assert own.kernel == KERNEL


def test_other_rules_leave_the_weights_alone(own: Paths) -> None:
    before = written()
    stray = KERNEL / "dataset/old-fold0.safetensors"
    stray.write_bytes(b"of a model that is gone")
    rules = own.decide / "rules.json"
    replace(Decision.load(rules), tuned=Rules((Rule(99, 0, 0.0),) * 4)).save(rules)
    found = bundle.make(own, (0, 1, 2), "me")
    after = written()
    assert not stray.exists()
    assert {name for name in after if after[name] != before[name]} == {"kernel.py", "dataset/rules.json"}
    assert {str(path.relative_to(KERNEL)): files.sha256(path) for path in found} == {
        name: found[KERNEL / name] for name in after
    }


@pytest.mark.usefixtures("own")
def test_an_unfinished_solution_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("submissions/tiny/submission.csv").unlink()
    message = tiny.fault(capsys, "kernel", "bundle", tiny.CONFIG, "--owner", "me")
    assert message == (
        "kernel needs 'submit', which is stale (submissions/tiny/submission.csv is gone or was changed): "
        "run `steel submit CONFIG` first"
    )


def test_it_says_that_the_dry_run_is_wanted(own: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    make()
    assert "not to be pushed before `steel kernel test CONFIG` passes" in capsys.readouterr().out
    files.write_json(own.kernel / parts.DRY_RUN, {"bundle": recorded(own.kernel)})
    make()
    assert "kernel: kernels/tiny; its dry run has passed\n" in capsys.readouterr().out
    files.write_json(own.kernel / parts.DRY_RUN, {"bundle": "of another bundle"})
    assert not parts.passed(own.kernel)


def test_models_of_different_threads_are_refused(own: Paths) -> None:
    path = own.test("gate") / "stage.json"
    path.write_text(path.read_text().replace('"threads": "1"', '"threads": "8"'))
    with pytest.raises(UserError, match="test strips predicted on 1 and 8 threads: run `steel predict CONFIG --force`"):
        bundle.shipped(own)


@pytest.mark.parametrize(("name", "slug"), [("demo", "steel-demo"), ("Unet__b3-_x_", "steel-unet-b3-x")])
def test_names_on_kaggle(name: str, slug: str) -> None:
    assert bundle.slugs(Solution(name, {})) == (slug, f"{slug}-weights")


def test_a_name_too_long_for_kaggle() -> None:
    assert len(bundle.slugs(Solution("x" * 36, {}))[1]) == 50
    with pytest.raises(UserError, match="is too long for Kaggle; allowed: at most 36 characters"):
        bundle.slugs(Solution("x" * 37, {}))


COMMANDS = "bundle|test|push|submit|train"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], f"the following arguments are required: {COMMANDS} (`steel kernel --help` lists the options)"),
        (["test", "x.yaml"], "no config file x.yaml"),
        (["bundle", tiny.CONFIG, "--onwer", "me"], "unknown option --onwer (did you mean --owner?); --help lists all"),
    ],
)
def test_a_fault_on_the_command_line(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tiny.within(tmp_path):
        tiny.write_config(tmp_path)
        assert tiny.fault(capsys, "kernel", *args) == message
