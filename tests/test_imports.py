"""What the rooms may import: the kernel runs nets, infer and decide without the tools of training and reports."""

import subprocess
import sys

import pytest

BANNED = ("albumentations", "jsonargparse", "matplotlib", "iterstrat", "sklearn", "tensorboard")
MODULES = ("steel.nets.build", "steel.infer.predict", "steel.decide.run", "steel.kaggle.submit")


@pytest.mark.parametrize("module", MODULES)
def test_inference_imports_no_tools_of_training(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {BANNED} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
