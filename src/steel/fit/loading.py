"""Batches of an epoch: prepared by processes of their own, in this one, or on the device."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from steel.config import MachineConfig
from steel.data.cache import Strips
from steel.data.dataset import Crops, Sampling
from steel.data.on_device import Batches, OnDevice
from steel.fit import dist
from steel.workers import cores, deaf

MOST_WORKERS = 8


def loader(
    strips: Strips,
    sampling: Sampling,
    epoch: int,
    batch: int,
    machine: MachineConfig,
    device: torch.device,
    store: OnDevice | None = None,
    whole: bool = False,
) -> DataLoader | Batches:
    """The batches of an epoch, each a pair (image, mask bits), (B, 256, width) uint8; what is left over is left out.

    Of several processes each gets its share of every batch, or with `whole` all of it. `store`: where to make them.
    """
    batch = min(batch, sampling.n_samples)
    share = range(sampling.n_samples) if whole else dist.share(sampling.n_samples, batch)
    crops, of_share = Crops(strips, sampling, epoch), batch if whole else batch // dist.size()
    if store:
        return Batches(store, crops, share, of_share)
    workers = machine.workers
    if workers is None:
        workers = 0 if device.type == "cpu" else min(MOST_WORKERS, max(1, cores() // machine.devices))
    return _Loader(
        crops,
        sampler=share,
        batch_size=of_share,
        drop_last=True,  # batch norm dislikes batches of one
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # shares the memory maps; nothing has to be pickled
        worker_init_fn=_pin_worker,
        pin_memory=device.type == "cuda",
    )


class _Loader(DataLoader):
    """A loader whose processes are deaf to Ctrl-C: only this one shall answer it, with one line."""

    def __iter__(self) -> Any:
        with deaf():
            return super().__iter__()


def _pin_worker(_worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
