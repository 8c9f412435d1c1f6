"""What every bundle for Kaggle is made of: names, a kernel of one file, metadata, files written where they differ."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steel import files
from steel.competition import SLUG
from steel.errors import UserError
from steel.kaggle import template
from steel.kaggle.pack import zipped
from steel.stage import recorded

LINE_CHARS = 116  # of the packed code
SLUG_CHARS = 50  # at most, in the address of a dataset
TEMPLATE_RUNS = "steel.kaggle.kernel"
DATASET, KERNEL = "dataset-metadata.json", "kernel-metadata.json"
DRY_RUN = "dry_run.json"  # what a dry run has shown, and of which bundle


def slugs(name: str, what: str) -> tuple[str, str]:
    """What Kaggle calls a kernel and its dataset: steel-NAME and steel-NAME-WHAT."""
    slug = "steel-" + re.sub(r"[-_]+", "-", name).strip("-").lower()
    if len(f"{slug}-{what}") > SLUG_CHARS:
        most = SLUG_CHARS - len(f"steel--{what}")
        raise UserError(f"name: {name!r} is too long for Kaggle; allowed: at most {most} characters")
    return slug, f"{slug}-{what}"


def kernel_text(header: str, dataset: str, runs: str, code: Mapping[str, Path]) -> str:
    """Text of a kernel: the template with its header, the dataset "owner/slug", the packed code, the module it runs."""
    data = base64.b64encode(zipped({name: path.read_bytes() for name, path in code.items()})).decode()
    lines = [data[i : i + LINE_CHARS] for i in range(0, len(data), LINE_CHARS)]
    values = {"HEADER": header, "COMPETITION": SLUG, "DATASET": dataset.partition("/")[2], "CODE": "\n".join(lines)}
    found = Path(template.__file__).read_text(encoding="utf-8").replace(TEMPLATE_RUNS, runs)
    for key, value in values.items():
        found = found.replace(f"@{key}@", value)
    return found


def kernel_metadata(kernel: str, dataset: str, internet: bool = False) -> dict[str, Any]:
    """What Kaggle is told of a kernel; kernel and dataset as "owner/slug"."""
    return {
        "id": kernel,
        "title": kernel.partition("/")[2],
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": internet,
        "machine_shape": "NvidiaTeslaT4",  # the default, a P100, is too old for today's torch
        "dataset_sources": [dataset],
        "competition_sources": [SLUG],
        "kernel_sources": [],
        "model_sources": [],
    }


def dataset_metadata(dataset: str) -> dict[str, Any]:
    """What Kaggle is told of a dataset "owner/slug"."""
    return {"title": dataset.partition("/")[2], "id": dataset, "licenses": [{"name": "other"}]}


def passed(folder: Path) -> bool:
    """Whether the bundle that stands in a folder has passed its dry run."""
    record = folder / DRY_RUN
    return record.exists() and files.read_json(record)["bundle"] == recorded(folder)


def as_json(value: Any) -> bytes:
    """The bytes of a JSON file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def write(folder: Path, content: Mapping[str, bytes | Path]) -> dict[Path, str]:
    """Write what differs from what is there, delete what is no part of its `dataset/`; digests of all files."""
    if isinstance(metadata := content.get(KERNEL), bytes):
        _refuse_twin(folder, json.loads(metadata)["id"])
    outputs = {folder / name: _put(folder / name, value) for name, value in content.items()}
    for path in list((folder / "dataset").rglob("*")):
        if path.is_file() and path not in outputs:
            path.unlink()
    return outputs


def _refuse_twin(folder: Path, kernel: str) -> None:
    """A UserError if the bundle of another folder has a kernel of this name: a_b and a-b are one for Kaggle."""
    for path in sorted(folder.parent.glob(f"*/{KERNEL}")):
        if path.parent != folder and files.read_json(path)["id"] == kernel:
            raise UserError(
                f"{folder}: Kaggle would call its kernel {kernel}, as that of {path.parent}; "
                "allowed: another name, or that folder moved away"
            )


def _put(path: Path, value: bytes | Path) -> str:
    """Write a file, or copy it, unless its bytes are there already; its digest."""
    wanted = files.sha256(value) if isinstance(value, Path) else hashlib.sha256(value).hexdigest()
    if not path.exists() or files.sha256(path) != wanted:
        with files.atomic(path) as temporary:
            if isinstance(value, Path):
                shutil.copyfile(value, temporary)
            else:
                temporary.write_bytes(value)
    return wanted
