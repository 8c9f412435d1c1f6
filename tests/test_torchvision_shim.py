"""torchvision imports, with or without a library of its own that fits torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import importlib.util, json, sys
from pathlib import Path
from steel.nets import torchvision_shim as shim
loads = shim._library_loads
empty, broken = map(Path, sys.argv[1:])
found = {"none": loads(empty), "broken": loads(broken)}
shim._library_loads = lambda package: True
shim.ensure_torchvision_imports()
found["declared where it loads"] = len(shim._kept)
shim._library_loads = loads
shim.ensure_torchvision_imports()
shim.ensure_torchvision_imports()
found["declared here"] = len(shim._kept)
import torch, torchvision
found["operators"] = [hasattr(torch.ops.torchvision, name) for name in ("nms", "qnms")]
found["own"] = loads(Path(torchvision.__file__).parent) and not shim._kept
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a fresh process says, which imports torchvision after the shim."""
    empty, broken = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("broken")
    (broken / "_C.so").write_bytes(b"not a library")
    command = [sys.executable, "-c", SCRIPT, str(empty), str(broken)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_no_library_and_a_broken_one_do_not_load(found: dict) -> None:
    assert (found["none"], found["broken"]) == (False, False)


def test_left_alone_where_the_library_loads(found: dict) -> None:
    assert found["declared where it loads"] == 0


def test_declared_once_where_it_does_not(found: dict) -> None:
    assert found["declared here"] == (0 if found["own"] else 1)
    assert found["operators"][0]


def test_here_torchvision_imports() -> None:
    from steel.nets.torchvision_shim import ensure_torchvision_imports

    ensure_torchvision_imports()
    import torchvision

    assert Path(torchvision.__file__).exists()
