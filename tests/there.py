"""Trainings on a Kaggle of our own, in this process: what the tests of `steel kernel train` share."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny

from steel import files
from steel.competition import SLUG
from steel.data import prepare
from steel.kaggle import client, image, parts, remote, train_bundle, train_kernel, train_trial
from steel.kaggle.dryrun import Usage
from steel.kaggle.remote import KernelFailed
from steel.kaggle.training import Training
from steel.paths import Paths
from steel.stage import recorded

RAW = Path("strips")
YAML = tiny.YAML.replace("synth: {n_train: 32, n_test: 6, seed: 1}", f"raw: {RAW}").replace("width: 1600", "width: 320")
SYNTH = ("--data.raw", "null", "--data.synth", "{n_train: 18, n_test: 1, seed: 1}")


wheel = cache(image.wheel)  # to make them takes longer than all else


def make_base(folder: Path) -> Path:
    """The tiny solution on strips of its own, prepared and split; trainings of `gate` on folds 0 and 1 lie aside."""
    tiny.write_config(folder, YAML)
    with tiny.within(folder):
        tiny.run("synth", args=SYNTH)
        Path("data/tiny/raw").rename(RAW)
        tiny.run("prepare", "folds")
        tiny.run("train", args=("--model", "gate", "--folds", "0,1"))
        Path("runs").rename("trained_here")
    return folder


def training(*args: str, model: str = "gate", folds: tuple[int, ...] = (0, 1)) -> Training:
    """The kernel that trains a model of the solution of the working directory."""
    return Training(Paths(tiny.solution(*args)), model, folds, "me")


def weights(folder: str, fold: int) -> bytes:
    """What the gate was trained to."""
    return Path(folder, f"tiny/gate/fold{fold}/weights.safetensors").read_bytes()


def set_limit(dataset: Path, limit_s: float) -> None:
    """Give the kernel of a dataset another time limit."""
    job = files.read_json(dataset / "job.json")
    files.write_json(dataset / "job.json", {**job, "limit_s": limit_s})


class Kaggle:
    """Takes what is sent, and runs a kernel when it is waited for; `asked` are the calls in order.

    A kernel that ran before on the same dataset leaves the same again. `ended`: how it says that its folds ended; one
    that fails leaves nothing without.
    """

    ran: ClassVar[dict[tuple[str, ...], Path]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder, self.competition = folder, RAW.absolute()
        self.asked: list[str] = []
        self.version, self.limit_s = 0, 1e6
        self.fault: Exception | None = None
        self.ended: dict[str, str] = {}

    def serve(self, patch: pytest.MonkeyPatch) -> "Kaggle":
        """Stand in for the calls over the network, and for another process."""
        for name in ("send_dataset", "send_kernel", "wait_kernel", "fetch_output"):
            patch.setattr(remote, name, getattr(self, name))
        patch.setattr(client, "open_api", lambda: "api")
        patch.setattr(train_trial, "run", self.try_out)
        patch.setattr(train_bundle, "wheel", wheel)
        patch.setattr(prepare, "cores", lambda: 1)
        return self

    def send_dataset(self, api: Any, folder: Path) -> int:
        assert api == "api"
        self.asked.append("dataset")
        shutil.copytree(folder, self.folder / f"dataset{self.version + 1}", dirs_exist_ok=True)
        return 1

    def send_kernel(self, api: Any, folder: Path) -> int:
        assert api == "api" and json.loads((folder / "kernel-metadata.json").read_text())["code_file"] == "kernel.py"
        self.asked.append("kernel")
        self.version += 1
        return self.version

    def wait_kernel(self, api: Any, kernel: str) -> None:
        assert api == "api" and kernel == f"me/steel-tiny-train-gate-f0-1/{self.version}"
        self.asked.append("wait")
        if self.fault and not (self.ended and isinstance(self.fault, KernelFailed)):
            raise self.fault
        working, dataset = self.folder / f"version{self.version}/working", self.folder / f"dataset{self.version}"
        set_limit(dataset, self.limit_s)
        key = tuple(tiny.contents(dataset).values())
        if key not in self.ran:
            train_kernel.run(self.competition, dataset, working)
            self.ran[key] = working
        elif not working.exists():
            shutil.copytree(self.ran[key], working)
        if self.fault:
            raise self.fault

    def fetch_output(self, api: Any, kernel: str, folder: Path) -> list[Path]:
        assert api == "api" and kernel.endswith(f"/{self.version}")
        self.asked.append("fetch")
        folder.mkdir(parents=True)
        if (working := self.folder / f"version{self.version}/working").exists():
            shutil.copytree(working, folder, dirs_exist_ok=True)
            result = files.read_json(folder / "result.json")
            files.write_json(folder / "result.json", {**result, "ended": self.ended or result["ended"]})
        tiny.write(folder / "steel-tiny-train-gate-f0-1.log", "all of it")
        return list(folder.rglob("*"))

    def try_out(self, training: Training, fold: int) -> None:
        assert fold in training.folds
        self.asked.append("dry run")
        files.write_json(training.folder / parts.DRY_RUN, {"bundle": recorded(training.folder)})


def execute(root: Path, script: Path, _environment: dict[str, str], _limit_s: float, packages: Any) -> Usage:
    """Stands in for `dryrun.execute`: in this process."""
    assert script.read_text().startswith('"""Kaggle kernel me/steel-tiny-train-')
    assert "tensorboard" in packages and "albumentations" not in packages
    (dataset,) = (path for path in (root / "input").iterdir() if path.name != SLUG)
    train_kernel.run(root / "input" / SLUG, dataset, root / "working")
    return Usage(1.0, 2**30, "namespace", [])
