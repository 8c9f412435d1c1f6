"""Strips with masks outlined in the class colours, maps in the colours of the scale, and pictures written as PNG."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from steel import files

# One colour per class, RGB, told apart with any kind of colour vision. Source: Okabe and Ito, Color Universal Design.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167))
HEAT = cv2.COLORMAP_INFERNO  # of a probability: from black to yellow, the brighter the likelier, in grey too


def outline(strip: NDArray[np.uint8], masks: NDArray[np.bool_], width_px: int = 2) -> NDArray[np.uint8]:
    """Draw the outlines of four masks (4, H, W) on a grey strip (H, W): (H, W, 3) uint8, BGR as OpenCV writes it."""
    picture: NDArray[np.uint8] = np.repeat(strip[..., None], 3, axis=2)
    for mask, colour in zip(masks, COLOURS, strict=True):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour[::-1], width_px)
    return picture


def compare(strip: NDArray[np.uint8], true: NDArray[np.bool_], pred: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Truth above, prediction below, a white line between: (2 H + 4, W, 3) uint8, BGR."""
    line = np.full((4, strip.shape[1], 3), 255, np.uint8)
    return np.concatenate([outline(strip, true), line, outline(strip, pred)])


def heat(prob: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A map (H, W), 255 = probability 1, in the colours of the scale: (H, W, 3) uint8, BGR."""
    return cv2.applyColorMap(prob, HEAT).astype(np.uint8, copy=False)


def heat_stops(n: int) -> NDArray[np.float64]:
    """The colours of `n` >= 2 even steps of the scale from probability 0 to 1, (n, 3) RGB 0..1."""
    return heat(np.linspace(0, 255, n).round().astype(np.uint8)[None])[0, :, ::-1] / 255


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture (H, W, 3) uint8, BGR, whole or not at all."""
    with files.atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
