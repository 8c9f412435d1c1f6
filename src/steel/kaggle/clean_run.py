"""Run a script as on another machine: `python -I -S clean_run.py PACKAGES LIMIT_BYTES guard|namespace PEAK SCRIPT`.

Python's own library and the folder PACKAGES are all that it can import; its memory is limited; with `guard`, sockets
are refused; the peak of its memory in bytes is left in the file PEAK. It stands alone: the program that it runs may not
find this package.
"""

import ctypes
import resource
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
REFUSED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")


def refuse(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook: no network; processes of this machine may talk, as those that load batches do."""
    if event in REFUSED and getattr(args[0], "family", None) != socket.AF_UNIX:
        raise OSError(f"{event} is refused: a kernel has no network")


def peak_bytes() -> int:
    """Largest memory of this process; what the parent is told of its child counts the parent's own, on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on a Mac
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def end_with_parent() -> None:
    """Ask to be killed when the program is that runs this, even if that one has no time to do it; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Set the limits, then become the script."""
    end_with_parent()
    packages, limit_bytes, network, peak, script = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_bytes), int(limit_bytes)))
    if network == "guard":
        sys.addaudithook(refuse)
    sys.path.append(packages)
    sys.argv = [script]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        Path(peak).write_text(str(peak_bytes()))


if __name__ == "__main__":
    main()
