"""The device and its settings: threads, arithmetic, memory. Pinned, since they change the bits of a result."""

import ctypes
import os
import shutil
from dataclasses import replace
from functools import cache
from importlib.metadata import version

import cv2
import torch

from steel.config import MachineConfig, Solution
from steel.errors import UserError
from steel.workers import cores

COMPILERS = ("g++", "clang++")  # that torch.compile looks for
M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD = -4, -1, -2  # names of mallopt(3)


def resolve(machine: MachineConfig) -> str:
    """The device's name; `auto` takes a GPU if there is one."""
    if machine.device != "auto":
        return machine.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_device(machine: MachineConfig) -> torch.device:
    """Pin the threads and give the device that `machine.device` names."""
    torch.set_num_threads(machine.threads or cores())
    cv2.setNumThreads(1)
    device = _reach(resolve(machine))
    if device.type == "cpu":
        _keep_freed_memory()
    return device


def for_training(solution: Solution) -> MachineConfig:
    """The machine as each of the trainings that run at once sees it, with `jobs` and `threads` settled.

    Two trainings of one thread each are faster than one training of two threads, which wait for each other after every
    layer (measured in `benchmarks/`): on a CPU the cores are shared out. A GPU trains one model at a time, and so do
    several devices, each of which has a process with its share of the threads.
    """
    machine, n_jobs = solution.machine, len(solution.models) * len(solution.folds)
    one = machine.devices > 1 or resolve(machine).startswith("cuda")
    at_once = machine.jobs or (1 if one else min(cores(), n_jobs))
    return replace(machine, jobs=at_once, threads=machine.threads or max(1, cores() // (at_once * machine.devices)))


def check_training(machine: MachineConfig) -> None:
    """Refuse what this machine cannot do: more devices than there are, norms to synchronise, nets to compile."""
    on_gpu = resolve(machine).startswith("cuda")
    n = torch.cuda.device_count() if on_gpu else cores()
    if machine.devices > max(n, 1):
        what = "the GPUs" if on_gpu else "the cores, each a device where there is no GPU"
        raise UserError(f"machine.devices: {machine.devices} is out of range; allowed: 1..{n}, {what}")
    if machine.sync_batch_norm and machine.devices > 1 and not on_gpu:
        raise UserError("machine.sync_batch_norm: true needs GPUs, the devices are cores; allowed: false")
    if machine.compile and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise UserError(f"machine.compile: true needs a C++ compiler ({', '.join(COMPILERS)}); allowed: false")


def describe(machine: MachineConfig, *packages: str) -> dict[str, str]:
    """What equal results need to be equal: device, threads, versions of torch, OpenCV and further packages."""
    name = resolve(machine)
    if name.startswith("cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name(_reach(name))
    elif name == "cpu":
        name = f"cpu with {torch.backends.cpu.get_cpu_capability()}"  # another vector width adds in another order
    known = {"device": name, "threads": str(machine.threads or cores())}
    versions = {package: version(package) for package in packages}
    return known | {"torch": torch.__version__, "opencv": cv2.__version__} | versions


def describe_training(machine: MachineConfig, *packages: str) -> dict[str, str]:
    """The same of a training, which may have several devices and a compiled net."""
    env = describe(machine, *packages)
    if machine.devices > 1:
        synchronised = ", batch norms synchronised" if machine.sync_batch_norm else ""
        env["device"] = f"{machine.devices} x {env['device']}{synchronised}"
    if machine.compile:
        env["torch"] += ", compiled"
    return env


def _reach(name: str) -> torch.device:
    """A device that works, tried out; a UserError if it does not."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"machine.device: {name!r} is not to be had ({reason}); allowed: {_allowed()}") from None
    return device


def _allowed() -> str:
    """Devices that are to be had here."""
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ", ".join(["auto", "cpu", *(["cuda"] if n else []), *(f"cuda:{i}" for i in range(n))])


def amp_dtype(amp: str, device: torch.device) -> torch.dtype:
    """The type of the forward pass: `auto` takes bf16 where the device computes it natively, else fp32.

    A CPU without bf16 instructions emulates them, three times slower than fp32 as measured in `benchmarks/`.
    """
    if amp == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    if amp == "fp16" and device.type != "cuda":
        raise UserError(f"amp: fp16 needs a GPU, the device is {device.type}; allowed: auto, fp32, bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep the large blocks that each step frees, instead of having the kernel zero new pages every time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
            mallopt(option, value)
