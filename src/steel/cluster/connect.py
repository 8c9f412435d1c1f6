"""A connection to a Ray cluster, and the nodes that it has."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from steel.config import RayConfig
from steel.errors import UserError
from steel.workers import cores

# Before ray is imported: it reports no use to its makers, and does not tell of changes to come.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
KNOCK_S = 10.0  # to wait for a cluster's door; Ray itself waits for minutes


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        id: Ray's own, 56 hex digits.
        name: its address, or what `ray start --node-name` called it; with digits of the id if there are several.
        cpus: that Ray may use in all.
        gpus: likewise.
    """

    id: str
    name: str
    cpus: float
    gpus: float


def load_ray() -> None:
    """Import ray, with our settings; a UserError if it is not installed."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        import ray  # noqa: F401
    except ImportError:
        raise UserError(
            "a cluster needs Ray: install it with scripts/ray.sh (python -m pip install -r requirements-ray.txt)"
        ) from None


@contextmanager
def connect(config: RayConfig) -> Iterator[None]:
    """Be a driver of the cluster that `ray.address` names, or of a Ray of this machine that lives as long as the block.

    A UserError if ray is not installed, or nothing answers there.
    """
    load_ray()
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)  # else it tells of its settings
    local: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False} if config.address is None else {}
    try:
        _knock(config.address)
        with _own_signals():
            ray.init(config.address or "local", log_to_driver=False, configure_logging=False, **local)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0].split(". ")[0]
        allowed = "auto, where a cluster runs here; HOST:PORT of one; null"
        where = config.address or "null"
        raise UserError(f"ray.address: no cluster at {where} ({reason}); allowed: {allowed}") from None
    try:
        yield
    except (ray.exceptions.RaySystemError, ray.exceptions.RayActorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"ray: the cluster was lost ({reason}); start it again and it continues") from None
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """The nodes that are alive, by name."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeName"] for node in alive]
    return sorted(
        (
            Node(
                node["NodeID"],
                name if names.count(name) == 1 else f"{name}#{node['NodeID'][:6]}",
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node, name in zip(alive, names, strict=True)
        ),
        key=lambda node: node.name,
    )


def _knock(address: str | None) -> None:
    """See that something listens at an address; an OSError if not."""
    known = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address or ""
    host, _, port = known.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_S).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's answer to SIGTERM, in whose place Ray would put its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
