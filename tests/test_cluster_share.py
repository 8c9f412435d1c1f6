"""What a job gets of a node, and the machine that follows from it."""

from dataclasses import replace
from typing import Any

import pytest

from steel import device
from steel.cluster import share
from steel.cluster.connect import Node
from steel.cluster.share import share_of
from steel.config import MachineConfig, ModelConfig, RayConfig, Solution
from steel.errors import UserError

SOLUTION = Solution("x", {"unet": ModelConfig()})  # five folds
CPU_NODES = [Node("1" * 56, "one", 4, 0), Node("2" * 56, "two", 8, 0)]
GPU_NODES = [*CPU_NODES, Node("3" * 56, "three", 96, 8), Node("4" * 56, "four", 20, 2)]


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (device, share):
        monkeypatch.setattr(room, "cores", lambda: 4)


@pytest.mark.parametrize(
    ("stage", "machine", "ray", "expected"),
    [
        ("train", {}, {}, (1, 1)),  # four cores, shared out among trainings
        ("oof", {}, {}, (4, 4)),  # one at a time, on all cores
        ("oof", {"threads": 2}, {}, (2, 2)),
        ("oof", {"threads": 2}, {"cpus_per_job": 3}, (3, 2)),
        ("train", {}, {"cpus_per_job": 3}, (3, 3)),
        ("train", {"devices": 2}, {}, (4, 2)),  # one training at a time, its cores shared out
    ],
)
def test_on_a_cpu_a_job_has_the_threads_of_this_program(
    stage: str, machine: dict[str, Any], ray: dict[str, Any], expected: tuple[int, int]
) -> None:
    solution = replace(SOLUTION, machine=replace(MachineConfig(), **machine), ray=replace(RayConfig(), **ray))
    found = share_of(solution, stage, CPU_NODES)
    assert (found.cpus, found.machine.threads) == expected
    assert (found.gpus, found.machine.device, found.machine.workers) == (0, "cpu", None)


def test_several_devices_are_those_of_one_node() -> None:
    found = share_of(replace(SOLUTION, machine=MachineConfig(devices=4)), "train", GPU_NODES)
    assert (found.gpus, found.cpus, found.machine.threads, found.machine.workers) == (4, 40, 10, 8)
    assert [node.name for node in GPU_NODES if found.fits(node)] == ["three"]
    assert share_of(replace(SOLUTION, machine=MachineConfig(devices=4)), "oof", GPU_NODES).gpus == 1
    half = replace(SOLUTION, machine=MachineConfig(devices=4), ray=RayConfig(gpus_per_job=0.5))
    with pytest.raises(UserError, match=r"^ray\.gpus_per_job: 0\.5 for a training on 4 devices; allowed: 4, null$"):
        share_of(half, "train", GPU_NODES)


@pytest.mark.parametrize(
    ("ray", "expected"),
    [
        ({}, (10, 1)),  # of 96 CPUs for 8 GPUs, and 20 for 2
        ({"gpus_per_job": 0.5}, (5, 0.5)),
        ({"gpus_per_job": 2.0}, (20, 2)),
        ({"cpus_per_job": 6}, (6, 1)),
    ],
)
def test_a_gpu_brings_its_share_of_cpus(ray: dict[str, Any], expected: tuple[int, float]) -> None:
    found = share_of(replace(SOLUTION, ray=replace(RayConfig(), **ray)), "train", GPU_NODES)
    assert (found.cpus, found.gpus) == expected
    assert (found.machine.device, found.machine.threads) == ("cuda", found.cpus)
    assert found.machine.workers == min(8, found.cpus)
    assert [node.name for node in GPU_NODES if found.fits(node)] == ["three", "four"]


def test_device_cpu_leaves_the_gpus_alone() -> None:
    found = share_of(replace(SOLUTION, machine=MachineConfig(device="cpu", workers=3)), "train", GPU_NODES)
    assert (found.gpus, found.machine.device, found.machine.workers) == (0, "cpu", 3)


def test_what_no_node_has_is_refused() -> None:
    with pytest.raises(UserError) as error:
        share_of(replace(SOLUTION, ray=RayConfig(cpus_per_job=9)), "train", CPU_NODES)
    assert str(error.value) == (
        "ray.cpus_per_job, ray.gpus_per_job: no node has 9 CPUs and 0 GPUs for a job; "
        "there are: one (4 CPUs, 0 GPUs), two (8 CPUs, 0 GPUs)"
    )
    with pytest.raises(UserError, match=r"^machine\.device: 'cuda' is not to be had \(no GPU for a job\); allowed: "):
        share_of(replace(SOLUTION, machine=MachineConfig(device="cuda")), "train", CPU_NODES)
