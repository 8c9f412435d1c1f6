"""The searched rule of one class: thresholds, minimum areas and gates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steel.competition import N_PIXELS
from steel.decide.evidence import N_LEVELS, Evidence
from steel.errors import UserError

NEVER_PX = N_PIXELS + 1  # a minimum area that no mask reaches: show nothing
MAX_POWER = 8


@dataclass(frozen=True)
class Rule:
    """When and what to show of one class; what follows the third field is off by default.

    Attributes:
        threshold: 1..255; a pixel belongs to the mask if its value is at least this.
        min_area_px: the mask is shown only if it has at least so many pixels; 0..409,601 (which none has).
        min_gate: 0..1; the mask is shown only if the gate, the probability that the class is there, is at least this.
        trigger: threshold..255, trigger_px: 0..409,601; hysteresis (Canny, 1986): the mask is shown only if at least
            trigger_px pixels have a value of at least the trigger.
        gate_power: 0, .5, 1 .. 8; soft gate: min_area_px / gate ** gate_power pixels are needed, see `shows`.
        product: values are multiplied by the gate before they meet threshold and trigger, see `own_level`.
        component_px: connected components (of 8 neighbours) of fewer pixels at the threshold are removed first.
    """

    threshold: int
    min_area_px: int
    min_gate: float
    trigger: int = 255
    trigger_px: int = 0
    gate_power: float = 0.0
    product: bool = False
    component_px: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _check_int("threshold", self.threshold, 1, 255)
        _check_int("min_area_px", self.min_area_px, 0, NEVER_PX)
        if not _is_number(self.min_gate) or not 0 <= self.min_gate <= 1:
            raise UserError(f"rule: min_gate is {self.min_gate!r}, allowed: a number 0..1")
        _check_int("trigger", self.trigger, self.threshold, 255)
        _check_int("trigger_px", self.trigger_px, 0, NEVER_PX)
        power = self.gate_power
        if not _is_number(power) or not 0 <= power <= MAX_POWER or 2 * power % 1:
            raise UserError(f"rule: gate_power is {power!r}, allowed: 0, 0.5, 1 .. {MAX_POWER}")
        if not isinstance(self.product, bool):
            raise UserError(f"rule: product is {self.product!r}, allowed: true, false")
        _check_int("component_px", self.component_px, 0, N_PIXELS)
        if self.component_px and (self.product or self.trigger_px):
            raise UserError(f"rule: component_px is {self.component_px} beside trigger_px or product, allowed: 0")

    def level(self, evidence: Evidence) -> NDArray[np.int64]:
        """See `AnyRule`."""
        level, trigger = self.levels(evidence.gate)
        shown = self.shows(evidence.area_at(level), evidence.area_at(trigger), evidence.gate)
        return np.where(shown, level, N_LEVELS)

    def opened(self) -> "Rule":
        """See `AnyRule`."""
        return Rule(self.threshold, min_area_px=0, min_gate=0.0, component_px=self.component_px)

    def levels(self, gate: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values that mask and trigger ask of a pixel of each image, (n,) 1..256, for gates (n,)."""
        if self.product:
            return own_level(self.threshold, gate), own_level(self.trigger, gate)
        shape = np.shape(gate)
        return np.full(shape, self.threshold), np.full(shape, self.trigger)

    def shows(self, area_px: ArrayLike, trigger_area_px: ArrayLike, gate: ArrayLike) -> NDArray[np.bool_]:
        """Whether masks are shown: the one place that says so.

        The soft gate asks for area_px * weight >= min_area_px, with the weight of `gate_weight`: exact in integers at
        power 0, else in float64; at a gate of 0 only a minimum of 0 is reached.

        Args:
            area_px: (n,) pixels at the first of `levels`.
            trigger_area_px: (n,) pixels at the second.
            gate: (n,) probabilities.
        """
        # The gate is stored in float32: .7 in float64 would be above the stored .7.
        open_gate = np.asarray(gate, np.float32) >= np.float32(self.min_gate)
        large = np.asarray(area_px) * gate_weight(gate, self.gate_power) >= self.min_area_px
        return open_gate & large & (np.asarray(trigger_area_px) >= self.trigger_px)


def own_level(threshold: ArrayLike, gate: ArrayLike) -> NDArray[np.int64]:
    """The least value of a pixel whose product with the gate is at least the threshold: ceil(threshold / gate), 1..256.

    256, which no pixel has, stands for all beyond 255. Exact: a threshold has 8 bits and the gate, in float32, 24, so
    that a quotient that is no whole number is at least 2 ** -32 (relative) away from one, and float64 keeps it there.

    Args:
        threshold: whole numbers 1..255, any shape.
        gate: probabilities of a shape that fits.
    """
    with np.errstate(divide="ignore"):  # gate 0: infinity, as it should be
        quotient = np.asarray(threshold, np.float64) / np.asarray(gate, np.float32).astype(np.float64)
    return np.minimum(np.ceil(quotient), N_LEVELS).astype(np.int64)


def gate_weight(gate: ArrayLike, power: float) -> NDArray[np.float64]:
    """gate ** power in float64, for powers in halves; the same bits on every machine, which `pow` does not promise."""
    exact = np.asarray(gate, np.float32).astype(np.float64)
    weight = np.sqrt(exact) if 2 * power % 2 else np.ones_like(exact)
    for _ in range(int(power)):
        weight = weight * exact
    return weight


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"rule: {name} is {value!r}, allowed: a whole number {low}..{high}")
