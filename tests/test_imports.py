"""What the rooms may import: the kernel runs nets, infer and decide without the tools of training and reports."""

import re
import subprocess
import sys
from pathlib import Path

import steel

BANNED = ("albumentations", "jsonargparse", "altair", "iterstrat", "sklearn", "tensorboard")
MODULES = ("steel.nets.build", "steel.infer.predict", "steel.decide.run", "steel.kaggle.submit")
SCRIPT = f"""
import importlib, sys
for module in {MODULES}:
    importlib.import_module(module)
    print(module, *(name for name in {BANNED} if name in sys.modules))
"""


def test_inference_imports_no_tools_of_training() -> None:
    """One after the other in a fresh process: what is not there in the end, none of them has imported."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*MODULES]


def test_two_modules_touch_the_official_client() -> None:
    sources = Path(steel.__file__).parent.rglob("*.py")
    touching = [path.stem for path in sources if re.search(r"^\s*(from|import) kaggle", path.read_text(), re.M)]
    assert sorted(touching) == ["client", "endpoints"]
