"""A small kernel with its dataset, in the working directory, to be sent to a Kaggle of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kaggle_push_server import PushServer, taking
from kaggle_server import USER

from steel import files
from steel.competition import SLUG
from steel.errors import UserError

FOLDER = Path("kernels/x")
DATASET, KERNEL = f"{USER}/steel-x-weights", f"{USER}/steel-x"
SENT = {"a.safetensors": b"weights", "rules.json": b"{}", "wheels/b.whl": b"wheel", "wheels/c/d.whl": b"other"}


@contextmanager
def place(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[PushServer]:
    """Work in a folder with the bundle; the real client finds the server."""
    patch.chdir(folder)
    bundle()
    with taking(patch, folder) as server:
        yield server


def bundle(owner: str = USER, title: str = "steel-x") -> None:
    """A kernel and its dataset."""
    for name, data in SENT.items():
        path = FOLDER / "dataset" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    dataset = {"id": f"{owner}/steel-x-weights", "title": "steel-x-weights", "licenses": [{"name": "other"}]}
    files.write_json(FOLDER / "dataset/dataset-metadata.json", dataset)
    kernel: dict[str, Any] = {"id": f"{owner}/steel-x", "title": title, "code_file": "kernel.py", "language": "python"}
    kernel |= {"kernel_type": "script", "enable_gpu": True, "enable_internet": False, "machine_shape": "NvidiaTeslaT4"}
    kernel |= {"dataset_sources": [f"{owner}/steel-x-weights"], "competition_sources": [SLUG]}
    files.write_json(FOLDER / "kernel-metadata.json", kernel)
    (FOLDER / "kernel.py").write_text("print('hello')\n")


def fault(function: Any, *args: Any) -> str:
    """What a function says when it refuses: one line."""
    with pytest.raises(UserError) as refusal:
        function(*args)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)
