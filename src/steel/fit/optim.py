"""Optimizers by name, and the groups of weights that they treat differently: what decays, what is the encoder's."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steel.errors import UserError
from steel.nets.torchvision_shim import ensure_torchvision_imports
from steel.tables import choose

ensure_torchvision_imports()
from timm.optim.lion import Lion  # noqa: E402 (after the shim)

Groups = list[dict[str, Any]]
# Where a net keeps its encoder: smp's segmenters, pooled classifiers, nets with a reducing layer around them.
ENCODER_AT = ("encoder", "backbone", "body.backbone")

# `fused` is one pass over the weights instead of one per operation; torch has it for these three, on CPU and GPU.


def adamw(groups: Groups, lr: float, betas: Iterable[float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(groups, lr, _pair(betas), eps, fused=True)


def adam(groups: Groups, lr: float, betas: Iterable[float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma and Ba, 2015); weight decay is a part of the gradient."""
    return torch.optim.Adam(groups, lr, _pair(betas), eps, fused=True)


def sgd(groups: Groups, lr: float, momentum: float = 0.9, nesterov: bool = True) -> Optimizer:
    """Gradient descent with Nesterov's momentum; weight decay is a part of the gradient."""
    return torch.optim.SGD(groups, lr, momentum, nesterov=nesterov, fused=True)


def rmsprop(groups: Groups, lr: float, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0) -> Optimizer:
    """RMSprop (Tieleman and Hinton, 2012), `alpha` the decay of its mean; weight decay is a part of the gradient."""
    return torch.optim.RMSprop(groups, lr, alpha, eps, momentum=momentum)


def radam(groups: Groups, lr: float, betas: Iterable[float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Rectified Adam (Liu et al., 2020), which brings its own warm-up; decoupled weight decay."""
    return torch.optim.RAdam(groups, lr, _pair(betas), eps, decoupled_weight_decay=True)


def nadam(groups: Groups, lr: float, betas: Iterable[float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam with Nesterov's momentum (Dozat, 2016); decoupled weight decay."""
    return torch.optim.NAdam(groups, lr, _pair(betas), eps, decoupled_weight_decay=True)


def lion(groups: Groups, lr: float, betas: Iterable[float] = (0.9, 0.99), caution: bool = False) -> Optimizer:
    """Lion (Chen et al., 2023): steps of equal size; its authors use 3 to 10 times less rate, and more decay.

    Decoupled weight decay. `caution` leaves out the weights whose step goes against the gradient (Liang et al., 2024).
    """
    return Lion(groups, lr, _pair(betas), caution=caution)


# Optimizer by name: called as f(groups, lr, **options); each group brings its own weight_decay and lr.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": adamw,
    "adam": adam,
    "sgd": sgd,
    "rmsprop": rmsprop,
    "radam": radam,
    "nadam": nadam,
    "lion": lion,
}


def optimizer_for(
    net: nn.Module,
    name: str,
    lr: float,
    weight_decay: float,
    encoder_lr: float = 1.0,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """The optimizer `name` for the weights of a net; biases and norms are not decayed.

    The encoder learns at `encoder_lr` (>= 0) times the rate of the rest: a schedule has to set each group's rate to
    lr * group["lr_scale"]. At 0 it is frozen: its weights get no gradient any more (which saves its backward pass) and
    no place in the optimizer; the statistics of its batch norms still follow the strips, which are no photographs.

    Raises UserError for an unknown name or option, a value that the optimizer refuses, an `encoder_lr` other than 1
    where there is no encoder.
    """
    builder = choose(OPTIMIZERS, name, "optimizer")
    options = dict(options or {})
    _check_options(name, builder, options)
    groups = _groups(net, lr, weight_decay, encoder_lr)
    try:
        return builder(groups, lr, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer_options: {name} refuses {options}: {str(error).splitlines()[0]}") from None


def encoder_weights(net: nn.Module) -> list[nn.Parameter]:
    """The weights of the encoder: those at a place of ENCODER_AT; in timm's nets all but the last layer; or none."""
    body, encoder = getattr(net, "body", net), encoder_of(net)
    if encoder is not body:
        return list(encoder.parameters())
    classifier: Any = getattr(body, "get_classifier", None)
    if classifier is None:
        return []
    last = classifier()
    layers = last if isinstance(last, tuple) else (last,)  # two in distilled nets
    head = {p for layer in layers for p in layer.parameters()}
    return [p for p in body.parameters() if p not in head]


def encoder_of(net: nn.Module) -> nn.Module:
    """The part of a net at a place of ENCODER_AT; the whole of its body where there is none."""
    body = getattr(net, "body", net)
    modules = dict(body.named_modules())
    return next((modules[name] for name in ENCODER_AT if name in modules), body)


def _groups(net: nn.Module, lr: float, weight_decay: float, encoder_lr: float) -> Groups:
    """The weights that learn: decayed or not, and those of the encoder apart if their rate differs."""
    parts = [(1.0, list(net.parameters()))]
    if encoder_lr != 1:
        encoder = set(encoder_weights(net))
        rest = [p for p in net.parameters() if p not in encoder]
        if not encoder or not rest:
            body = type(getattr(net, "body", net)).__name__
            raise UserError(f"encoder_lr: {encoder_lr} needs an encoder and a head, which {body} has not; allowed: 1")
        parts = [(1.0, rest), (encoder_lr, [p for p in net.parameters() if p in encoder])]
        if encoder_lr == 0:
            parts.pop()
            for p in encoder:
                p.requires_grad_(False)
    return [
        {
            "params": [p for p in weights if p.requires_grad and (p.ndim > 1) == decays],
            "weight_decay": weight_decay if decays else 0.0,
            "lr": lr * scale,
            "lr_scale": scale,
        }
        for scale, weights in parts
        for decays in (True, False)
    ]


def _check_options(name: str, builder: Callable[..., Optimizer], options: Mapping[str, Any]) -> None:
    known = inspect.signature(builder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    allowed = list(known)[2:]  # after groups and lr
    for option in options:
        if option not in allowed:
            choices = ", ".join(allowed) or "none"
            raise UserError(f"optimizer_options: {name} has no option {option!r}; allowed: {choices}")


def _pair(betas: Iterable[float]) -> tuple[float, float]:
    first, second = betas
    return float(first), float(second)
