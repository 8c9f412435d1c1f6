"""Code to take along: all that it imports, in archives of equal bytes; and the text that unpacks it."""

import io
import zipfile
from pathlib import Path

import pytest
import tiny

from steel.kaggle import template
from steel.kaggle.pack import needed_by, zipped


def test_archives_depend_on_their_content_alone() -> None:
    data = zipped({"a/b.py": b"x = 1\n", "c": b""})
    assert data == zipped({"a/b.py": b"x = 1\n", "c": b""}) != zipped({"a/b.py": b"x = 2\n", "c": b""})
    assert zipfile.ZipFile(io.BytesIO(data)).read("a/b.py") == b"x = 1\n"


def test_a_net_of_ones_own_is_packed_with_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "my_nets.py", "import torch", "from my_parts.layers import x", "from steel import rle")
    (tmp_path / "my_parts").mkdir()
    tiny.write(tmp_path / "my_parts/layers.py", "def f():", "    from steel.nets import pooling")
    tiny.write(tmp_path / "other.py", "")
    found = needed_by(["my_nets"])
    pooling = {"steel/nets/__init__.py", "steel/nets/pooling.py"}
    assert set(found) >= {"my_nets.py", "my_parts/layers.py", "steel/__init__.py", "steel/rle.py"} | pooling
    assert not [name for name in found if name.startswith(("other", "torch"))]


def test_the_template_runs_as_it_stands() -> None:
    assert str(template.INPUT) == "/kaggle/input" and str(template.WORKING) == "/kaggle/working"


@pytest.mark.parametrize("place", ["x", "competitions/x", "datasets/me/x"])
def test_attached_folders_are_found_where_kaggle_puts_them(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "INPUT", tmp_path)
    (tmp_path / "y").mkdir()
    with pytest.raises(SystemExit, match=r"x is not attached to the kernel: .* holds y"):
        template.attached("x")
    (tmp_path / place).mkdir(parents=True)
    assert template.attached("x") == tmp_path / place
