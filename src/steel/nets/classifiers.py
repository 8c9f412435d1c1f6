"""Classifiers by name: any backbone of timm with four multilabel outputs."""

import difflib
from typing import Any

from torch import nn

from steel.competition import N_CLASSES
from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.torchvision_shim import ensure_torchvision_imports
from steel.nets.weights import downloading, load_encoder
from steel.tables import choose

ensure_torchvision_imports()
import timm  # noqa: E402 (after the shim)


def classifier(model: ModelConfig, weights: str | None) -> nn.Module:
    """The timm model `model.net`: (B, 1, H, W) float -> logits (B, 4).

    `weights`: imagenet (timm sums the three filters of the first layer into one), a file, or None. Raises UserError for
    an unknown name, an option the net does not know, weights that cannot be had.
    """
    if ":" in model.net:
        if weights is not None:
            raise UserError(f"weights: {weights!r} cannot be put into {model.net}; allowed for a net of your own: null")
        return choose({}, model.net, "net")(in_chans=1, num_classes=N_CLASSES, **model.options)
    if not timm.is_model(model.net):
        close = difflib.get_close_matches(model.net, timm.list_models(), 5)
        raise UserError(f"net: timm has no model {model.net!r}; close names: {', '.join(close) or 'none'}")
    try:
        with downloading(model.net, weights):
            fixed: dict[str, Any] = {"pretrained": weights == "imagenet", "in_chans": 1, "num_classes": N_CLASSES}
            net = timm.create_model(model.net, **fixed, **model.options)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"net {model.net}: refused: {(str(error) or repr(error)).splitlines()[0]}") from None
    if weights not in (None, "imagenet"):
        load_encoder(net, weights, model.weights_partial)
    return net
