"""Run a script as on another machine: `python -I -S clean_run.py PACKAGES LIMIT_BYTES guard|namespace SCRIPT`.

Python's own library and the folder PACKAGES are all that it can import; its memory is limited; with `guard`, sockets
are refused. It stands alone: the program that it runs may not find this package.
"""

import resource
import runpy
import sys
from typing import Any

REFUSED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")


def refuse(event: str, _args: tuple[Any, ...]) -> None:
    """Audit hook: no network."""
    if event in REFUSED:
        raise OSError(f"{event} is refused: a kernel has no network")


def main() -> None:
    """Set the limits, then become the script."""
    packages, limit_bytes, network, script = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_bytes), int(limit_bytes)))
    if network == "guard":
        sys.addaudithook(refuse)
    sys.path.append(packages)
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
