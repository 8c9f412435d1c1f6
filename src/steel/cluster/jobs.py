"""The jobs of a stage on a Ray cluster: each a task in a process of its own, which runs what this program would run."""

import os
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from steel import stage
from steel.cluster.board import Board, View
from steel.cluster.connect import connect, nodes
from steel.cluster.footing import Footing, sealed, survey
from steel.cluster.share import share_of
from steel.cluster.storage import Storage, carried
from steel.errors import UserError, in_a_line
from steel.jobs import Job
from steel.paths import Paths
from steel.progress import counted, say

POLL_S = 1.0
LEASE_S = 180.0  # after which a file system has given up the locks of a node that is gone (NFSv4: 90 s)


def run_there(jobs: Sequence[Job], paths: Paths, force: bool) -> None:
    """Run jobs of one stage on the cluster that `ray.address` names, unless their outputs stand.

    One that fails does not stop the others; a UserError names all that failed.
    """
    faults: dict[str, str] = {}
    left = [job for job in jobs if _is_left(job, paths, force, faults)]
    if left:
        address = paths.solution.ray.storage
        storage = Storage(address) if address else None  # refused, if it is, before Ray takes its seconds to start
        with connect(paths.solution.ray):
            faults |= _run(left, paths, force, storage)
    if faults:
        reasons = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        raise UserError(f"{len(faults)} of {len(jobs)} jobs failed: {reasons}")


def log_of(paths: Paths, name: str) -> Path:
    """Where a job writes what it has to say, and so does each further attempt at it."""
    return paths.run / "logs" / f"{name.replace(' ', '-')}.log"


def _is_left(job: Job, paths: Paths, force: bool, faults: dict[str, str]) -> bool:
    """Whether a job has anything to do: nothing if its output stands, or if it can only fail."""
    spec = job.spec(paths)
    try:
        job.check(paths)
        if force or not stage.look(spec).usable:
            return True
        job.run(paths, force)
    except UserError as error:
        faults[spec.name] = str(error)
        say(f"{spec.name}: failed: {error}")
    return False


def _run(jobs: Sequence[Job], paths: Paths, force: bool, storage: Storage | None) -> dict[str, str]:
    """Have the cluster run jobs; give why each that failed did."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    known, here = nodes(), ray.get_runtime_context().get_node_id()
    share = share_of(paths.solution, jobs[0].stage, known)
    settled = replace(paths, solution=replace(paths.solution, machine=share.machine))
    names = [job.spec(paths).name for job in jobs]
    fit = [node for node in known if share.fits(node)]
    with sealed(paths.run, [paths.cache / stage.RECORD, paths.folds], storage) as footing:
        survey(footing, [node for node in fit if storage or node.id != here])
        if storage:
            for path in dict.fromkeys(path for job in jobs for path in job.inputs(paths)):
                storage.offer(path)
        beside = NodeAffinitySchedulingStrategy(here, soft=False)
        board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=beside).remote()
        work = ray.remote(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_calls=1,  # a process of its own: what a job sets up is gone with it
            max_retries=paths.solution.ray.retries,
            scheduling_strategy="SPREAD",
        )(_work)
        logs = log_of(paths, names[0]).parent
        say(f"{jobs[0].stage}: {counted(len(jobs), 'job')}, {counted(len(fit), 'node')} fit for them; logs in {logs}")
        waiting = {work.remote(board, i, job, settled, force, footing): names[i] for i, job in enumerate(jobs)}
        try:
            return _follow(waiting, board, lambda name: _fetch(storage, settled, jobs[names.index(name)]))
        finally:  # of what has not ended, if this program is told to
            for reference in waiting:
                ray.cancel(reference, force=True)


def _fetch(storage: Storage | None, paths: Paths, job: Job) -> str:
    """Have here what a job has left at the storage; why not, or nothing."""
    if storage is None:
        return ""
    try:
        for path in _outputs(job, paths):
            storage.pull(path)
    except UserError as error:
        return str(error)
    return ""


def _outputs(job: Job, paths: Paths) -> list[Path]:
    spec = job.spec(paths)
    return [spec.folder, log_of(paths, spec.name)]


def _follow(waiting: dict[Any, str], board: Any, fetch: Callable[[str], str]) -> dict[str, str]:
    """Show how jobs come along, and take out of `waiting` those that end; give why each that failed did.

    `fetch` has here what a job has left, or says why not.
    """
    import ray

    names, faults = list(waiting.values()), {}
    view = View(names)
    try:
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=POLL_S)
            alive = {node.id: node.name for node in nodes()}
            for reference in ended:
                name = waiting.pop(reference)
                if fault := _fault_of(reference) or fetch(name):
                    faults[name] = fault
                view.end(name, fault)
            for i, node_id in ray.get(board.news.remote()):
                view.begin(names[i], node_id, alive.get(node_id, node_id))
            view.lose(alive)
    finally:
        view.close()
    return faults


def _fault_of(reference: Any) -> str:
    """Why a job that has ended failed; empty if it did not."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"its process was lost too often ({type(error).__name__}); ray.retries says how often it may be"


def _work(board: Any, number: int, job: Job, paths: Paths, force: bool, footing: Footing) -> str:
    """On a node: run a job, with a log of its own; give why it failed, or nothing. The process ends with it."""
    import ray

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch is imported
    node_id = ray.get_runtime_context().get_node_id()
    board.begin.remote(number, node_id)  # not waited for: who waits lends his CPU to another job
    try:
        if fault := footing.fault():
            return f"node {node_id[:6]}: {fault}"
        _attempt(job, paths, force, footing, node_id[:6])
    except UserError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{in_a_line(error)} (see {log_of(paths, job.spec(paths).name)})"
    return ""


def _attempt(job: Job, paths: Paths, force: bool, footing: Footing, node: str) -> None:
    """Run a job, for the first time or after others were lost on the way; what it says goes into its log."""
    folder, log = _outputs(job, paths)
    travel: AbstractContextManager[None] = nullcontext()
    if footing.storage:
        storage = Storage(footing.storage)
        storage.pull(log)  # before it is written to
        travel = carried(storage, [*job.inputs(paths), folder], [folder, log])
    attempt = 1 + (log.read_text(errors="replace").count(footing.token.name) if log.exists() else 0)
    _speak_into(log)
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    say(f"--- {when}, node {node}, process {os.getpid()}, run {footing.token.name}, attempt {attempt}")
    os.fsync(1)  # a node that is lost must not take this line with it: the next attempt counts them
    with travel:
        if force and attempt > 1 and footing.storage:
            _mark_begun(job.spec(paths))
        # A forced job that was lost before it had ever finished goes on; `ensure` knows of those that had.
        again = attempt > 1 and not (folder / stage.RECORD).exists()
        job.run(paths, force and not again, LEASE_S if attempt > 1 else stage.PATIENCE_S)


def _mark_begun(spec: stage.Spec) -> None:
    """Say that a checkpoint beside an older record is a forced run's: from the storage they come without this mark."""
    if (spec.folder / stage.RECORD).exists() and spec.partial and spec.partial.exists():
        (spec.folder / stage.BEGUN).write_text(spec.key)


def _speak_into(log: Path) -> None:
    """Have all that this process says go to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
