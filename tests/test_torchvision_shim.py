"""torchvision imports, with or without a library of its own that fits torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from steel.nets import torchvision_shim as shim

SCRIPT = """
from steel.nets import torchvision_shim as shim
shim._library_loads = lambda package: {loads}
shim.ensure_torchvision_imports()
shim.ensure_torchvision_imports()
print(len(shim._kept))
{more}
"""


def run(loads: str, more: str = "") -> str:
    script = SCRIPT.format(loads=loads, more=more)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module")
def own_library_loads() -> bool:
    """Whether torchvision here brings a library that fits torch."""
    script = "from steel.nets.torchvision_shim import *; from steel.nets import torchvision_shim as s; "
    script += "import importlib.util as u; from pathlib import Path; "
    script += "print(s._library_loads(Path(u.find_spec('torchvision').origin).parent))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    return result.stdout.strip() == "True"


def test_declared_once_where_the_library_is_missing(own_library_loads: bool) -> None:
    if own_library_loads:
        pytest.skip("torchvision's own library is loaded here and has declared the operators")
    more = "import torchvision, torch; torch.ops.torchvision.nms; torch.ops.torchvision.qnms; import timm"
    assert run("False", more) == "1"


def test_left_alone_where_the_library_loads() -> None:
    assert run("True") == "0"


def test_no_library_and_a_broken_one_do_not_load(tmp_path: Path, own_library_loads: bool) -> None:
    if own_library_loads:
        pytest.skip("torchvision's own library has declared the operators already")
    script = (
        "import sys; from pathlib import Path; from steel.nets import torchvision_shim as s; "
        "print(s._library_loads(Path(sys.argv[1])))"
    )
    for content in (None, b"not a library"):
        if content:
            (tmp_path / "_C.so").write_bytes(content)
        command = [sys.executable, "-c", script, str(tmp_path)]
        assert subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.strip() == "False"


def test_here_torchvision_imports() -> None:
    shim.ensure_torchvision_imports()
    import torchvision

    assert torchvision.__version__
