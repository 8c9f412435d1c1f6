"""What goes up to a training kernel: all that it needs, and nothing of this machine."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import there
import tiny
from test_bundle import opened, packed

from steel.__main__ import main
from steel.errors import UserError
from steel.fit import train
from steel.kaggle import parts, train_bundle
from steel.kaggle.image import TRAINING_IMAGE, TRAINING_SHIPPED, wheel
from steel.kaggle.training import Training

FOLDER = Path("kernels/tiny-train-gate-f0-1")


@pytest.fixture
def own(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """A copy of the prepared solution, as the working directory."""
    tiny.copy(prepared, tmp_path)
    monkeypatch.setattr(train_bundle, "wheel", there.wheel)
    with tiny.within(tmp_path):
        yield there.training()


def bundle(training: Training, left: tuple[int, ...] = (0, 1)) -> dict[str, bytes]:
    """What is in a bundle, by name."""
    return {str(path): path.read_bytes() for path in train_bundle.make(training, left)}


def test_what_lies_in_it(own: Training) -> None:
    found = bundle(own)
    names = sorted(name.removeprefix(f"{FOLDER}/") for name in found if "/wheels/" not in name)
    data = ["dataset/dataset-metadata.json", "dataset/folds.csv", "dataset/job.json", "dataset/solution.json"]
    assert names == [*data, "kernel-metadata.json", "kernel.py"]
    assert found[f"{FOLDER}/dataset/folds.csv"] == Path("folds/tiny.csv").read_bytes()
    job = json.loads(found[f"{FOLDER}/dataset/job.json"])
    assert (job["model"], job["folds"], job["limit_s"]) == ("gate", [0, 1], 11 * 3600)
    assert list(json.loads(found[f"{FOLDER}/dataset/solution.json"])["models"]) == ["gate"]
    wheels = sorted(Path(name).name.partition("-")[0] for name in found if name.endswith("-py3-none-any.whl"))
    assert wheels == sorted(TRAINING_SHIPPED) and not set(TRAINING_SHIPPED) & set(TRAINING_IMAGE)
    kernel = json.loads(found[f"{FOLDER}/kernel-metadata.json"])
    assert kernel["id"] == "me/steel-tiny-train-gate-f0-1" and kernel["machine_shape"] == "NvidiaTeslaT4"
    assert kernel["dataset_sources"] == ["me/steel-tiny-train-gate-f0-1-data"] and kernel["enable_gpu"] is True
    assert json.loads(found[f"{FOLDER}/dataset/dataset-metadata.json"])["id"] == kernel["dataset_sources"][0]
    assert len(found[f"{FOLDER}/kernel.py"]) < 1_000_000 and b"@" not in found[f"{FOLDER}/kernel.py"]


def test_the_whole_package_is_packed(own: Training) -> None:
    """So that the record's digest of the code there is that of the same code here."""
    archive = packed(bundle(own)[f"{FOLDER}/kernel.py"].decode())
    source = tiny.ROOT / "src"
    assert {name: archive.read(name) for name in archive.namelist()} == {
        str(path.relative_to(source)): path.read_bytes() for path in (source / "steel").rglob("*.py")
    }


