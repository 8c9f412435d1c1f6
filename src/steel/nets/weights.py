"""Pretrained weights of an encoder from a file, and what to say when a download fails or a library refuses a net."""

import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from steel.competition import HEIGHT
from steel.errors import UserError, shorten
from steel.progress import say

# Heads for ImageNet's classes: never wanted in an encoder.
HEADS = ("fc.", "classifier.", "head.fc.", "last_linear.")
# The bases of the hub's own error are those of the HTTP client that its version uses: requests, httpx or httpx2.
DOWNLOAD_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
ANSWER_S = 5
# What smp, timm and torch raise for nets, encoders, options and sizes that do not go together.
REFUSALS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Around what a library may refuse: one UserError, which begins with `what`, instead of its exception."""
    try:
        yield
    except REFUSALS as error:
        told = " ".join(str(error.args[0] if error.args else "").split("\n")[0].split())
        # Bare assertions say nothing: then the line that raised is the best there is.
        reason = told or f"{type(error).__name__} at `{traceback.extract_tb(error.__traceback__)[-1].line}`"
        raise UserError(f"{what}: {reason}") from None


@contextmanager
def downloading(name: str, weights: str | None) -> Iterator[None]:
    """Around what downloads weights of `name` if `weights` is imagenet: a failure is one UserError, within seconds.

    Where the hub does not answer, only what was downloaded before is read: else each file costs half a minute of
    retries, each with a line of its own.
    """
    if weights != "imagenet":
        yield
        return
    fault, offline = _hub_fault(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or fault is not None
    try:
        yield
    except DOWNLOAD_ERRORS as error:
        reason = " ".join(str(fault or error).split()) or type(fault or error).__name__
        raise UserError(
            f"weights: imagenet weights of {name} cannot be downloaded ({reason[:120]}); "
            "allowed without a network: a .safetensors or .pt file, or null"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = offline


def _hub_fault() -> Exception | None:
    """Why the hub cannot be reached; None if it can, or if the user forbade to try."""
    if constants.HF_HUB_OFFLINE:
        return None
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
    except DOWNLOAD_ERRORS as error:
        return error
    return None


def load_encoder(encoder: nn.Module, path: str, partial: bool) -> None:
    """Copy the tensors of a .safetensors or .pt file into an encoder.

    A first layer for RGB is summed over its three filters, as the input is grey. Tensors that are missing in the file
    or do not fit are refused by name, unless `partial`. Heads for other classes are left out, and layers that the
    encoder does not run (smp keeps those beyond `encoder_depth`) may be missing.
    """
    if all(name.startswith("model.") for name in encoder.state_dict()):
        encoder = encoder.get_submodule("model")  # smp's wrapper of a timm backbone; files have timm's names
    found = {name: value for name, value in _read(Path(path)).items() if not name.startswith(HEADS)}
    wanted = {name: value for name, value in encoder.state_dict().items() if not name.startswith(HEADS)}
    fitting: dict[str, Tensor] = {}
    missing = [name for name in wanted if name not in found and "num_batches" not in name]
    idle = _idle_layers(encoder) if missing else ()
    faults = [f"{name} is missing" for name in missing if not name.startswith(idle)]
    for name, value in found.items():
        if name not in wanted:
            faults.append(f"{name} is not in the encoder")
            continue
        rgb = value.ndim == wanted[name].ndim == 4 and value.shape[1] == 3 and wanted[name].shape[1] == 1
        adapted = value.sum(1, keepdim=True) if rgb else value
        if adapted.shape == wanted[name].shape:
            fitting[name] = adapted
        else:
            faults.append(f"{name} is {tuple(value.shape)}, the encoder wants {tuple(wanted[name].shape)}")
    if all("num_batches" in name for name in fitting):  # counters fit anywhere
        raise UserError(f"weights: {path} holds no tensor that fits the encoder")
    if faults and not partial:
        raise UserError(f"weights: {path}: {shorten(faults)}; set weights_partial: true to accept this")
    if faults:
        say(f"weights: {path} gives {len(fitting)} of the {len(wanted)} tensors of the encoder: {shorten(faults)}")
    encoder.load_state_dict(fitting, strict=False)


def _idle_layers(encoder: nn.Module) -> tuple[str, ...]:
    """Name prefixes of the layers that a forward pass does not reach; none where the encoder refuses a square strip."""
    run: set[nn.Module] = set()
    hooks = [m.register_forward_pre_hook(lambda module, _input: run.add(module)) for m in encoder.modules()]
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 1, HEIGHT, HEIGHT))
    except (RuntimeError, AssertionError, ValueError):
        return ()
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return tuple(_idle_below(encoder, "", run))


def _idle_below(module: nn.Module, prefix: str, run: set[nn.Module]) -> Iterator[str]:
    for name, child in module.named_children():
        if run.isdisjoint(child.modules()):
            yield f"{prefix}{name}."
        elif child not in run:  # a layer that ran may use its parts without calling them
            yield from _idle_below(child, f"{prefix}{name}.", run)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"weights: no file {path}; allowed: imagenet, null, or a .safetensors or .pt file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        told = (str(error) or repr(error)).splitlines()[0]
        # torch's own advice for a pickle of other things is to load it unsafely
        reason = "it is no file of tensors alone" if isinstance(error, pickle.UnpicklingError) else told
        raise UserError(f"weights: {path} cannot be read: {reason}") from None
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise UserError(f"weights: {path} does not hold a table of tensors")
    return value
