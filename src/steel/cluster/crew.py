"""Who works on a stream of strips: workers that predict, and readers that keep them busy."""

from collections.abc import Sequence
from dataclasses import dataclass

from steel.cluster.connect import Node
from steel.cluster.share import Share
from steel.config import MachineConfig

READER_CPUS = 0.25  # beside a net on a CPU, in whose time decoding takes a small part


@dataclass(frozen=True)
class Crew:
    """What the workers and the readers take of a cluster.

    Attributes:
        machine: as a worker sees it, see `Share`.
        workers: actors that hold the nets.
        cpus, gpus: of each.
        readers: tasks that read and decode, at once.
        reader_cpus: of each.
    """

    machine: MachineConfig
    workers: int
    cpus: float
    gpus: float
    readers: int
    reader_cpus: float

    @classmethod
    def of(cls, share: Share, machine: MachineConfig, nodes: Sequence[Node]) -> "Crew":
        """As many workers as there are shares, at most `machine.jobs`; `machine.workers` readers.

        Of its share a worker on a CPU leaves a little, and gets one reader; a worker on a GPU takes one CPU, and all
        that are left in the cluster read.
        """
        n = sum(_held(node, share) for node in nodes)
        n = min(n, machine.jobs or n)
        if not share.gpus:
            return cls(share.machine, n, share.cpus - READER_CPUS, 0.0, machine.workers or n, READER_CPUS)
        one = min(1.0, share.cpus / 2)
        left = int((sum(node.cpus for node in nodes) - n * one) / one)
        return cls(share.machine, n, one, share.gpus, machine.workers or left, one)


def _held(node: Node, share: Share) -> int:
    """Shares that a node holds."""
    by_cpus = int(node.cpus // share.cpus)
    return min(by_cpus, int(node.gpus / share.gpus + 1e-9)) if share.gpus else by_cpus
