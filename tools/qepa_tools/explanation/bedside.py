"""Why the gateway's network called a beat so: its waveform in segments and its rhythm, as players of an exact game.

A segment that is left out becomes that of another person's beat (occlusion by a background, not by zeros, which no
heart gives). With five players and b beats of background the network runs 32 b times.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.windows import BEFORE, LEADS, LENGTH, RATE_HZ
from qepa_server.explain.shapley import Attribution, players_shapley
from qepa_uplink.bedside_models import NUMBERS

Floats = NDArray[np.float64]
Run = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]  # leads, rhythm to probabilities

SEGMENTS = ("P", "QRS", "T", "baseline", "RR")
_EDGES_MS = {"P": (-240, -80), "QRS": (-80, 120), "T": (120, 400)}
_OF_SHAPE = {  # of the numbers beside the leads, but about the shape; the others are about the rhythm
    "P": ("unlike_p", "shift_p"),
    "QRS": (
        *("unlike", "height", "height_squared", "tall_unlike", "slope", "breadth", "area"),
        *(f"{what}_{region}" for what in ("unlike", "shift") for region in "qrs"),
    ),
    "T": ("unlike_t", "shift_t"),
    "baseline": ("unlike_u", "shift_u"),
}
_ALWAYS = ("second_lead",)  # says what is there, not what the heart does


def explain_window(
    run: Run, leads: NDArray[np.float32], rhythm: NDArray[np.float32], background: Sequence[NDArray[np.float32]]
) -> Attribution:
    """Exact Shapley values [classes, SEGMENTS] of the network's probabilities for one beat.

    leads: [LENGTH, 2 LEADS]. rhythm: [NUMBERS]. background: leads [b, ...] and rhythm [b, ...] of others' beats, with
    as many leads as this one. run: takes a batch of both.
    """
    row = _flat(leads[None], rhythm[None])[0]
    others = _flat(background[0], background[1])

    def output(rows: Floats) -> Floats:
        n = LENGTH * 2 * LEADS
        single = rows.astype(np.float32)
        return np.asarray(run(single[:, :n].reshape(-1, LENGTH, 2 * LEADS), single[:, n:]), dtype=np.float64)

    return players_shapley(output, row, others, players())


def players() -> list[NDArray[np.int64]]:
    """Inputs of each of SEGMENTS, in the order of leads and then rhythm."""
    number = np.arange(LENGTH * 2 * LEADS).reshape(LENGTH, 2 * LEADS)
    rhythm = {name: number.size + k for k, name in enumerate(NUMBERS)}
    t_ms = 1000 * (np.arange(LENGTH) - BEFORE) / RATE_HZ
    inside = {name: (t_ms >= low) & (t_ms < high) for name, (low, high) in _EDGES_MS.items()}
    inside["baseline"] = ~np.any(list(inside.values()), axis=0)
    found = {name: number[chosen].ravel() for name, chosen in inside.items()}
    for segment, names in _OF_SHAPE.items():
        found[segment] = np.r_[found[segment], [rhythm.pop(name) for name in names]]
    found["RR"] = np.array([place for name, place in rhythm.items() if name not in _ALWAYS])
    return [found[name].astype(np.int64) for name in SEGMENTS]


def _flat(leads: NDArray[np.float32], rhythm: NDArray[np.float32]) -> Floats:
    return np.concatenate([leads.reshape(len(leads), -1), rhythm], axis=1).astype(np.float64)
