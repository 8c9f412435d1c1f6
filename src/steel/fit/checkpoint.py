"""What a training leaves: a checkpoint to go on from, and weights to ship."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from steel import files
from steel.errors import UserError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state, whole or not at all."""
    data = io.BytesIO()
    torch.save(state, data)  # to a file, a full disk would be a RuntimeError of torch's own
    with files.atomic(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def epochs_done(path: Path, key: str) -> int:
    """Epochs that a training goes on after; 0 without a checkpoint, or with one under another key."""
    state = load_checkpoint(path, torch.device("cpu"))
    return state["done"] if state is not None and state["key"] == key else 0


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a training state (tensors and plain values only); None without one."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason[:80]}): delete it to train anew") from None


def save_weights(path: Path, values: dict[str, Tensor]) -> None:
    """Write weights as safetensors, whole or not at all."""
    with files.atomic(path) as temporary:
        temporary.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in values.items()}))


def load_weights(net: nn.Module, path: Path) -> None:
    """Put shipped weights into a net; every tensor must be there and fit."""
    try:
        net.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not hold this net's weights: {' '.join(str(error).split())[:200]}") from None
