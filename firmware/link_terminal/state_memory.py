"""The transmitter's states: drawing them with given probabilities, and remembering the latest for the host.

A state is a nibble: bit 0 value, bit 1 basis, bits 2-3 intensity.
"""

from qepa_wire.link_commands import PROBABILITY_ONE
from qepa_wire.link_frames import STATE_GONE

from .kernels import store

TABLE_SIZE = 4096
RANDOM_BYTES = 2  # per slot: 12 bits choose from the table, one is the value


def state_table(probabilities, key_basis_probability):
    """Return TABLE_SIZE states of value 0, each as often as it is to be sent, rounded to 1/4096.

    Arguments are in millionths: three for the intensities, one for basis H/V. Largest remainders round up, so that no
    combination is off by a whole entry.
    """
    shares = []
    for intensity in range(3):
        for basis, p in ((0, key_basis_probability), (1, PROBABILITY_ONE - key_basis_probability)):
            exact = probabilities[intensity] * p * TABLE_SIZE
            whole = exact // (PROBABILITY_ONE * PROBABILITY_ONE)
            shares.append([exact - whole * PROBABILITY_ONE * PROBABILITY_ONE, whole, intensity << 2 | basis << 1])
    missing = TABLE_SIZE - sum(share[1] for share in shares)
    for share in sorted(shares, key=lambda s: -s[0])[: max(0, missing)]:
        share[1] += 1
    table = bytearray()
    for _, count, state in shares:
        table += bytes([state]) * count
    while len(table) < TABLE_SIZE:  # probabilities written with six digits may add up to a little less than 1
        table.append(table[-1])
    return table[:TABLE_SIZE]


class StateRing:
    """The latest `slots` states, two a byte; blocks of an even number of slots go in, in order."""

    def __init__(self, slots):
        self._slots = slots
        self._ring = bytearray(slots // 2)
        self.end = 0  # the slot after the last one stored

    def clear(self):
        """Forget everything; slot 0 comes next."""
        self.end = 0

    def store(self, states):
        """Append one state a byte; their number divides the ring's."""
        store(states, self._ring, self.end % self._slots >> 1, len(states))
        self.end += len(states)

    def state(self, slot, sent):
        """Return the state of `slot`, or STATE_GONE before its time, from slot `sent` on, and once it is forgotten."""
        if slot < 0 or slot >= sent or slot >= self.end or slot < self.end - self._slots:
            return STATE_GONE
        at = slot % self._slots
        return self._ring[at >> 1] >> ((at & 1) << 2) & 15
