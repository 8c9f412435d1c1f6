"""Slices of an archive through Ray Data: tasks read and decode them, a pool of actors says what is found on each.

Of the connected cluster's shared memory it takes AHEAD slices for each worker and reader, whatever the archive's size:
who reads waits for who predicts.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from steel.cluster.archive import Archive
from steel.cluster.crew import Crew
from steel.cluster.footing import versions
from steel.cluster.pieces import tell
from steel.competition import HEIGHT, N_PIXELS, WIDTH
from steel.config import Solution
from steel.errors import UserError, shorten

if TYPE_CHECKING:
    from steel.kaggle.ensemble import Ensemble

AHEAD = 4
SPAN = 4096  # slices that Ray Data is told of at once: it keeps a block for each, and workers are then started anew
Batch = dict[str, NDArray[Any]]  # of Ray Data: columns by name


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what Ray itself writes to stderr: it stands in Ray's logs, and is not for users."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


class Flow:
    """A pipeline of the connected cluster.

    Args:
        archive: where the strips lie.
        strips: their names, (n,) strings.
        solution: what was trained.
        shipped: its rules and weights by the name of the file, as a kernel's dataset holds them.
        crew: who works on it.
    """

    def __init__(
        self, archive: Archive, strips: pa.ChunkedArray, solution: Solution, shipped: dict[str, bytes], crew: Crew
    ) -> None:
        self.archive, self.crew = archive, crew
        self._strips = ray.put(strips)
        self._nets = ray.put((replace(solution, machine=crew.machine), shipped, versions()))

    def told(self, slices: NDArray[np.int64]) -> Iterator[pa.Table]:
        """What is found on slices (n, 3), see `pieces.cut`, in the order in which they are done: TOLD.

        Lost readers and workers are Ray Data's to replace. Raises UserError if the archive cannot be reached.
        """
        _set_up(self.crew, int((slices[:, 2] - slices[:, 1]).max()))
        for start in range(0, len(slices), SPAN):
            yield from self._told(slices[start : start + SPAN])

    def _told(self, slices: NDArray[np.int64]) -> Iterator[pa.Table]:
        size, workers = int((slices[:, 2] - slices[:, 1]).max()), min(self.crew.workers, len(slices))
        cut = ray.put(slices)
        rows = ray.data.from_items(list(range(len(slices))), override_num_blocks=len(slices))
        read = rows.map_batches(
            partial(read_slice, archive=self.archive, strips=self._strips, slices=cut),
            batch_size=1,
            compute=ray.data.TaskPoolStrategy(self.crew.readers),
            num_cpus=self.crew.reader_cpus,
        )
        told = read.map_batches(
            Worker,
            fn_constructor_args=(self._nets,),
            batch_size=size,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=self.crew.cpus,
            num_gpus=self.crew.gpus,
        )
        try:
            yield from told.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        except ray.exceptions.RayError as error:
            raise UserError(_plain(error)) from None


def read_slice(batch: Batch, archive: Archive, strips: ray.ObjectRef, slices: ray.ObjectRef) -> Batch:
    """The strips of a slice (n, 256, 1600), each with its place in the list, and why it could not be read, or ''."""
    (number,) = batch["item"]
    part, begin, end = ray.get(slices)[number].tolist()
    image_ids = ray.get(strips)[begin:end].to_pylist()
    pixels, faults = np.zeros((end - begin, HEIGHT, WIDTH), np.uint8), [""] * (end - begin)
    for i, found in enumerate(archive.read(image_ids)):
        if isinstance(found, str):
            faults[i] = found
        else:
            pixels[i] = found
    place = np.arange(begin, end)
    return {
        "part": np.full(end - begin, part),
        "place": place,
        "image_id": np.array(image_ids, object),
        "fault": np.array(faults, object),
        "strip": pixels,
    }


class Worker:
    """The nets on their device, in a process of their own."""

    def __init__(self, nets: ray.ObjectRef) -> None:
        """Load them from the cluster's memory; what is wrong with them is told when the first slice comes."""
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as the program does
        try:
            self.ensemble, self.fault = _load(*ray.get(nets)), ""
        except UserError as fault:
            self.fault = str(fault)

    def __call__(self, batch: Batch) -> pa.Table:
        """What is found on the strips of a slice, or of some: TOLD."""
        if self.fault:
            raise UserError(self.fault)
        is_read = batch["fault"] == ""
        strips = batch["strip"] if is_read.all() else batch["strip"][is_read]
        whose = [batch[key].tolist() for key in ("part", "place", "image_id", "fault")]
        return tell(zip(*whose, strict=True), self.ensemble(strips))


def _load(solution: Solution, shipped: dict[str, bytes], expected: dict[str, str]) -> "Ensemble":
    from steel.kaggle.ensemble import Ensemble

    if differing := [f"{name} {found}" for name, found in versions().items() if found != expected[name]]:
        node = ray.get_runtime_context().get_node_id()[:6]
        raise UserError(f"node {node} has {shorten(differing)}, the program that asks others: give all the same")
    with TemporaryDirectory() as folder:
        for name, data in shipped.items():
            (Path(folder) / name).write_bytes(data)
        return Ensemble.load(Path(folder), solution)


def _set_up(crew: Crew, n_strips: int) -> None:
    """Bound the memory, and leave the talking to this program."""
    context = ray.data.DataContext.get_current()
    in_flight = AHEAD * (crew.workers + crew.readers) * n_strips * N_PIXELS
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
        object_store_memory=in_flight
    )
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    for name in ("ray.data", "ray.data.exceptions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _plain(error: ray.exceptions.RayError) -> str:
    """What went wrong, in one line: a refusal of ours in its own words."""
    cause = getattr(error, "cause", error)  # of a task's error what it raised
    reason = (str(cause).strip() or "no reason given").splitlines()[0]  # below, Ray Data tells of its own settings
    if isinstance(cause, UserError):
        return reason
    return f"the cluster gave up ({type(cause).__name__}: {reason}); what is done stands: start it again"
