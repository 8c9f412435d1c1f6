"""Logarithm and power by + - * / on single float64 values: the same bits on every machine, unlike numpy's last one."""

import numpy as np
from numpy.typing import NDArray

LOG_2, ROOT_HALF = 0.6931471805599453, 0.7071067811865476


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive numbers, of any shape.

    x = m * 2^e with m in [.5, 1), s = (m - r) / (m + r) for r = sqrt(1/2): log x = 2 atanh(s) + (e - 1/2) log 2.
    """
    m, e = np.frexp(x)
    s = (m - ROOT_HALF) / (m + ROOT_HALF)  # -.172...172
    series = np.zeros_like(s)
    for k in range(19, 0, -2):  # atanh(s) / s = 1 + s^2 / 3 + ... + s^18 / 19
        series = series * (s * s) + 1 / k
    return 2 * s * series + (e - 0.5) * LOG_2


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e ** x, of any shape; x beyond -700..700 counts as that.

    x = k log 2 + r with k whole and r in -.35...35: 2^k * (1 + r + r^2 / 2 + ... + r^14 / 14!).
    """
    inside = np.clip(x, -700, 700)
    k = np.rint(inside / LOG_2)
    r = inside - k * LOG_2
    series = np.ones_like(r)
    for n in range(14, 0, -1):
        series = 1 + r / n * series
    return np.ldexp(series, k.astype(np.int64))
