"""What the glucose model sees, made alike for training and for use: two hours of readings at steps of five minutes.

A reading that is missing is marked as missing. It is never made up from its neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.bedside_models import CONTRACTS, GLUCOSE_30

Integers = NDArray[np.int64]
Real = NDArray[np.float32]

STEP_S = 300
STEPS = CONTRACTS[GLUCOSE_30].inputs[0].shape[1]  # the last is the newest reading
SPAN_S = (STEPS - 1) * STEP_S
RECENT_S = 1800
NEEDED = 3  # readings of the last RECENT_S, the newest among them
AHEAD_S = 1800

DIFFERENCE, PRESENT, LEVEL = range(3)  # columns of a window
UNIT_MG_DL = 128.0  # of differences: a step of int8 is one mg/dL then
HERE = 127 / 128  # the most that int8 reaches in these units
LEVEL_MG_DL, LEVEL_UNIT_MG_DL = 200.0, 256.0

_NEAR_S = STEP_S // 2


def usable(t_s: Integers) -> NDArray[np.bool_]:
    """Whether at each reading enough others lie close behind it for a forecast. t_s: rising."""
    first = np.searchsorted(t_s, t_s - RECENT_S - _NEAR_S)
    enough: NDArray[np.bool_] = np.arange(len(t_s)) - first + 1 >= NEEDED
    return enough


def windows(t_s: Integers, mg_dl: Integers, at: Integers) -> Real:
    """Return the input "readings" for a forecast from each of the readings number ``at``: (len(at), STEPS, 3).

    t_s: rising seconds of any clock. Columns: the reading less the newest one, whether there is one, and the newest
    reading itself, on every step. Differences are clipped to what int8 holds in whole mg/dL.
    """
    out = np.zeros((len(at), STEPS, 3), np.float32)
    newest = mg_dl[at]
    out[:, :, LEVEL] = ((newest - LEVEL_MG_DL) / LEVEL_UNIT_MG_DL)[:, None]
    out[:, -1, PRESENT] = HERE
    rows = np.arange(len(at))
    back = 1
    while True:
        before = at - back
        age_s = t_s[at] - t_s[np.maximum(before, 0)]
        inside = (before >= 0) & (age_s <= SPAN_S + _NEAR_S)
        if not inside.any():
            break
        step = STEPS - 1 - (age_s + _NEAR_S) // STEP_S
        chosen = rows[inside & (step >= 0) & (step < STEPS - 1)]
        place = step[chosen]
        free = out[chosen, place, PRESENT] == 0
        chosen, place = chosen[free], place[free]
        out[chosen, place, DIFFERENCE] = (mg_dl[before[chosen]] - newest[chosen]) / UNIT_MG_DL
        out[chosen, place, PRESENT] = HERE
        back += 1
    return np.clip(out, -1, HERE)
