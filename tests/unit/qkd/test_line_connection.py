"""A connection over a line that loses, damages and adds bytes: what arrives is what was sent, or an end both notice."""

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd.line_connection import (
    CHUNK_BYTES,
    CLOSE_WITHIN_S,
    OPEN,
    WINDOW,
    Ended,
    Event,
    LineConnection,
    Opened,
    Received,
)
from qepa_wire import link_frames

Spoil = Callable[[bytes], bytes]


class Cable:
    """Two ends, a clock, and what the line does to bytes of either direction."""

    def __init__(self, spoil: Spoil = lambda data: data, seed: int = 1) -> None:
        self.nonces = random.Random(seed)
        self.ends = [self.new_end(), self.new_end()]
        self.spoil = spoil
        self.now_s = 0.0
        self.events: list[list[Event]] = [[], []]
        self.carried = 0

    def new_end(self) -> LineConnection:
        return LineConnection(lambda: self.nonces.getrandbits(64), 921_600)

    def begin(self) -> None:
        for end in self.ends:
            end.begin(self.now_s)

    def settle(self, *, limit_s: float = 120.0) -> None:
        """Carry bytes, and let time pass where nothing moves, until neither end has anything to do."""
        end_s = self.now_s + limit_s
        while self.now_s < end_s:
            if not self.carry():
                due = [end.due_s for end in self.ends if end.due_s is not None]
                if not due:
                    return
                self.now_s = max(self.now_s, min(due))
                for number, end in enumerate(self.ends):
                    self.events[number] += end.tick(self.now_s)

    def carry(self) -> bool:
        moved = False
        for number, end in enumerate(self.ends):
            if data := end.outgoing():
                moved = True
                self.carried += len(data)
                self.now_s += 10 * len(data) / 921_600
                self.events[1 - number] += self.ends[1 - number].feed(self.spoil(data), self.now_s)
        return moved

    def received(self, number: int) -> bytes:
        return b"".join(event.data for event in self.events[number] if isinstance(event, Received))


def standing(seed: int = 1) -> Cable:
    cable = Cable(seed=seed)
    cable.begin()
    cable.settle()
    assert [events[0] for events in cable.events] == [Opened(), Opened()]
    return cable


def text(length: int, seed: int = 2) -> bytes:
    return random.Random(seed).randbytes(length)


def test_both_ends_hear_that_a_connection_stands_and_bytes_cross_both_ways() -> None:
    cable = standing()
    sent = [text(50_000), text(3_000, 3)]
    for end, data in zip(cable.ends, sent, strict=True):
        end.send(data, cable.now_s)
    cable.settle()
    assert [cable.received(1), cable.received(0)] == sent
    assert [end.resent for end in cable.ends] == [0, 0]
    assert cable.carried < 1.2 * 53_000


def test_one_end_may_come_long_before_the_other() -> None:
    cable = Cable()
    cable.ends[0].begin(0.0)
    for _ in range(10):
        cable.carry()
        cable.now_s += 1.0
        cable.ends[0].tick(cable.now_s)
    assert cable.events == [[], []]
    cable.ends[1].begin(cable.now_s)
    cable.settle()
    assert cable.events == [[Opened()], [Opened()]]


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(0, 20_000), st.integers(0, 20_000))
def test_garbage_damage_and_loss_cost_time_and_nothing_else(fate: random.Random, one: int, other: int) -> None:
    def spoil(data: bytes) -> bytes:
        what, place = fate.random(), fate.randrange(len(data))
        if what < 0.05:
            return data[:place] + fate.randbytes(fate.randrange(300)) + data[place:]
        if what < 0.10:
            return data[:place] + bytes([data[place] ^ 1 << fate.randrange(8)]) + data[place + 1 :]
        if what < 0.15:
            return data[:place]
        return data

    cable = Cable(spoil)
    cable.begin()
    cable.settle()
    sent = [text(one), text(other, 3)]
    for end, data in zip(cable.ends, sent, strict=True):
        end.send(data, cable.now_s)
    cable.settle(limit_s=600.0)
    assert [cable.received(1), cable.received(0)] == sent
    assert all(events.count(Opened()) == 1 and not _endings(events) for events in cable.events)


def _endings(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Ended)]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_are_taken_and_open_nothing(pieces: list[bytes]) -> None:
    end = LineConnection(lambda: 7, 9600)
    end.begin(0.0)
    for number, piece in enumerate(pieces):
        assert end.feed(piece + b"\0", float(number)) == []


