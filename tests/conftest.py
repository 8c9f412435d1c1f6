"""What several tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def severstal() -> Path:
    """Folder of the real sample and the real labels, which are not part of the project."""
    folder = SHARED / "severstal"
    if not folder.is_dir():
        pytest.skip(f"no real competition data at {folder}")
    return folder


@pytest.fixture(scope="session")
def encoder_file() -> Path:
    """A real pretrained encoder, which is not part of the project."""
    file = SHARED / "weights" / "resnet18_imagenet_stride16.safetensors"
    if not file.is_file():
        pytest.skip(f"no real encoder weights at {file}")
    return file
