"""Strips that need no maps: those of which the rules show nothing, whatever the maps may hold."""

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_PIXELS
from steel.decide.evidence import N_LEVELS, AnyRule, Evidence
from steel.decide.expected import ExpectedRule
from steel.decide.rules import Rules


def closed(rules: Rules, gate: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether every class of a strip is closed, (n,), for the gates (n, 4) float32 of n strips."""
    return np.all([cannot_show(rule, gate[:, k]) for k, rule in enumerate(rules.classes)], axis=0)


def cannot_show(rule: AnyRule, gate: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether no map could make a rule show its class, (n,), for gates (n,) float32.

    Such a rule asks for areas of at least so many pixels: what it does not show of a map that is 255 everywhere, it
    shows of none. One by expected score may take a map's word against any gate, and is never closed.
    """
    if isinstance(rule, ExpectedRule) and rule.by_score:
        return np.zeros(len(gate), np.bool_)
    full = np.full((len(gate), N_LEVELS), N_PIXELS, np.int32)
    return rule.level(Evidence(full, gate, np.zeros(len(gate)))) == N_LEVELS
