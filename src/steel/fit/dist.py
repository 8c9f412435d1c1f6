"""One training on several devices: torchrun's launcher starts a process for each, torch.distributed ties them together.

Every process makes the same call on its share of each batch. Outside of such a process there is one alone, of rank 0,
and all that is said or added up here stays as it is.
"""

import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from steel import files
from steel.config import MachineConfig, ModelConfig
from steel.device import resolve
from steel.errors import UserError, in_a_line

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

ENTER = "from steel.fit.dist import enter; enter()"
POLL_S = 0.2  # between two looks at whether all are alive
LAUNCHERS = ("torch.distributed.elastic", "torch.distributed.launcher")  # whose log is for those who debug them
LOST = ("gloo", "nccl")  # libraries that complain of the silence of others: never the cause


def rank() -> int:
    """The number of this process among those of the training, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """Processes of the training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over the processes; it may be put into `x` itself."""
    if size() > 1:
        distributed.all_reduce(x)
    return x


def mean(x: Tensor) -> Tensor:
    """The mean of a float tensor over the processes."""
    return total(x.clone()) / size() if size() > 1 else x


def agreed(flag: bool, device: torch.device) -> bool:
    """What the first process thinks, where each may think otherwise, as of the time."""
    if size() == 1:
        return flag
    found = torch.tensor(int(flag), device=device)
    distributed.broadcast(found, 0)
    return bool(found)


def parallel(net: nn.Module, sync_batch_norm: bool) -> nn.Module:
    """The net as a module whose backward pass leaves the gradients' means over the processes in the net's own weights.

    `sync_batch_norm` puts batch norms into the net that take the statistics of all shares of a batch.
    """
    if size() == 1:
        return net
    if sync_batch_norm:
        synchronise(net)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            net,
            broadcast_buffers=False,  # `share_statistics` does it once a step
            gradient_as_bucket_view=True,
            find_unused_parameters=True,  # encoders have weights that no map depends on
        )


def synchronise(net: nn.Module) -> None:
    """Replace the batch norms below a net by synchronised ones with the same weights, names and activations."""
    from timm.layers.norm_act import (
        convert_sync_batchnorm,
    )  # torch's own would drop the activations that timm's norms have

    for name, child in net.named_children():
        setattr(net, name, convert_sync_batchnorm(child))


def adding_up(net: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Around the passes of a batch: gradients are exchanged with the last one before a step only."""
    return nullcontext() if last or not isinstance(net, DistributedDataParallel) else net.no_sync()


@torch.no_grad()
def share_statistics(net: nn.Module) -> None:
    """Give the statistics of the first process's batch norms to all, so that means of weights are alike everywhere."""
    found = [buffer for buffer in net.buffers() if buffer.is_floating_point()] if size() > 1 else []
    if not found:
        return
    flat = torch.cat([buffer.flatten() for buffer in found])
    distributed.broadcast(flat, 0)
    parts = flat.split([buffer.numel() for buffer in found])
    torch._foreach_copy_(found, [part.view_as(buffer) for part, buffer in zip(parts, found, strict=True)])


def share(n_samples: int, batch: int) -> range:
    """The positions of this process's samples among those of an epoch: of each whole batch, batch[rank :: size]."""
    return range(rank(), n_samples - n_samples % batch, size())


def check_batches(model: ModelConfig, n_rows: int, n_devices: int) -> None:
    """Refuse batches that cannot be shared out evenly; `n_rows`: strips to train on."""
    for i, phase in enumerate(model.phases):
        batch = min(phase.batch, phase.samples or n_rows)
        if batch % n_devices:
            raise UserError(
                f"phases[{i}].batch: {batch} crops cannot be shared out evenly among {n_devices} devices; "
                f"allowed: multiples of {n_devices}"
            )


def launch(machine: MachineConfig, title: str, call: Callable[..., object], *args: object) -> None:
    """Make a call in `machine.devices` processes at once; in this one if that is 1.

    The first process speaks for all. What one of them raises first is raised here; one that is killed ends the others,
    and is a UserError. All end with this process, however it ends, and are deaf to the terminal's Ctrl-C: they run in
    sessions of their own.
    """
    if machine.devices == 1:
        call(*args)
        return
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings of unused weights are false, or known
    for name in LAUNCHERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="steel-") as folder:
        job = Path(folder) / "job"
        job.write_bytes(pickle.dumps((call, args)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=machine.devices,
            logs_specs=DefaultLogsSpecs(folder),
            run_id=job.parent.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # a free port
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=POLL_S,
            signals_to_handle="",  # the program's own handlers stay
        )
        backend = "nccl" if resolve(machine).startswith("cuda") else "gloo"
        try:
            elastic_launch(config, sys.executable)("-c", ENTER, str(job), backend, str(os.getpid()))
        except ChildFailedError as error:
            raise _cause(error.failures, Path(folder), f"{title}: process %d of {machine.devices}") from None


def enter() -> None:
    """The life of a process that `launch` started: join the others, make the call, leave behind what it raised."""
    job, backend, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    threading.Thread(target=_follow, args=(parent, job.parent), daemon=True).start()
    if os.environ["RANK"] != "0":
        silence = os.open(os.devnull, os.O_WRONLY)
        for output in (sys.stdout, sys.stderr):
            os.dup2(silence, output.fileno())
    try:
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend)
        call, args = pickle.loads(job.read_bytes())
        call(*args)
        distributed.destroy_process_group()
    except Exception as error:
        sys.stdout.flush()
        if job.exists():  # else there is nobody left to tell
            with files.atomic(job.with_name(f"{os.environ['RANK']}.error")) as temporary:
                temporary.write_bytes(_packed(error))
        os._exit(1)  # at once: what is left of a broken group may wait for the others


def _packed(error: Exception) -> bytes:
    """An error for `_cause`, with its traceback as a note; in words where it cannot travel, as those of a compiler."""
    whole = "".join(traceback.format_exception(error))
    if not isinstance(error, UserError):
        error.add_note(whole)
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        return pickle.dumps(RuntimeError(f"{in_a_line(error)}\n{whole}"))
    return packed


def _follow(parent: int, folder: Path) -> None:
    """End this process and its own when the one that started it is gone, which has left its folder behind."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)  # as the others do at the same time
    os.killpg(0, signal.SIGKILL)


def _cause(failures: Mapping[int, "ProcessFailure"], folder: Path, process: str) -> Exception:
    """What ended the first process of several that have ended, most of them because it did."""
    paths = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
    raised = [pickle.loads(path.read_bytes()) for path in paths]
    for error in raised:
        if not (isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST)):
            return error
    # Those that complain of another's silence, and those that were told to end, are not the first.
    silent = [one for one in failures if not (folder / f"{one}.error").exists()]
    ended = [one for one in silent if failures[one].exitcode != -signal.SIGTERM]
    if raised and not ended:  # then there is no other cause than the complaint itself
        return UserError(f"{process % int(paths[0].stem)}: {in_a_line(raised[0])}")
    first = min(ended or silent or failures)
    code = failures[first].exitcode
    how = f"was killed ({signal.Signals(-code).name}), perhaps for want of memory" if code < 0 else f"ended ({code})"
    return UserError(f"{process % first} {how}; start it again and it continues after its last checkpoint")
