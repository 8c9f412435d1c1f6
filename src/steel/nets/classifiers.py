"""Classifiers by name: those of the table, or any backbone of timm, with four multilabel outputs."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from steel.competition import N_CLASSES
from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.pooling import POOLS, Pooled
from steel.nets.study_classifiers import cnn_deep_multi, cnn_deep_single, cnn_multi, cnn_single, transfer
from steel.nets.torchvision_shim import ensure_torchvision_imports
from steel.nets.weights import downloading, load_encoder, refusing
from steel.tables import choose

ensure_torchvision_imports()
import timm  # noqa: E402 (after the shim)

# Nets beside those of timm, by name: called as f(pretrained=, **options) or f(**options) -> nn.Module.
CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "cnn_single": cnn_single,
    "cnn_multi": cnn_multi,
    "cnn_deep_single": cnn_deep_single,
    "cnn_deep_multi": cnn_deep_multi,
    "study_resnet50": partial(transfer, "resnet50"),
    "study_xception": partial(transfer, "legacy_xception"),
}


def classifier(model: ModelConfig, weights: str | None) -> nn.Module:
    """The net `model.net`: (B, 1, H, W) float -> logits (B, 4).

    `weights`: imagenet (timm sums the three filters of the first layer into one), a file, or None. `dropout` is timm's
    `drop_rate`, before the last layer. Raises UserError for an unknown name, an option the net does not know, weights
    that cannot be had, dropout where there is no place for it.
    """
    own = ":" in model.net
    if own and weights is not None:
        raise UserError(f"weights: {weights!r} cannot be put into {model.net}; allowed for a net of your own: null")
    if model.dropout and (own or model.net in CLASSIFIERS):
        instead = "an option of its own" if own else "a net of timm; the study's have dropouts of their own"
        raise UserError(f"dropout: {model.dropout} has no place in {model.net}; allowed: 0; use {instead}")
    build = _of_your_own if own else _of_table if model.net in CLASSIFIERS else _of_timm
    with refusing(f"net {model.net}: refused"), downloading(model.net, weights):
        net = build(model, weights == "imagenet")
    if weights not in (None, "imagenet"):
        load_encoder(_backbone(net), weights, model.weights_partial)
    return net


def _of_your_own(model: ModelConfig, _pretrained: bool) -> nn.Module:
    return choose({}, model.net, "net")(in_chans=1, num_classes=N_CLASSES, **model.options)


def _of_table(model: ModelConfig, pretrained: bool) -> nn.Module:
    builder = CLASSIFIERS[model.net]
    known = inspect.signature(builder).parameters
    if "pretrained" in known:
        return builder(pretrained=pretrained, **model.options)
    if model.weights is not None:
        raise UserError(f"weights: {model.weights!r} cannot be put into {model.net}; allowed: null")
    return builder(**model.options)


def _of_timm(model: ModelConfig, pretrained: bool) -> nn.Module:
    """A timm net; with the option `pool` its last maps are pooled by one of POOLS instead of its own way."""
    if not timm.is_model(model.net):
        close = difflib.get_close_matches(model.net, [*timm.list_models(), *CLASSIFIERS], 5)
        raise UserError(f"net: timm has no model {model.net!r}; close names: {', '.join(close) or 'none'}")
    fixed: dict[str, Any] = {"pretrained": pretrained, "in_chans": 1}
    options = dict(model.options)
    if model.dropout and "drop_rate" in options:
        raise UserError(f"dropout: {model.dropout} and options.drop_rate {options['drop_rate']}; allowed: one of them")
    if model.dropout:
        options["drop_rate"] = model.dropout
    pool = options.pop("pool", None)
    if pool is None:
        return timm.create_model(model.net, num_classes=N_CLASSES, **fixed, **options)
    if pool not in POOLS:
        raise UserError(f"options: unknown pool {pool!r}; allowed: {', '.join(POOLS)}")
    dropout = options.pop("drop_rate", 0.0)
    return Pooled(timm.create_model(model.net, num_classes=0, global_pool="", **fixed, **options), pool, dropout)


def _backbone(net: nn.Module) -> nn.Module:
    """Where a file of pretrained weights belongs."""
    inner = getattr(getattr(net, "body", net), "backbone", net)
    return inner if isinstance(inner, nn.Module) else net
