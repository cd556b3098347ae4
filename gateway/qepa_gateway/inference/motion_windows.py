"""What the activity model sees, made alike for training and for use: 2.56 s of motion, in axes of the wearer.

Turning the sensor, or a strap, changes nothing: each sample is split along gravity and across it, and gravity itself is
the mean over the window. Where on the body it is worn does matter.
"""

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.bedside_models import ACTIVITY, CONTRACTS

Real = NDArray[np.float32]

RATE_HZ = CONTRACTS[ACTIVITY].fs_hz
LENGTH = CONTRACTS[ACTIVITY].inputs[0].shape[1]
MIDDLE = LENGTH // 2  # the sample whose activity is asked for

_SMOOTH = 13  # samples, half a second: what is left is the way the sensor lies
_LIMIT = 2.0
_LEAST_G = 0.5  # a mean that no accelerometer on earth reports
_MOST_G = 2.5


def needed(fs_hz: int) -> int:
    """How many samples at ``fs_hz`` a window takes."""
    return -(-LENGTH * fs_hz // RATE_HZ)


def resample(milli_g: Real, fs_hz: int) -> Real:
    """Return the samples in g at RATE_HZ: means of what lies between two of them, so that nothing folds back.

    milli_g: one row a sample, three columns; NaN where samples are missing, and in what they would be part of.
    """
    n = int(len(milli_g) * RATE_HZ / fs_hz + 1e-9)
    edges = np.arange(n + 1) * (fs_hz / RATE_HZ)
    known = np.asarray(np.isfinite(milli_g).all(axis=1))
    filled = np.where(known[:, None], milli_g, 0).astype(np.float64)
    whole = np.minimum(edges.astype(np.int64), len(milli_g) - 1)
    part = edges - whole
    missing = np.concatenate([[0], np.cumsum(~known)])
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(filled, axis=0)])
    means = np.diff(sums[whole] + part[:, None] * filled[whole], axis=0) * (RATE_HZ / fs_hz / 1000)
    last = np.ceil(edges[1:] - 1e-9).astype(np.int64)
    means[missing[last] > missing[whole[:-1]]] = np.nan
    result: Real = means.astype(np.float32)
    return result


def window(g: Real) -> Real | None:
    """Return the input "motion", (1, LENGTH, 4), from LENGTH samples of three axes in g at RATE_HZ.

    Columns: acceleration along gravity less its mean, across it, the angle by which the sensor is tilted from its
    mean, and that tilt towards where the window ends. None where samples are missing or gravity is.
    """
    if g.shape != (LENGTH, 3) or not np.isfinite(g).all():
        return None
    gravity = g.mean(axis=0)
    size = float(np.linalg.norm(gravity))
    if not _LEAST_G <= size <= _MOST_G:
        return None
    up = gravity / size
    dynamic = g - gravity
    along = dynamic @ up
    across = np.linalg.norm(dynamic - np.outer(along, up), axis=1)
    lying = _smooth(g)
    lying /= np.maximum(np.linalg.norm(lying, axis=1, keepdims=True), 1e-3)
    tilt = np.linalg.norm(lying - up, axis=1)
    way = lying[-_SMOOTH // 2 :].mean(axis=0) - lying[: _SMOOTH // 2].mean(axis=0)
    way /= max(float(np.linalg.norm(way)), 1e-6)
    out = np.stack([along, across, tilt, (lying - up) @ way], axis=1)
    clipped: Real = np.clip(out, -_LIMIT, _LIMIT).astype(np.float32)
    return clipped[None]


def _smooth(g: Real) -> NDArray[np.float64]:
    half = _SMOOTH // 2
    padded = np.pad(g.astype(np.float64), ((half + 1, half), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0)
    means: NDArray[np.float64] = (sums[_SMOOTH:] - sums[:-_SMOOTH]) / _SMOOTH
    return means
