"""Why the ECG model calls a beat S, V or F: exact Shapley values against the same patient's usual beat.

The players are PLAYERS of qepa_uplink/beat_reasons.py: stretches of the waveform in all leads with the numbers about
them, and intervals. A player that is left out is as in the usual beat in a regular rhythm (:meth:`BeatWindows.usual`).
The game's value is P(answer) - P(N), so that the shares add up to what sets this beat apart from the usual one, the
base. Where the base is above 0, the model takes the usual beat itself for ``answer`` rather than N: shares then say
only what this beat adds to that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.beat_reasons import EDGES_MS, NUMBERS_OF, PLAYERS
from qepa_uplink.bedside_models import BEFORE_R, CONTRACTS, ECG_BEATS, NUMBERS
from qepa_uplink.messages import LEAD_STEPS
from qepa_uplink.shapley import shapley_of_values

from .runtime import InferenceError
from .windows import LEADS, LENGTH, RATE_HZ

Real = NDArray[np.float32]
Inputs = tuple[Real, Real]  # leads [n, LENGTH, 2 LEADS], numbers [n, NUMBERS]
Run = Callable[[Real, Real], Real]  # n rows of each to probabilities [n, classes]

CLASSES = CONTRACTS[ECG_BEATS].outputs
NORMAL = CLASSES.index("N")
_ROUNDING = 0.02  # of four probabilities in int8, each of a step of 1/256
EVERYBODY = (1 << len(PLAYERS)) - 1  # the coalition that is the beat itself


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatReasons:
    """shares: [PLAYERS], for P(answer) - P(N); with ``base``, the usual beat's, they add up to the beat's own."""

    answer: int
    probabilities: NDArray[np.float64]
    shares: NDArray[np.float64]
    base: float


def explain(run: Run, beat: Inputs, usual: Inputs, answer: int) -> BeatReasons:
    """Explain a beat that the model has called ``answer``, not N, by running it on all coalitions of players.

    Raises InferenceError if the model fails, answers no probabilities, or another class than before.
    """
    outputs = run(*coalitions(beat, usual)).astype(np.float64)
    if outputs.shape != (EVERYBODY + 1, len(CLASSES)):
        raise InferenceError(f"the model answers with the shape {outputs.shape}")
    # Written so that what is no number fails, too.
    if not ((outputs >= 0).all() and (abs(outputs.sum(axis=1) - 1) < _ROUNDING).all()):
        raise InferenceError("the model answers with what are no probabilities")
    if answer == NORMAL or int(outputs[EVERYBODY].argmax()) != answer:
        raise InferenceError(f"the model does not call this beat {CLASSES[answer]} (again)")
    values = outputs[:, answer] - outputs[:, NORMAL]
    return BeatReasons(
        answer=answer,
        probabilities=outputs[EVERYBODY],
        shares=shapley_of_values(values[:, None])[:, 0],
        base=float(values[0]),
    )


def coalitions(beat: Inputs, usual: Inputs) -> Inputs:
    """Return the model's inputs for each coalition: bit i of a row's number is whether player i is the beat's own."""
    leads = np.where(_LEADS_JOINED, beat[0], usual[0])
    numbers = np.where(_NUMBERS_JOINED, beat[1], usual[1])
    return leads, numbers


def thousandths(values: NDArray[np.floating]) -> tuple[int, ...]:
    """As an ExplainedBeat has them."""
    return tuple(np.rint(1000 * values.astype(np.float64)).astype(int).tolist())


def lead_bytes(inputs: Inputs) -> bytes:
    """The first lead of one beat, as an ExplainedBeat has it."""
    return bytes(np.clip(np.rint(LEAD_STEPS * inputs[0][0, :, 0]), -128, 127).astype(np.int8))


def players() -> list[NDArray[np.int64]]:
    """Inputs of each of PLAYERS, in the order of leads and then numbers; which leads there are is nobody's."""
    number = np.arange(LENGTH * 2 * LEADS).reshape(LENGTH, 2 * LEADS)
    t_ms = 1000 * (np.arange(LENGTH) - BEFORE_R) / RATE_HZ
    inside = {name: (t_ms >= low) & (t_ms < high) for name, (low, high) in EDGES_MS.items()}
    inside["baseline"] = ~np.any(list(inside.values()), axis=0)
    nowhere = np.zeros(LENGTH, bool)
    return [
        np.r_[
            number[inside.get(name, nowhere)].ravel(), [number.size + NUMBERS.index(each) for each in NUMBERS_OF[name]]
        ].astype(np.int64)
        for name in PLAYERS
    ]


def _joined() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which inputs are the beat's own, by coalition."""
    n = LENGTH * 2 * LEADS
    own = np.ones((EVERYBODY + 1, n + len(NUMBERS)), bool)
    for i, inputs in enumerate(players()):
        own[:, inputs] = (np.arange(EVERYBODY + 1) >> i & 1).astype(bool)[:, None]
    return own[:, :n].reshape(-1, LENGTH, 2 * LEADS), own[:, n:]


_LEADS_JOINED, _NUMBERS_JOINED = _joined()
