"""Whether a node is fit for the work: the same program and packages, and the same files before its eyes."""

import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from steel.cluster.connect import Node
from steel.errors import UserError, shorten
from steel.stage import source_digest

PACKAGES = ("torch", "numpy", "opencv-python-headless", "segmentation-models-pytorch", "timm", "albumentations")

SEEN_WITHIN_S = 10.0


def versions() -> dict[str, str]:
    """What must be the same everywhere: Python, packages (builds for a GPU and without are alike), this program."""
    known = {"Python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            known[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            known[package] = "missing"
    return known | {"steel": source_digest((".",))}


@dataclass(frozen=True)
class Footing:
    """What a job counts on, wherever it runs.

    Attributes:
        folder: the working directory, shared by all nodes under this path.
        token: file in it that this program has just written.
        seals: files in it and their text, the token among them.
        versions: as given by `versions`.
    """

    folder: Path
    token: Path
    seals: dict[str, str]
    versions: dict[str, str]

    def reply(self, node_id: str) -> Path:
        """Where a node writes that it has seen the token."""
        return self.token.with_name(f"{self.token.name}-{node_id}")

    def fault(self) -> str:
        """What this node lacks; empty if nothing. It leaves the working directory changed to the folder."""
        for name, found in versions().items():
            if found != self.versions[name]:
                return f"it has {name} {found}, and the program that asks has {self.versions[name]}"
        try:
            os.chdir(self.folder)
        except OSError as error:
            return f"it has no folder {self.folder} ({error.strerror})"
        for path, text in self.seals.items():
            if not Path(path).is_file() or Path(path).read_text() != text:
                return f"its folder {self.folder} is not that of the program that asks ({path} is another or missing)"
        return ""


def survey(footing: Footing, nodes: Sequence[Node]) -> None:
    """Let each node look at its footing, and write where all can read; a UserError names those that are unfit."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    visit = ray.remote(_visit)
    here = {node.id: NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes}
    asked = [visit.options(num_cpus=0, scheduling_strategy=here[node.id]).remote(footing, node.id) for node in nodes]
    faults = []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            fault = ray.get(reference) or _unseen(footing, node.id)
        except ray.exceptions.RayError as error:
            fault = f"it cannot run this program ({str(error).strip().splitlines()[-1]})"
        faults += [f"node {node.name}: {fault}"] if fault else []
    if faults:
        raise UserError(f"ray: {shorten(faults)}; give all nodes the same, or set ray.storage if no folder is shared")


def _visit(footing: Footing, node_id: str) -> str:
    fault = footing.fault()
    if not fault:
        footing.reply(node_id).write_text(node_id)
    return fault


def _unseen(footing: Footing, node_id: str) -> str:
    """What is wrong if a node's reply does not show here; a network file system may take its time."""
    reply, end = footing.reply(node_id), time.monotonic() + SEEN_WITHIN_S
    while not reply.is_file():
        if time.monotonic() > end:
            return f"what it writes to its folder {footing.folder} does not show here"
        time.sleep(0.1)
    reply.unlink()
    return ""


@contextmanager
def sealed(folder: Path, seals: Sequence[Path]) -> Iterator[Footing]:
    """A footing in the working directory; below `folder` lies a token for the time of the block."""
    token = folder / f".shared-{secrets.token_hex(8)}"
    folder.mkdir(parents=True, exist_ok=True)
    token.write_text(token.name)
    try:
        texts = {str(path): path.read_text() for path in (token, *seals) if path.is_file()}
        yield Footing(Path.cwd(), token, texts, versions())
    finally:
        token.unlink(missing_ok=True)
