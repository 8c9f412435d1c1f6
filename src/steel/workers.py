"""Worker processes that are deaf to Ctrl-C and never outlive the program."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import cv2

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use: fewer than the machine has under `taskset` or in many containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(ProcessPoolExecutor):
    """A pool of `n` spawned processes of one thread each; leaving its block drops what has not begun.

    A Ctrl-C on a terminal reaches the whole process group. Only this process shall answer it, with one line, so its
    workers are born with the signal blocked: ignoring it once they run would leave their start-up unprotected.
    """

    def __init__(self, n: int) -> None:
        super().__init__(n, multiprocessing.get_context("spawn"), initializer=_start)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue a call; processes start here, when there is work for them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Keep a worker to one thread, and end it when the program is gone: it would wait for work for ever."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
