"""A replay without a clock waits for Alice and Bob: what they have no time for is not sent yet."""

import numpy as np
import pytest

from qepa_qkd.serial_protocol import Detections, encode_message
from qepa_tools.bench.pacing import IN_FLIGHT, TRICKLE, TRICKLE_S, Pacing

FRAME = 500
FRAMES = 1000
SLOTS = np.arange(FRAME * FRAMES, dtype=np.int64) * 20


class Ends:
    """Bob reports at every call what arrived since; Alice asks about it, once the slots are aligned."""

    def __init__(self) -> None:
        self.pacing = Pacing()
        self.sent = self.reported = 0

    def send(self, now_s: float) -> int:
        """What the bench does at one tick; returns how many detections it sent."""
        before = self.sent
        while self.sent < len(SLOTS) and self.pacing.admits(now_s):
            slots = SLOTS[self.sent : self.sent + FRAME]
            detectors = np.zeros(FRAME, np.uint8)
            frame = Detections(1, int(slots[0]), int(slots[-1]) + 1, 0, slots, detectors)
            self.pacing.sent(*encode_message(frame))
            self.sent += FRAME
        return self.sent - before

    def align(self, first: int = 100) -> None:
        sample = SLOTS[first : first + 2000]
        for offset in range(-16, 17):
            for part in (sample[:1500], sample[1500:]):
                self.pacing.asked(part - offset)
        self.reported = self.sent

    def report(self) -> None:
        for first in range(self.reported, self.sent, 1500):
            self.pacing.asked(SLOTS[first : min(first + 1500, self.sent)] - 3)
        self.reported = self.sent


def aligned() -> tuple[Ends, float]:
    ends = Ends()
    ends.send(0.0)
    ends.align()
    ends.send(TRICKLE_S)
    ends.report()
    return ends, TRICKLE_S


def test_while_the_ends_align_only_what_they_need_is_sent() -> None:
    ends = Ends()
    assert ends.send(0.0) == TRICKLE
    assert ends.send(0.2) == 0
    ends.align()
    for start in range(int(SLOTS[100]) - 8192, int(SLOTS[2100]) + 8192, 1500):
        ends.pacing.asked(np.arange(start, start + 1500))
    ends.align(2000)
    assert ends.send(0.2) == 0
    assert ends.send(TRICKLE_S) == TRICKLE
    ends.report()
    assert ends.send(TRICKLE_S) == IN_FLIGHT


def test_slow_ends_never_have_more_under_way_than_one_report_and_a_little() -> None:
    ends, now_s = aligned()
    while ends.sent < len(SLOTS):
        now_s += 1.0
        while ends.send(now_s):
            assert ends.sent - ends.reported <= IN_FLIGHT + TRICKLE
        ends.report()
    assert ends.reported == len(SLOTS)


def test_fast_ends_wait_for_no_clock() -> None:
    ends, now_s = aligned()
    while ends.send(now_s):
        ends.report()
    assert ends.sent == len(SLOTS)


@pytest.mark.parametrize("silence_s", [1.0, 10.0])
def test_ends_that_ask_nothing_are_given_a_little_at_a_time(silence_s: float) -> None:
    ends, now_s = aligned()
    ends.send(now_s)
    ticks = np.arange(now_s, now_s + silence_s, 0.05)
    assert sum(ends.send(float(tick)) for tick in ticks) <= (silence_s / TRICKLE_S + 1) * TRICKLE
    ends.report()
    assert ends.send(float(ticks[-1])) >= IN_FLIGHT - TRICKLE
