"""Kaggle's image: what it is taken to have, the wheels that it lacks, and its like on this machine."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from steel.errors import UserError
from steel.kaggle.pack import zipped

# What the kernel imports and the image is taken to have: names on the package index, and versions as of February 2026,
# those of Colab's runtime for GPUs (Python 3.12), which Kaggle's image builds on. The image moves; nothing pins them.
IMAGE = {
    "torch": "2.10.0",
    "torchvision": "0.25.0",
    "numpy": "2.0.2",
    "pandas": "2.2.2",
    "opencv-python-headless": "4.13.0.92",
    "pillow": "11.3.0",
    "safetensors": "0.7.0",
    "huggingface_hub": "1.4.1",
    "tqdm": "4.67.3",
    "PyYAML": "6.0.3",
}
# What it imports beside, shipped in the very version that predicted here. The image has a timm (1.0.25), too, but a net
# is what its library's version makes of its name.
SHIPPED = ("segmentation_models_pytorch", "timm")
# The same for a kernel that trains. Augmentation is shipped for the same reason, though the image has the same versions
# of it; what it calls is compiled, and taken as it is there.
TRAINING_IMAGE = {
    **IMAGE,
    "scipy": "1.16.3",
    "pydantic": "2.12.3",
    "stringzilla": "4.6.0",
    "simsimd": "6.5.13",
    "tensorboard": "2.19.0",
}
TRAINING_SHIPPED = (*SHIPPED, "albumentations", "albucore")
# Files of an installed package that say how it came here, or that are no part of a wheel.
LOCAL = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def wheel(name: str) -> tuple[str, bytes]:
    """File name and bytes of the wheel of an installed package, put together again: it needs no network.

    Raises UserError for a package that is compiled: its files are for this machine's Python.
    """
    found = distribution(name)
    if "Root-Is-Purelib: true" not in (found.read_text("WHEEL") or ""):
        raise UserError(f"{name} {found.version} is no wheel of pure Python; allowed in a bundle: only such")
    kept = [
        file
        for file in found.files or []
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in LOCAL
    ]
    content = {str(file): file.read_binary() for file in sorted(kept)}
    record = f"{_title(found)}.dist-info/RECORD"
    lines = [f"{file},{file.hash.mode}={file.hash.value},{file.size}" for file in sorted(kept) if file.hash]
    content[record] = "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()
    return f"{_title(found)}-py3-none-any.whl", zipped(content)


def link_packages(folder: Path, names: Iterable[str] = IMAGE) -> None:
    """Make a folder of links to some packages and what these need, as installed here, and to no others."""
    folder.mkdir()
    for found in _with_dependencies(names).values():
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            link = folder / top
            if not link.is_symlink():  # packages may share a folder
                link.symlink_to(str(found.locate_file(top)))


def _with_dependencies(names: Iterable[str]) -> dict[str, Distribution]:
    """Installed packages of some names and all that they require, without extras."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # required on other systems or by another Python only
            continue
        waiting += [re.split(r"[^\w.-]", line)[0] for line in found[name].requires or [] if "extra ==" not in line]
    return found


def _title(found: Distribution) -> str:
    """Name and version as files have them."""
    return f"{re.sub(r'[-_.]+', '_', found.metadata['Name'])}-{found.version}"
