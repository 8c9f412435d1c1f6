"""Segmenters by name: the architectures of segmentation_models_pytorch with any of its encoders, and the study's."""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from steel.competition import N_CLASSES
from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.study_segmenters import WITHOUT_ENCODER
from steel.nets.torchvision_shim import ensure_torchvision_imports
from steel.nets.weights import downloading, load_encoder, refusing
from steel.tables import choose

ensure_torchvision_imports()
import segmentation_models_pytorch as smp  # noqa: E402 (after the shim)

# Architecture by name: called as f(encoder_name=, encoder_weights=, in_channels=1, classes=4, **options) -> nn.Module.
SEGMENTERS: dict[str, Callable[..., nn.Module]] = {
    "Unet": smp.Unet,
    "UnetPlusPlus": smp.UnetPlusPlus,
    "FPN": smp.FPN,
    "DeepLabV3Plus": smp.DeepLabV3Plus,
    "PSPNet": smp.PSPNet,
    "PAN": smp.PAN,
    "Linknet": smp.Linknet,
    "MAnet": smp.MAnet,
    "UPerNet": smp.UPerNet,
    "Segformer": smp.Segformer,
    "DPT": partial(smp.DPT, dynamic_img_size=True),  # transformers of timm that bear any size
}

# Arguments that the kit sets itself, and what to use instead.
OWN_ARGUMENTS = {
    "encoder_name": "use encoder",
    "encoder_weights": "use weights",
    "in_channels": "strips are grey: 1",
    "classes": "always 4",
    "activation": "losses take logits",
    "aux_params": "use gate_weight",
}


def segmenter(model: ModelConfig, weights: str | None) -> nn.Module:
    """The architecture `model.net` on `model.encoder`: (B, 1, H, W) float -> logits (B, 4, H, W).

    `weights`: imagenet (one input channel gets the sum of the three filters), a file, or None. With `gate_weight` the
    deepest maps of the encoder, averaged, give labels too: a tuple of (B, 4, H, W) and (B, 4). `dropout` drops whole
    maps before the segmentation head, and single values before the labels; what the architecture drops by itself (see
    its options) stays. Raises UserError for an unknown name, an option the architecture does not know, a pair that smp
    refuses, weights that cannot be had, dropout or a joint head where there is no place for them.
    """
    if model.net in WITHOUT_ENCODER:
        return _of_one_piece(model, weights)
    architecture = choose(SEGMENTERS | WITHOUT_ENCODER, model.net, "net")
    fixed: dict[str, Any] = {"encoder_name": model.encoder, "in_channels": 1, "classes": N_CLASSES}
    with refusing(f"{title(model)}: refused"), warnings.catch_warnings():
        # Advice to smp's own users; nets and names that work go on working.
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated|Encoder does not have prefix tokens")
        _check_options(model, architecture)
        _check_joint_head(model, architecture)
        if model.gate_weight:
            fixed["aux_params"] = {"classes": N_CLASSES, "pooling": "avg", "dropout": model.dropout or None}
        fixed["encoder_weights"] = _pretrained(model.encoder, weights)
        with downloading(model.encoder, weights):
            net = architecture(**fixed, **model.options)
    if weights not in (None, "imagenet"):
        if not hasattr(net, "encoder"):
            raise UserError(f"weights: {weights!r} cannot be put into {model.net}, which has no encoder; allowed: null")
        load_encoder(net.get_submodule("encoder"), weights, model.weights_partial)
    if model.dropout:
        _put_dropout(net, model)
    return net


def title(model: ModelConfig) -> str:
    """What a message calls the net of a model."""
    pair = model.kind == "segmenter" and model.net not in WITHOUT_ENCODER
    return f"net {model.net} on encoder {model.encoder}" if pair else f"net {model.net}"


def _of_one_piece(model: ModelConfig, weights: str | None) -> nn.Module:
    build = WITHOUT_ENCODER[model.net]
    if weights is not None:
        raise UserError(f"weights: {weights!r} cannot be put into {model.net}, which has no encoder; allowed: null")
    if model.dropout:
        own = "dropout" in inspect.signature(build).parameters
        instead = f"options: {{dropout: {model.dropout}}}, its own" if own else "nets that have an encoder"
        raise UserError(f"dropout: {model.dropout} has no place in {model.net}; allowed: 0; use {instead}")
    _check_joint_head(model, build)
    _check_options(model, build)
    with refusing(f"{title(model)}: refused"):
        return build(**model.options)


def _pretrained(encoder: str, weights: str | None) -> str | bool | None:
    """What smp wants to be told of the weights; an encoder that it does not know is a UserError."""
    of_timm = encoder.startswith("tu-") or smp.encoders.is_equivalent_to_timm_universal(encoder)
    if not of_timm and encoder not in smp.encoders.get_encoder_names():
        raise UserError(
            f"encoder: unknown name {encoder!r}; allowed: tu-NAME for any timm backbone, or "
            + ", ".join(smp.encoders.get_encoder_names())
        )
    if weights != "imagenet":
        return None
    return True if of_timm else weights  # the weights' tag is part of the name of a timm backbone


def _check_joint_head(model: ModelConfig, architecture: Callable[..., Any]) -> None:
    if model.gate_weight and "aux_params" not in inspect.signature(architecture).parameters:
        raise UserError(
            f"gate_weight: {model.gate_weight} needs a classification head, for which {model.net} has no aux_params; "
            f"allowed: 0"
        )


def _check_options(model: ModelConfig, architecture: Callable[..., Any]) -> None:
    known = inspect.signature(architecture).parameters
    for option in model.options:
        if model.net in SEGMENTERS and option in OWN_ARGUMENTS:
            raise UserError(f"options: {option} is not for {model.net} to choose ({OWN_ARGUMENTS[option]})")
        takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        if takes_more and (model.encoder.startswith("tu-") or model.net not in SEGMENTERS):
            continue  # smp hands the rest to timm, which refuses what it does not know
        if option not in known:
            allowed = [name for name in known if name not in OWN_ARGUMENTS and name != "kwargs"]
            raise UserError(f"options: {model.net} has no option {option!r}; allowed: {', '.join(allowed) or 'none'}")


def _put_dropout(net: nn.Module, model: ModelConfig) -> None:
    """Put dropout of whole maps at the start of the segmentation head: neighbours in a map tell the same."""
    head = getattr(net, "segmentation_head", None)
    head = getattr(head, "head", head)  # DPT's is wrapped once more
    if not isinstance(head, nn.Sequential):
        raise UserError(
            f"dropout: {model.dropout} needs a segmentation_head (nn.Sequential), which {model.net} has not; "
            f"allowed: 0; use an option of the net's own"
        )
    head.insert(0, nn.Dropout2d(model.dropout))