@pytest.mark.usefixtures("own")
def test_nothing_of_this_machine_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, no home, no token, no image; in a checkpoint that goes up, neither."""
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef-secret")
    raw = Path("strips").absolute()
    training = there.training("--data.raw", str(raw))
    with pytest.raises(train.OutOfTime):
        train.make(training.paths, "gate", 0, train.Deadline(0.0))
    found = opened(bundle(training))
    assert f"{FOLDER}/dataset/fold0.last.pt" in found
    for private in (str(raw), str(Path.cwd()), str(tiny.ROOT), sys.prefix, str(Path.home()), "0123456789abcdef-secret"):
        assert len(private) < 6 or [name for name, held in found.items() if private.encode() in held] == [], private
    for image in (raw / "train_images").iterdir():
        assert [name for name, held in found.items() if image.read_bytes()[:512] in held] == []


@pytest.mark.parametrize(
    ("weights", "internet", "sent"), [("imagenet", True, []), ("null", False, []), ("w/r.pt", False, ["encoder.pt"])]
)
@pytest.mark.usefixtures("own")
def test_weights(weights: str, internet: bool, sent: list[str]) -> None:
    """Downloaded there, or sent along; the internet only for the first."""
    Path("w").mkdir()
    Path("w/r.pt").write_bytes(b"tensors")
    found = bundle(there.training("--models.gate.weights", weights))
    assert [Path(name).name for name in found if "encoder" in name] == sent
    assert not sent or found[f"{FOLDER}/dataset/encoder.pt"] == b"tensors"
    assert json.loads(found[f"{FOLDER}/kernel-metadata.json"])["enable_internet"] is internet


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("/home/w.pt", "weights: /home/w.pt cannot be sent; allowed: a relative path, below the working directory"),
        ("../w.pt", "weights: ../w.pt cannot be sent; allowed: a relative path, below the working directory"),
        ("w.pt", "weights: w.pt is no file; allowed: imagenet, a .safetensors or .pt file, or null"),
    ],
)
def test_weights_that_cannot_go_up(weights: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["kernel", "train", tiny.CONFIG, "--model", "gate", "--owner", "me", "--models.gate.weights", weights]
    assert tiny.fault(capsys, *line) == message


def test_modules_of_ones_own_are_packed(own: Training) -> None:
    tiny.write(Path("my_nets.py"), "from my_parts import layer")
    for name in ("my_parts", "my_losses", "my_recipes", "other"):
        tiny.write(Path(f"{name}.py"), "")
    model = replace(
        own.config, net="my_nets:f", loss={"my_losses:g": 1.0}, augment={"default": "none", "2": "my_recipes:h"}
    )
    found = [name for name in train_bundle.packed(model) if not name.startswith("steel/")]
    assert found == ["my_losses.py", "my_nets.py", "my_parts.py", "my_recipes.py"]


def test_all_packages_that_are_shipped_are_pure() -> None:
    assert [wheel(name)[0].partition("-")[0] for name in TRAINING_SHIPPED] == list(TRAINING_SHIPPED)


def test_each_training_has_a_name_of_its_own(own: Training) -> None:
    kernels = [("gate", (1, 2)), ("gate-1", (2,)), ("gate-f1", (2,)), ("gate-f1", (1, 2)), ("gate", (12,))]
    names = [Training(own.paths, model, folds, "me").names[0] for model, folds in kernels]
    assert names[:2] == ["me/steel-tiny-train-gate-f1-2", "me/steel-tiny-train-gate-1-f2"]
    assert len(set(names)) == len(names)


@pytest.mark.usefixtures("own")
def test_two_solutions_that_are_one_for_kaggle() -> None:
    """Neither a training nor a finished solution takes the kernel of another; its own, it replaces."""
    bundle(there.training("--name", "ti-ny"))
    bundle(there.training("--name", "ti-ny"))
    with pytest.raises(UserError) as refused:
        bundle(there.training("--name", "ti_ny"))
    assert str(refused.value) == (
        "kernels/ti_ny-train-gate-f0-1: Kaggle would call its kernel me/steel-ti-ny-train-gate-f0-1, as that of "
        "kernels/ti-ny-train-gate-f0-1; allowed: another name, or that folder moved away"
    )
    assert not Path("kernels/ti_ny-train-gate-f0-1").exists()
    metadata = {
        "kernel-metadata.json": parts.as_json(parts.kernel_metadata("me/steel-ti-ny", "me/steel-ti-ny-weights"))
    }
    parts.write(Path("kernels/ti_ny"), metadata)
    with pytest.raises(UserError, match=r"^kernels/Ti-ny: Kaggle would call its kernel me/steel-ti-ny, as that of "):
        parts.write(Path("kernels/Ti-ny"), metadata)


def test_the_help_tells_of_folds_and_force(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["kernel", "train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--folds 0,1 trains on these folds alone" in told and "--force sends it anew" in told
