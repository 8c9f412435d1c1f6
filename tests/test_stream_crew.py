"""How many workers and readers a cluster holds."""

from dataclasses import replace

import pytest

from steel.cluster.connect import Node
from steel.cluster.crew import Crew
from steel.cluster.share import Share
from steel.config import MachineConfig

CPU = MachineConfig(device="cpu", threads=2)


@pytest.mark.parametrize(
    ("share", "machine", "nodes", "crew"),
    [
        # One node of two CPUs: one worker of two threads, and a reader beside it.
        (Share(2, 0.0, CPU), CPU, [(2, 0)], Crew(CPU, 1, 1.75, 0.0, 1, 0.25)),
        (Share(2, 0.0, CPU), CPU, [(2, 0), (7, 0), (1, 0)], Crew(CPU, 4, 1.75, 0.0, 4, 0.25)),
        (Share(2, 0.0, CPU), replace(CPU, jobs=3, workers=5), [(16, 0)], Crew(CPU, 3, 1.75, 0.0, 5, 0.25)),
        # Two GPUs of eight CPUs each, and a node without any: all CPUs but one for each worker read.
        (Share(8, 1.0, CPU), CPU, [(16, 2), (4, 0)], Crew(CPU, 2, 1.0, 1.0, 18, 1.0)),
        (Share(4, 0.5, CPU), CPU, [(16, 2)], Crew(CPU, 4, 1.0, 0.5, 12, 1.0)),
        (Share(1, 1.0, CPU), CPU, [(1, 1)], Crew(CPU, 1, 0.5, 1.0, 1, 0.5)),  # the only CPU is shared
    ],
)
def test_who_works(share: Share, machine: MachineConfig, nodes: list[tuple[int, int]], crew: Crew) -> None:
    known = [Node(str(i), str(i), cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
    assert Crew.of(share, machine, known) == crew
    assert crew.workers * crew.cpus + crew.readers * crew.reader_cpus <= sum(node.cpus for node in known)
