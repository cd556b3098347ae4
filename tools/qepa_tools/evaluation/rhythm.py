"""Proposed features of the rhythm, from what the board measures today: the same 17 places, no word of the model more.

Atrial fibrillation makes early beats without their being ectopic, and a run of supraventricular beats makes its own
rate the usual one within eight beats. So regularity is judged over about 32 beats, the usual interval over about 128:

    steady    the running share of intervals that differ by less than 1/12 of the local mean from the one before
    regular   max(0, 1 - 2 (1 - steady))
    early     4 times what the interval falls short of 92 % of the slow mean

`irregular` becomes 1 - steady, `rr_pre_global` is over the slower mean, `premature` and `premature_like` are weighed by
`regular`, the latter with `early` where that is more, and `unlike_mid` gives its place to regular times early. Integers
as a board would compute them: nothing reaches 2^30.
"""

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import LIMIT, NAMES, ONE
from qepa_tools.evaluation.cohort import Case

_PRE_GLOBAL, _PREMATURE, _IRREGULAR = (NAMES.index(name) for name in ("rr_pre_global", "premature", "irregular"))
_UNLIKE, _MID, _LIKE = (NAMES.index(name) for name in ("unlike", "unlike_mid", "premature_like"))

_RR = 8
_SLOW_SHIFT = 7
_STEADY_SHIFT = 5
_WAITS_S = 2.5
_LONGEST_S = 3


def proposed(case: Case) -> NDArray[np.int16]:
    """Features of all beats of a case, the six places changed."""
    fs_hz = case.recording.fs_hz
    rows = case.beats.features.astype(np.int64)
    local: list[int] = []
    slow = previous = unsteady = 0
    last: int | None = None
    for row, sample in zip(rows, case.beats.samples.tolist(), strict=True):
        rr = sample - last if last is not None and sample - last <= _WAITS_S * fs_hz else 0
        last = sample
        _change(row, rr, slow, unsteady >> 6)
        if rr <= 0:
            continue
        rr = min(rr, _LONGEST_S * fs_hz)
        local = [*local, rr][-_RR:]
        slow = slow + (((rr << 8) - slow) >> (_SLOW_SHIFT if len(local) == _RR else 2)) if slow else rr << 8
        if previous:
            differs = 12 * abs(rr - previous) * len(local) > sum(local)
            unsteady += ((ONE << 6 if differs else 0) - unsteady) >> _STEADY_SHIFT
        previous = rr
    return rows.astype(np.int16)


def _change(row: NDArray[np.int64], rr: int, slow: int, irregular: int) -> None:
    """Write the six features of one beat in place; slow (Q8) and irregular are those of before it."""
    premature, unlike = int(row[_PREMATURE]), int(row[_UNLIKE]) >> 1
    to_usual = (((rr << 8) - slow) << 8) // slow if slow else 0
    row[_PRE_GLOBAL] = max(-LIMIT, min(LIMIT, to_usual))
    row[_IRREGULAR] = irregular
    regular = max(0, ONE - 2 * irregular)
    early = max(0, -20 - int(row[_PRE_GLOBAL])) << 2
    row[_PREMATURE] = regular * premature >> 8
    row[_MID] = min(LIMIT, regular * early >> 8)
    row[_LIKE] = min(LIMIT, regular * max(premature, early) * max(0, 128 - unlike) >> 14)
