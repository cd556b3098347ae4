"""Tables of the ziggurat method (Marsaglia and Tsang 2000): a decreasing density cut into layers of equal area.

The kernels of `light` have them compiled in: after a change here, change that file too, so that numba compiles it anew.
"""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LAYERS: Final = 256
EXPONENTIAL_TAIL: Final = 7.69711747013104972
NORMAL_TAIL: Final = 3.6541528853610088
"""Where the lowest layer's tail begins, for 256 layers."""
_EXPONENTIAL_AREA = 3.9496598225815571993e-3
_NORMAL_AREA = 4.92867323399e-3


def exponential_layers() -> tuple[Floats, Floats]:
    """Return (widths, heights) for the density exp(-x), see `_layers`."""
    return _layers(EXPONENTIAL_TAIL, _EXPONENTIAL_AREA, lambda x: exp(-x), lambda y: -log(y))


def normal_layers() -> tuple[Floats, Floats]:
    """Return (widths, heights) for the density exp(-x^2 / 2), see `_layers`."""
    return _layers(NORMAL_TAIL, _NORMAL_AREA, lambda x: exp(-x * x / 2), lambda y: sqrt(-2 * log(y)))


def _layers(
    tail: float, area: float, density: Callable[[float], float], inverse: Callable[[float], float]
) -> tuple[Floats, Floats]:
    """Widths of the layers from the lowest up, a last one of 0, and the density there.

    Layer i reaches up from heights[i] to heights[i + 1]; the width of layer 0 is that of a rectangle with the area of
    its part left of the tail and the tail together.
    """
    widths, heights = np.zeros(LAYERS + 1), np.zeros(LAYERS + 1)
    widths[0], widths[1] = area / density(tail), tail
    for i in range(1, LAYERS):
        heights[i] = density(widths[i])
        if i + 1 < LAYERS:
            widths[i + 1] = inverse(heights[i] + area / widths[i])
    heights[LAYERS] = 1.0
    return widths, heights
