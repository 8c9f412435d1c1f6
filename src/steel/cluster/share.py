"""What a job gets of a node: CPUs, GPUs, and the threads and the device that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steel.cluster.connect import Node
from steel.config import MachineConfig, Solution
from steel.errors import UserError, shorten
from steel.workers import cores

LOADERS = 8  # processes that prepare batches for a GPU, at most


@dataclass(frozen=True)
class Share:
    """What one job takes of a node, and the machine that it sees.

    Attributes:
        cpus: CPUs that Ray sets aside.
        gpus: GPUs likewise; parts of 1 are allowed.
        machine: with device, threads and workers settled, the same on every node: they change a result's bits.
    """

    cpus: int
    gpus: float
    machine: MachineConfig

    def fits(self, node: Node) -> bool:
        """Whether an idle node has so much."""
        return node.cpus >= self.cpus and node.gpus >= self.gpus


def share_of(solution: Solution, stage: str, nodes: Sequence[Node]) -> Share:
    """What a job of a stage takes on these nodes; a UserError if none of them has so much.

    Without GPUs a job has the threads that it would have in this program, so that its bits are the same.
    """
    from steel.device import for_training  # torch: jobs import this room, and settle OpenMP before

    ray, machine = solution.ray, solution.machine
    n_devices = machine.devices if stage == "train" else 1  # of one node, all of them
    has_gpus = any(node.gpus for node in nodes) and machine.device != "cpu"
    gpus = float(has_gpus) * n_devices if ray.gpus_per_job is None else ray.gpus_per_job
    if 0 < gpus < n_devices and n_devices > 1:
        raise UserError(f"ray.gpus_per_job: {gpus:g} for a training on {n_devices} devices; allowed: {n_devices}, null")
    if machine.device == "cuda" and not gpus:
        raise UserError("machine.device: 'cuda' is not to be had (no GPU for a job); allowed: auto, cpu")
    if gpus:
        per_gpu = [node.cpus / node.gpus for node in nodes if node.gpus]
        cpus = ray.cpus_per_job or max(1, int(min(per_gpu, default=1) * gpus))
        workers = min(LOADERS, max(1, cpus // n_devices)) if machine.workers is None else machine.workers
        machine = replace(machine, device="cuda", workers=workers)
    else:
        here = for_training(solution) if stage == "train" else machine
        cpus = ray.cpus_per_job or n_devices * (here.threads or cores())
        machine = replace(machine, device="cpu")
    share = Share(cpus, gpus, replace(machine, threads=machine.threads or max(1, cpus // n_devices)))
    if not any(share.fits(node) for node in nodes):
        known = [f"{node.name} ({node.cpus:g} CPUs, {node.gpus:g} GPUs)" for node in nodes]
        raise UserError(
            f"ray.cpus_per_job, ray.gpus_per_job: no node has {cpus} CPUs and {gpus:g} GPUs for a job; "
            f"there are: {shorten(known, 8)}"
        )
    return share
