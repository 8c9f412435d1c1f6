"""Worker processes that are deaf to Ctrl-C and never outlive the program."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import util
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, TypeVar

from steel.errors import UserError

T = TypeVar("T")
ENDING = threading.Lock()  # of this process, if it is a worker
MANAGER_S = 5  # to wait for the pool's own thread after its processes are killed


def cores() -> int:
    """Cores that this process may use: fewer than the machine has under `taskset` or in many containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def deaf() -> Iterator[None]:
    """Around the birth of processes: they are deaf to Ctrl-C, which this process hears as soon as they are born."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers(ProcessPoolExecutor):
    """A pool of `n` spawned processes; leaving its block drops what has not begun, an error ends what has.

    A Ctrl-C on a terminal reaches the whole process group. Only this process shall answer it, with one line, so its
    workers are born with the signal blocked: ignoring it once they run would leave their start-up unprotected.
    """

    def __init__(self, n: int) -> None:
        super().__init__(n, multiprocessing.get_context("spawn"), initializer=_start)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue a call; processes start here, when there is work for them."""
        with deaf():
            return super().submit(fn, *args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.shutdown(wait=True, cancel_futures=True)
            return
        # What has not begun is dropped before the processes end: told of their end first, the pool's own thread would
        # stumble over calls that are cancelled already, and print a traceback.
        manager: threading.Thread | None = getattr(self, "_executor_manager_thread", None)
        self.shutdown(wait=False, cancel_futures=True)
        for end in (BaseProcess.terminate, BaseProcess.kill):  # the first lets them give back semaphores, see `_start`
            for child in multiprocessing.active_children():
                end(child)
            if manager is not None:  # it reaps them; at the program's end its pipes might be closed under its hands
                manager.join(MANAGER_S)


def each(call: Callable[..., object], arguments: Sequence[tuple[Any, ...]], n: int) -> list[UserError]:
    """Make a call for each tuple of arguments, `n` at once in processes of their own; give the UserErrors among them.

    One that is refused does not stop the others: hours of work may hang on them. Any other error ends them all.
    """
    if n < 2 or len(arguments) < 2:
        results = [partial(call, *one) for one in arguments]
        return [error for result in results if (error := _error_of(result)) is not None]
    with Workers(min(n, len(arguments))) as pool:
        futures = as_completed([pool.submit(call, *one) for one in arguments])
        return [error for future in futures if (error := _error_of(future.result)) is not None]


def _error_of(result: Callable[[], object]) -> UserError | None:
    try:
        result()
    except UserError as error:
        return error
    return None


def is_worker() -> bool:
    """Whether this process is one of several: it shares the terminal."""
    return multiprocessing.parent_process() is not None


def _start() -> None:
    """Keep OpenCV to one thread, and end it when the program is gone: it would wait for work for ever.

    Libraries make semaphores when they are imported (numcodecs does): a process that ends without giving them back has
    Python warn of a leak when the program ends. So it gives them back when it is told to end.
    """
    import cv2  # here, since every command imports this module

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        _end()

    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=follow, daemon=True).start()


def _end(*_signal: object) -> None:
    """End this process at once, but give back its semaphores; who is asked again meanwhile does not begin again."""
    if not ENDING.acquire(blocking=False):  # the pool tells the others to end when the first is gone
        return
    util._run_finalizers(0)  # type: ignore[attr-defined]  # what Python itself runs when a process ends of its own will
    os._exit(1)
