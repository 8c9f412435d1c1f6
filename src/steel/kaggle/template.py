"""@HEADER@"""

import base64
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

COMPETITION, DATASET = "@COMPETITION@", "@DATASET@"
INPUT = Path(os.environ.get("STEEL_INPUT", "/kaggle/input"))
WORKING = Path(os.environ.get("STEEL_WORKING", "/kaggle/working"))
# Modules of the package `steel`, as a zip in base64.
CODE = """
@CODE@
"""


def attached(name: str) -> Path:
    """The folder of an attached competition or dataset, at whichever of the depths that Kaggle has mounted them."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for folder in INPUT.glob(pattern):
            if folder.is_dir():
                return folder
    there = ", ".join(sorted(folder.name for folder in INPUT.glob("*"))) or "nothing"
    raise SystemExit(f"{name} is not attached to the kernel: {INPUT} holds {there}")


def main() -> None:
    """Unpack wheels and code, and run."""
    competition, dataset = attached(COMPETITION), attached(DATASET)
    with tempfile.TemporaryDirectory() as folder:
        # The wheels are pure Python, so that to unpack them is to install them: pip, which would do no more, takes
        # longer and changes the image. They come first: the image's own timm is another version.
        for wheel in sorted(dataset.rglob("*.whl")):
            zipfile.ZipFile(wheel).extractall(folder)
        zipfile.ZipFile(io.BytesIO(base64.b64decode(CODE))).extractall(folder)
        sys.path.insert(0, folder)
        from steel.kaggle.kernel import run

        run(competition, dataset, WORKING)


if __name__ == "__main__":
    main()
