"""Back-pressure of a replay without a clock: Alice's questions about states say how far her end and Bob's have come.

Bob reports what he has gathered when that is much or when some time has passed, and Alice asks the transmitter for the
states of what he reports. So detections beyond the last slot asked about are still under way. What the ends drop while
they cannot keep up is never asked about: then only a little more is sent, now and then, until they can.
"""

from collections import deque
from typing import Final

from qepa_qkd.serial_protocol import QUERY_SLOTS, Detections, SerialProtocolError, Slots, decode_message
from qepa_qkd.slot_alignment import SAMPLE_EVENTS

IN_FLIGHT: Final = 60_000
"""Detections sent and not asked about: more than Bob reports at once."""
TRICKLE: Final = 4000
"""Detections that are sent regardless, every `TRICKLE_S`: more than the ends take to align their slots, and a reason
for Bob to report what he has."""
TRICKLE_S: Final = 0.25
_QUERIES_OF_A_SAMPLE: Final = -(-SAMPLE_EVENTS // QUERY_SLOTS)
_SLACK_SLOTS: Final = 64
"""Between the slot numbers of the two controllers."""


class Pacing:
    """One run. Time tags have no slots before Bob finds them: frames with tags are not held back."""

    def __init__(self) -> None:
        self._under_way: deque[tuple[int, int]] = deque()
        """Last slot and number of detections of each frame."""
        self._in_flight = 0
        self._asked_to = -1
        self._rising = 0
        self._aligned = False
        self._trickle_s = 0.0
        self._trickled = 0

    def admits(self, now_s: float) -> bool:
        """Whether the next frame may be sent."""
        if self._aligned and self._in_flight < IN_FLIGHT:
            return True
        if now_s - self._trickle_s >= TRICKLE_S:
            self._trickle_s, self._trickled = now_s, 0
        return self._trickled < TRICKLE

    def sent(self, kind: int, payload: bytes) -> None:
        """Take note of a frame to the host."""
        try:
            message = decode_message(kind, payload)
        except SerialProtocolError:
            return
        if isinstance(message, Detections) and len(message.slots):
            count = len(message.slots)
            self._under_way.append((int(message.slots[-1]), count))
            self._in_flight += count
            self._trickled += count

    def asked(self, slots: Slots) -> None:
        """Take note of a question about the states in `slots`, rising."""
        if slots[-1] - slots[0] < 2 * len(slots):
            return  # a stretch, searched for the difference between the slots; nothing of it is key
        # While they align, the ends ask about the same slots over and over, and Bob keeps nothing.
        self._rising = self._rising + 1 if slots[0] > self._asked_to else 0
        self._aligned = self._aligned or self._rising > _QUERIES_OF_A_SAMPLE
        self._asked_to = max(self._asked_to, int(slots[-1]))
        while self._under_way and self._under_way[0][0] <= self._asked_to + _SLACK_SLOTS:
            self._in_flight -= self._under_way.popleft()[1]
