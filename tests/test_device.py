"""The device is pinned; what cannot be had is one clear line."""

import os
from collections.abc import Iterator
from dataclasses import replace

import cv2
import pytest
import timm
import torch

from steel.config import MachineConfig, ModelConfig, Solution, SplitConfig
from steel.config_check import check
from steel.device import amp_dtype, check_training, describe, describe_training, for_training, open_device
from steel.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Give other tests their threads back."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_threads_are_pinned() -> None:
    assert open_device(MachineConfig("cpu", threads=1)) == CPU
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    open_device(MachineConfig("cpu"))
    assert torch.get_num_threads() == os.cpu_count()


def test_describe_names_what_changes_the_bits() -> None:
    cpu = f"cpu with {torch.backends.cpu.get_cpu_capability()}"
    versions = {"torch": torch.__version__, "opencv": cv2.__version__}
    assert describe(MachineConfig("cpu", threads=3)) == {"device": cpu, "threads": "3"} | versions
    assert describe(MachineConfig("cpu"), "timm")["timm"] == timm.__version__
    assert describe(MachineConfig("cpu"))["threads"] == str(os.cpu_count())


@pytest.mark.parametrize(
    ("device", "n_cores", "jobs", "threads", "expected"),
    [
        ("cpu", 2, None, None, (2, 1)),  # one training per core ...
        ("cpu", 16, None, None, (6, 2)),  # ... but not more than the 2 models x 3 folds; the cores are shared out
        ("cpu", 16, 1, None, (1, 16)),
        ("cpu", 2, 4, None, (4, 1)),
        ("cpu", 8, 2, 3, (2, 3)),
        ("cuda", 16, None, None, (1, 16)),  # a GPU trains one at a time
        ("cuda", 16, 2, None, (2, 8)),
        ("2 cpu", 16, None, None, (1, 8)),  # so do several devices, each with its share of the threads
        ("4 cuda", 16, None, None, (1, 4)),
        ("4 cpu", 2, None, None, (1, 1)),
    ],
)
def test_cores_are_shared_out_among_trainings(
    device: str,
    n_cores: int,
    jobs: int | None,
    threads: int | None,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steel.device.cores", lambda: n_cores)
    n, _, name = device.rpartition(" ")
    machine = MachineConfig(name, devices=int(n or 1), jobs=jobs, threads=threads)
    models = {"a": ModelConfig(), "b": ModelConfig()}
    found = for_training(Solution("x", models, split=SplitConfig(3), machine=machine))
    assert (found.jobs, found.threads) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    assert open_device(MachineConfig("auto")) == CPU
    assert describe(MachineConfig("auto"))["device"].startswith("cpu with ")
    assert describe(MachineConfig("cuda"))["device"] == "cuda"  # a look at a GPU's results needs no GPU
    with pytest.raises(UserError, match=r"^machine\.device: 'cuda' is not to be had \(.*\); allowed: auto, cpu$"):
        open_device(MachineConfig("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_with_a_gpu() -> None:
    assert open_device(MachineConfig("auto")).type == "cuda"
    assert describe(MachineConfig("auto"))["device"] == torch.cuda.get_device_name(0)
    for call in (open_device, describe):
        with pytest.raises(UserError, match=r"^machine\.device: 'cuda:99' is not to be had \(.*\); allowed: "):
            call(MachineConfig("cuda:99"))


def test_arithmetic_by_name() -> None:
    assert amp_dtype("fp32", CPU) == torch.float32
    assert amp_dtype("bf16", CPU) == torch.bfloat16
    assert amp_dtype("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(UserError, match=r"^amp: fp16 needs a GPU, the device is cpu; allowed: auto, fp32, bf16$"):
        amp_dtype("fp16", CPU)


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [
        (False, False, torch.float32),
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
    ],
)
def test_auto_takes_bf16_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert amp_dtype("auto", CPU) == expected


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"devices": 3}, "machine.devices: 3 is out of range; allowed: 1..2, the cores, each a device where there is "),
        ({"devices": 2, "sync_batch_norm": True}, "machine.sync_batch_norm: true needs GPUs, the devices are cores; "),
    ],
)
def test_what_this_machine_cannot_do(machine: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steel.device.cores", lambda: 2)
    with pytest.raises(UserError) as error:
        check_training(MachineConfig("cpu", **machine))
    assert str(error.value).startswith(message)
    check_training(MachineConfig("cpu", devices=2))
    check_training(MachineConfig("cpu", sync_batch_norm=True))  # one device has the whole batch


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"devices": 0}, "machine.devices: 0 is out of range; allowed: >= 1"),
        ({"devices": 2, "device": "cuda:1"}, "machine.device: 'cuda:1' is one device, not 2; allowed: auto, cuda"),
        ({"devices": 2, "jobs": 2}, "machine.jobs: 2 trainings at once on 2 devices; allowed: 1"),
        (
            {"compile": True, "checkpoint_gradients": True},
            "machine: compile and checkpoint_gradients are not for one training; allowed: one of them",
        ),
    ],
)
def test_devices_that_do_not_go_together(machine: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        check(Solution("x", {"a": ModelConfig()}, machine=MachineConfig(**machine)))
    assert str(error.value) == message


def test_a_compiler_there_is_none_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        UserError, match=r"^machine\.compile: true needs a C\+\+ compiler \(g\+\+, clang\+\+\); allowed: false$"
    ):
        check_training(MachineConfig("cpu", compile=True))


def test_several_devices_and_a_compiled_net_are_part_of_what_a_training_ran_on() -> None:
    one, cpu = MachineConfig("cpu"), describe(MachineConfig("cpu"))["device"]
    assert describe_training(one) == describe(one)
    assert describe_training(replace(one, devices=2))["device"] == f"2 x {cpu}"
    both = describe_training(replace(one, devices=2, sync_batch_norm=True, compile=True))
    assert both["device"] == f"2 x {cpu}, batch norms synchronised"
    assert both["torch"] == f"{torch.__version__}, compiled"
