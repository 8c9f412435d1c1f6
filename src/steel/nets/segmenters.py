"""Segmenters by name: the architectures of segmentation_models_pytorch with any of its encoders, and the study's."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from steel.competition import N_CLASSES
from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.study_segmenters import Fcn, UnetModified, UnetPlain, UnetResidual
from steel.nets.torchvision_shim import ensure_torchvision_imports
from steel.nets.weights import downloading, load_encoder
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

# Nets of one piece by name: called as f(**options) -> nn.Module; they have no encoder to choose or to pretrain.
WITHOUT_ENCODER: dict[str, Callable[..., nn.Module]] = {
    "fcn": Fcn,
    "unet_plain": UnetPlain,
    "unet_modified": UnetModified,
    "unet_residual": UnetResidual,
}


def segmenter(model: ModelConfig, weights: str | None) -> nn.Module:
    """The architecture `model.net` on `model.encoder`: (B, 1, H, W) float -> logits (B, 4, H, W).

    `weights`: imagenet (one input channel gets the sum of the three filters), a file, or None. Raises UserError for an
    unknown name, an option the architecture does not know, a pair that smp refuses, weights that cannot be had.
    """
    if model.net in WITHOUT_ENCODER:
        return _of_one_piece(model, weights)
    architecture = choose(SEGMENTERS | WITHOUT_ENCODER, model.net, "net")
    _check_options(model.net, architecture, model.options)
    if not model.encoder.startswith("tu-") and model.encoder not in smp.encoders.get_encoder_names():
        raise UserError(
            f"encoder: unknown name {model.encoder!r}; allowed: tu-NAME for any timm backbone, or "
            + ", ".join(smp.encoders.get_encoder_names())
        )
    pretrained: str | bool | None = weights if weights == "imagenet" else None
    if pretrained and model.encoder.startswith("tu-"):
        pretrained = True  # what smp asks for where the weights' tag is part of the encoder's name
    try:
        with downloading(model.encoder, weights):
            fixed = {"encoder_name": model.encoder, "in_channels": 1, "classes": N_CLASSES}
            net = architecture(encoder_weights=pretrained, **fixed, **model.options)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, TypeError, AssertionError) as error:
        raise UserError(
            f"net {model.net} on encoder {model.encoder}: refused: {(str(error) or repr(error)).splitlines()[0]}"
        ) from None
    if weights not in (None, "imagenet"):
        if not hasattr(net, "encoder"):
            raise UserError(f"weights: {weights!r} cannot be put into {model.net}, which has no encoder; allowed: null")
        load_encoder(net.get_submodule("encoder"), weights, model.weights_partial)
    return net


def _of_one_piece(model: ModelConfig, weights: str | None) -> nn.Module:
    if weights is not None:
        raise UserError(f"weights: {weights!r} cannot be put into {model.net}, which has no encoder; allowed: null")
    _check_options(model.net, WITHOUT_ENCODER[model.net], model.options)
    return WITHOUT_ENCODER[model.net](**model.options)


def _check_options(name: str, architecture: Callable[..., Any], options: dict[str, Any]) -> None:
    known = inspect.signature(architecture).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()) and "encoder_depth" not in known:
        return
    for option in options:
        if option not in known:
            raise UserError(f"options: {name} has no option {option!r}; allowed: {', '.join(known)}")
