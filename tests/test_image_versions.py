"""The dry run on the versions of Kaggle's image itself, as far as they can be installed beside this torch."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import tiny

from steel.__main__ import main
from steel.kaggle import dryrun, image

pytestmark = pytest.mark.slow
THEIRS = ("numpy", "pandas")  # what differs most from the versions here, and makes numbers


def test_their_numpy_and_pandas_give_the_same_bytes(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    wanted = [f"{name}=={image.IMAGE[name]}" for name in THEIRS]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--target",
        str(theirs),
        *wanted,
    ]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{' '.join(wanted)} cannot be installed: no network, or no such wheel for this Python")

    def link(folder: Path, names: Iterable[str] = image.IMAGE) -> None:
        image.link_packages(folder, names)
        for path in theirs.iterdir():
            (folder / path.name).unlink(missing_ok=True)
            (folder / path.name).symlink_to(path)

    own = tiny.copy(bundled, tmp_path / "own")
    script = own / "kernels/tiny/kernel.py"
    monkeypatch.setattr(dryrun, "link_packages", link)
    seen: list[str] = []
    run = dryrun.execute

    def execute(root: Path, script: Path, variables: dict[str, str], limit_s: float) -> dryrun.Usage:
        tiny.write(
            root / "versions.py",
            "import runpy, sys, numpy, pandas",
            "print('versions', numpy.__version__, pandas.__version__)",
            f"runpy.run_path({str(script)!r}, run_name='__main__')",
        )
        usage = run(root, root / "versions.py", variables, limit_s)
        seen.extend(usage.log)
        return usage

    monkeypatch.setattr(dryrun, "execute", execute)
    with tiny.within(own):
        assert script.exists()
        main(["kernel", "test", tiny.CONFIG])
    assert f"versions {image.IMAGE['numpy']} {image.IMAGE['pandas']}" in seen
    assert "kernel test: passed" in capsys.readouterr().out