@pytest.mark.parametrize("restarted", [0, 1])
def test_an_end_that_was_started_again_is_noticed_and_its_old_bytes_are_not_taken_for_new(restarted: int) -> None:
    cable = standing()
    cable.ends[restarted].send(text(1_000), cable.now_s)
    left_over = cable.ends[restarted].outgoing()  # in some buffer when its program was killed
    cable.ends[restarted] = cable.new_end()
    cable.events = [[], []]
    cable.ends[restarted].begin(cable.now_s)
    first = cable.ends[restarted].outgoing()
    other = 1 - restarted
    cable.events[other] += cable.ends[other].feed(left_over[:-7] + first, cable.now_s)
    assert _endings(cable.events[other]) == ["the other end began anew"]
    cable.ends[other].begin(cable.now_s)
    cable.events = [[], []]
    cable.events[other] += cable.ends[other].feed(left_over, cable.now_s)
    cable.settle()
    assert cable.events == [[Opened()], [Opened()]]


def test_an_end_that_is_gone_and_back_says_that_it_knows_nothing_of_the_connection() -> None:
    cable = standing()
    cable.ends[1] = cable.new_end()  # idle: nobody asks for a connection
    cable.ends[0].send(b"are you there", cable.now_s)
    cable.settle()
    assert _endings(cable.events[0]) == ["the other end closed"]


def test_what_was_sent_before_the_end_arrives_first() -> None:
    cable = standing()
    cable.ends[0].send(text(20_000), cable.now_s)
    cable.events[0] += cable.ends[0].end(cable.now_s)
    cable.settle()
    assert cable.received(1) == text(20_000)
    assert [_endings(events) for events in cable.events] == [["closed"], ["the other end closed"]]


def test_an_end_does_not_wait_for_ever_for_one_that_is_gone() -> None:
    cable = standing()
    cable.spoil = lambda _: b""
    cable.ends[0].send(b"last words", cable.now_s)
    begun_s = cable.now_s
    cable.ends[0].end(cable.now_s)
    cable.settle()
    assert _endings(cable.events[0]) == ["closed before all had arrived"]
    assert cable.now_s - begun_s < CLOSE_WITHIN_S + 1


def test_an_end_that_does_not_read_holds_the_other_back_and_memory_stays_bounded() -> None:
    cable = standing()
    cable.ends[1].hold(held=True)
    cable.ends[0].send(text(100_000), cable.now_s)
    for _ in range(200):
        cable.carry()
        cable.now_s += 0.5
        cable.ends[0].tick(cable.now_s)
    assert cable.received(1) == b""
    assert cable.ends[0].unsent_bytes == 100_000
    # Repeated ever more slowly: at least eight seconds apart in the end.
    assert cable.carried < 25 * WINDOW * (CHUNK_BYTES + 40)
    cable.ends[1].hold(held=False)
    cable.settle()
    assert cable.received(1) == text(100_000)


def test_a_line_that_echoes_is_no_peer() -> None:
    end = LineConnection(lambda: 7, 9600)
    end.begin(0.0)
    for second in range(5):
        assert end.feed(end.outgoing(), float(second)) == []
        end.tick(float(second))


def test_a_lost_line_ends_the_connection_at_once() -> None:
    cable = standing()
    cable.ends[0].send(text(5_000), cable.now_s)
    assert cable.ends[0].lost("unplugged") == [Ended("unplugged")]
    assert cable.ends[0].outgoing() == b""
    assert cable.ends[0].due_s is None
    assert cable.ends[0].lost("unplugged") == []


def test_frames_of_another_connection_are_answered_with_its_end_and_not_taken() -> None:
    cable = standing()
    other = standing(seed=2)
    other.ends[0].send(b"of another", other.now_s)
    stray = other.ends[0].outgoing()
    assert cable.ends[1].feed(stray, cable.now_s) == []
    answer = link_frames.FrameReader().feed(cable.ends[1].outgoing())
    assert [kind for kind, _, _ in answer] == [0x43]
    cable.settle()
    assert [_endings(events) for events in cable.events] == [[], []]


def test_nothing_is_said_while_nobody_asks_for_a_connection() -> None:
    cable = Cable()
    cable.ends[0].begin(0.0)
    opening = cable.ends[0].outgoing()
    assert link_frames.FrameReader().feed(opening)[0][0] == OPEN
    for now_s, _ in zip(itertools.count(), range(5), strict=False):
        assert cable.ends[1].feed(opening, float(now_s)) == []
    assert cable.ends[1].outgoing() == b""
