"""Let torchvision import where its compiled library does not fit torch, as beside torch's CPU-only build.

smp and timm import torchvision, whose import registers fake versions of operators that its library should have
declared. When the library cannot load, declaring the two schemas is enough; the operators themselves are never called.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []  # a library's declarations live as long as the object


def ensure_torchvision_imports() -> None:
    """Declare torchvision's `nms` and `qnms` if its own library cannot; call it before smp or timm is imported."""
    found = importlib.util.find_spec("torchvision")
    if _kept or found is None or found.origin is None or _library_loads(Path(found.origin).parent):
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)
    _kept.append(library)


def _library_loads(package: Path) -> bool:
    for library in package.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")
