"""Slot alignment: which transmitter slot belongs to a receiver slot.

Both controllers count slots from the same sync pulse; cables and latencies leave a constant difference of a few
slots. Where the receiver counts from the first light it saw, the difference is some thousands. At the wrong difference
test-basis values agree half of the time, at the right one nearly always. Alice finds it alone, from detections that no
block gets.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import NoKey
from qepa_qkd.serial_protocol import STATE_GONE, Nibbles, Slots
from qepa_qkd.sifting import KEY_BASIS

CANDIDATE_OFFSETS: Final = range(-16, 17)
"""Receiver slot minus transmitter slot."""
SAMPLE_EVENTS: Final = 2000
FAR_REACH: Final = 8192
"""Slots by which the far search may find the two counts apart, either way."""
MOST_FAR_SLOTS: Final = 1 << 18
"""Longest stretch of states that it asks the transmitter for."""
_LEAST_SAMPLE: Final = 60
_FAR_SIGMAS: Final = 8.0
"""Chance reaches it at one of the candidates with a probability of 1e-11."""


def find_offset(symbols: Nibbles, states_by_offset: Mapping[int, Nibbles]) -> int:
    """Return the offset at which reported test bits agree best with the states sent.

    Raises NoKey when even the best agreement could be chance (below 1/2 plus five standard deviations): there is no
    light, no sync, or nothing but noise.
    """
    best_offset, best_score = 0, -1.0
    for offset, states in states_by_offset.items():
        matched = (symbols != KEY_BASIS) & (states != STATE_GONE) & ((states >> 1 & 1) == 1)
        count = int(matched.sum())
        if count < _LEAST_SAMPLE:
            continue
        agreement = float(np.mean((states & 1)[matched] == (symbols & 1)[matched]))
        score = (agreement - 0.5) * 2 * count**0.5
        if score > best_score:
            best_offset, best_score = offset, score
    if best_score < 5:
        raise NoKey("receiver and transmitter slots do not align")
    return best_offset


def far_range(slots: Slots) -> tuple[int, int]:
    """Transmitter slots [first, end) whose states `find_far_offset` needs for detections in `slots`.

    Raises NoKey when they are too many: the detections lie too far apart to search without sync pulses.
    """
    first, end = max(0, int(slots[0]) - FAR_REACH), int(slots[-1]) + FAR_REACH + 1
    if end - first > MOST_FAR_SLOTS:
        raise NoKey("receiver and transmitter slots do not align, and detections are too rare to search further")
    return first, end


def find_far_offset(slots: Slots, symbols: Nibbles, first_slot: int, states: Nibbles) -> int:
    """Return the offset at which detections fit the states of all transmitter slots from `first_slot` on best.

    Cross-correlation of test-basis values, +1 and -1, by FFT; the sum of m agreements by chance has a standard
    deviation of sqrt(m). Raises NoKey when the best is no better than chance.
    """
    tested = symbols != KEY_BASIS
    low = int(slots[0])
    size = 1 << int(len(states) + int(slots[-1]) - low).bit_length()
    seen, seen_at = np.zeros(size), np.zeros(size)
    places = slots[tested] - low
    seen[places], seen_at[places] = 1.0 - 2.0 * (symbols[tested] & 1), 1.0
    sent_test = (states != STATE_GONE) & ((states >> 1 & 1) == 1)
    sent = np.where(sent_test, 1.0 - 2.0 * (states & 1), 0.0)
    agreement, met = (_correlate(a, b, size) for a, b in ((seen, sent), (seen_at, sent_test.astype(np.float64))))
    scores = np.where(met > _LEAST_SAMPLE, agreement / np.sqrt(np.maximum(met, 1.0)), 0.0)
    best = int(np.argmax(scores))
    if scores[best] < _FAR_SIGMAS:
        raise NoKey("receiver and transmitter slots do not align")
    shift = best if best < size // 2 else best - size
    return low - first_slot + shift


def _correlate(seen: npt.NDArray[np.float64], sent: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Sum over s of seen[s + k] sent[s], for each k mod `size`."""
    product = np.fft.irfft(np.fft.rfft(seen) * np.conj(np.fft.rfft(sent, size)), size)
    return np.asarray(product, np.float64)
