"""What several tests share."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch is imported

from steel.nets.torchvision_shim import ensure_torchvision_imports

ensure_torchvision_imports()  # some tests import timm before any net is built
# A shell's background job ignores Ctrl-C, and so would the programs that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from steel.paths import Paths

# Writing parquet needs a package that comes with Ray: `make test-cluster` has it, and runs these.
collect_ignore = [] if find_spec("pyarrow") else ["test_stream_parts.py"]
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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of the processes of a test run makes, and all of them use."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not Path(f"{folder}.made").exists():
            folder.mkdir()
            make(folder)
            Path(f"{folder}.made").touch()
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of one undisturbed training of each kind on the toy data set."""
    import toy

    root = toy.fresh(tmp_path_factory.mktemp("trained"))
    return {name: toy.run(root, name) for name in toy.MODELS}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: small nets are faster so, and their bits depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the tiny solution has been through every stage; harm only copies of it."""
    import tiny

    return made_once(tmp_path_factory, "finished", tiny.finish)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished run, as the working directory."""
    import tiny

    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        yield tmp_path


@pytest.fixture
def paths(finished: Path) -> Iterator["Paths"]:
    """The finished run, to look at: as the working directory."""
    import tiny

    from steel.paths import Paths

    with tiny.within(finished):
        yield Paths(tiny.solution())


@pytest.fixture
def changed(copied: Path) -> "Paths":
    """A copy of the finished run, to change: as the working directory."""
    import tiny

    from steel.paths import Paths

    assert copied.is_dir()
    return Paths(tiny.solution())


@pytest.fixture(scope="session")
def bundled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with its Kaggle kernel, made by the user `me`; harm only copies of it."""
    import tiny

    from steel.__main__ import main

    def make(folder: Path) -> None:
        with tiny.within(tiny.copy(finished, folder)):
            main(["kernel", "bundle", tiny.CONFIG, "--owner", "me"])

    return made_once(tmp_path_factory, "bundled", make)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tiny solution prepared and split, for trainings elsewhere; harm only copies of it."""
    import there

    return made_once(tmp_path_factory, "prepared", there.make_base)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits for a Kaggle of our own that do not last: those asked for, s."""
    import kaggle_server

    return kaggle_server.waits(monkeypatch)
