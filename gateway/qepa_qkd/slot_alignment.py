"""Slot alignment: which transmitter slot belongs to a receiver slot.

Both controllers count slots from the same sync pulse; cables and latencies leave a constant difference of a few
slots. At the wrong difference test-basis values agree half of the time, at the right one nearly always. Alice finds
it alone, from a report she already has, and tells nobody which candidates she looked at.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from qepa_qkd.errors import NoKey
from qepa_qkd.serial_protocol import STATE_GONE, Nibbles
from qepa_qkd.sifting import KEY_BASIS

CANDIDATE_OFFSETS: Final = range(-16, 17)
"""Receiver slot minus transmitter slot."""
SAMPLE_EVENTS: Final = 2000
_LEAST_SAMPLE: Final = 60


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
