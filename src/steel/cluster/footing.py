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
from steel.cluster.connect import nodes as alive
from steel.cluster.storage import Storage
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
        folder: the working directory of the program that asks, and of all nodes if they share it.
        token: file in it that this program has just written.
        seals: files in it and their text, the token among them.
        versions: as given by `versions`.
        storage: where the files travel if nodes have folders of their own; empty if they share one.
    """

    folder: Path
    token: Path
    seals: dict[str, str]
    versions: dict[str, str]
    storage: str = ""

    def answer(self, node_id: str) -> Path:
        """Where a node says that it has seen the token."""
        return self.token.with_name(f"{self.token.name}-{node_id}")

    def fault(self) -> str:
        """What this node lacks; empty if nothing. It leaves the working directory changed to the folder."""
        for name, found in versions().items():
            if found != self.versions[name]:
                return f"it has {name} {found}, and the program that asks has {self.versions[name]}"
        try:
            here = self._enter()
        except OSError as error:
            return f"it cannot reach folder {self.folder} ({error.strerror or error})"
        except UserError as error:
            return f"it cannot reach the files ({error})"
        for path, text in self.seals.items():
            if here[path] != text:
                where = self.storage or f"its folder {self.folder}"
                return f"{where} is not that of the program that asks ({path} is another or missing)"
        return ""

    def _enter(self) -> dict[str, str | None]:
        """Make the folder the working directory, or one of this node's own; what the seals say here."""
        if not self.storage:
            os.chdir(self.folder)
            return {path: Path(path).read_text() if Path(path).is_file() else None for path in self.seals}
        storage = Storage(self.storage)
        storage.folder.mkdir(parents=True, exist_ok=True)
        os.chdir(storage.folder)
        return {path: storage.text(Path(path)) for path in self.seals}

    def reply(self, node_id: str) -> None:
        """Say that this node, whose working directory is the folder, has seen the token."""
        answer = self.answer(node_id)
        answer.parent.mkdir(parents=True, exist_ok=True)  # a folder of this node's own may be empty
        answer.write_text(node_id)
        if self.storage:
            Storage(self.storage).push(answer)
            answer.unlink()


def survey(footing: Footing, nodes: Sequence[Node]) -> None:
    """Let each node look at its footing, and write where all can read; a UserError names those that are unfit.

    A node that is lost meanwhile, or was before its cluster has noticed, is nobody's fault.
    """
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
            if node.id not in {other.id for other in alive()}:
                continue
            fault = f"it cannot run this program ({str(error).strip().splitlines()[-1]})"
        faults += [f"node {node.name}: {fault}"] if fault else []
    if faults:
        raise UserError(f"ray: {shorten(faults)}; give all nodes the same, or set ray.storage if no folder is shared")


def _visit(footing: Footing, node_id: str) -> str:
    fault = footing.fault()
    if not fault:
        footing.reply(node_id)
    return fault


def _unseen(footing: Footing, node_id: str) -> str:
    """What is wrong if a node's reply does not show here; a network file system may take its time."""
    answer, end = footing.answer(node_id), time.monotonic() + SEEN_WITHIN_S
    while not answer.is_file():
        if time.monotonic() > end:
            return f"what it writes to {footing.storage or f'its folder {footing.folder}'} does not show here"
        time.sleep(0.1)
        if footing.storage:
            Storage(footing.storage).pull(answer)
    answer.unlink()
    if footing.storage:
        Storage(footing.storage).drop(answer)
    return ""


@contextmanager
def sealed(folder: Path, seals: Sequence[Path], storage: Storage | None = None) -> Iterator[Footing]:
    """A footing; below `folder` lies a token for the time of the block, and at the storage if there is one.

    `seals`: files of which a shared working directory must hold the very same.
    """
    token = folder / f".shared-{secrets.token_hex(8)}"
    folder.mkdir(parents=True, exist_ok=True)
    token.write_text(token.name)
    try:
        if storage:
            storage.push(token)
            yield Footing(Path.cwd(), token, {str(token): token.name}, versions(), storage.address)
        else:
            texts = {str(path): path.read_text() for path in (token, *seals) if path.is_file()}
            yield Footing(Path.cwd(), token, texts, versions())
    finally:
        token.unlink(missing_ok=True)
        if storage:
            storage.push(token)  # as gone
