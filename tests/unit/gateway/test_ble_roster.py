"""Who holds the adapter's connections: never too many, nobody starved, nobody hammered."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_gateway.ble.roster import FRESH_MS, GRACE_MS, MAX_DEVICES, ROTATION, STRANGER, Close, Connect, Roster

HOLD_MS = 30_000


class World:
    """Devices that advertise while nobody is connected to them; what they do is told by ``kind``.

    ours: frames are answered. liar: claims a number of ours, is never answered. stranger: claims another.
    broken: cannot be connected to. away: does not advertise. flood: is answered and punished at once.
    """

    def __init__(self, kinds, *, most=3, boards=None):
        self.now_ms = 0
        self.kinds = dict(kinds)
        self.adopted = set(range(1000)) if boards is None else boards
        self.roster = Roster(most=most, hold_ms=HOLD_MS, serves=self.adopted.__contains__, uniform=lambda: 0.5)
        self.most = most
        self.open, self.closing = {}, []
        self.attempts, self.served = {}, {}
        self.longest_wait_ms, self.waits = {}, {}

    def board(self, address):
        return 5000 if self.kinds[address] == "stranger" else int(address[1:])

    def run(self, ms, *, every_ms=1000):
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms += every_ms
            self._tick(every_ms)

    def _tick(self, every_ms):
        now_ms, roster = self.now_ms, self.roster
        for address in self.closing:
            self._close(address, ROTATION)
        self.closing = []
        for address, kind in self.kinds.items():
            if kind == "away" and address in self.open:
                self._close(address, "dropped")
            if address not in self.open and kind != "away":
                roster.sighted(address, now_ms)
                self.waits[address] = self.waits.get(address, 0) + every_ms
                self.longest_wait_ms[address] = max(self.longest_wait_ms.get(address, 0), self.waits[address])
        while (action := roster.plan(now_ms)) is not None:
            if isinstance(action, Connect):
                self._connect(action.address)
            else:
                assert action.address in self.open
                self.closing.append(action.address)
            assert roster.connections <= self.most
        for address in self.open:
            self.waits[address] = 0
            self.served[address] = self.served.get(address, 0) + every_ms

    def _connect(self, address):
        kind = self.kinds.get(address, "broken")
        assert address not in self.open
        self.attempts.setdefault(address, []).append(self.now_ms)
        if kind in ("broken", "away"):
            self.roster.closed(address, self.now_ms, "failed")
        elif self.board(address) not in self.adopted:
            self.roster.closed(address, self.now_ms, STRANGER, self.board(address))
        else:
            self.roster.opened(address, self.board(address), self.now_ms)
            self.open[address] = self.now_ms
            if kind in ("ours", "flood"):
                self.roster.answered(address, self.now_ms)
            if kind == "flood":
                self._close(address, "flood")

    def _close(self, address, reason):
        del self.open[address]
        self.roster.closed(address, self.now_ms, reason)


def ours(n):
    return {f"d{i}": "ours" for i in range(n)}


def test_where_there_is_room_all_are_connected_and_stay():
    world = World(ours(3))
    world.run(600_000)
    assert {address: len(times) for address, times in world.attempts.items()} == {"d0": 1, "d1": 1, "d2": 1}


@pytest.mark.parametrize("n", [4, 7, 20])
def test_boards_beyond_the_adapters_connections_take_turns_fairly(n):
    world = World(ours(n))
    world.run(40 * n * HOLD_MS // 3)
    shares = list(world.served.values())
    assert len(shares) == n
    assert min(shares) > 0.8 * max(shares)
    # A turn lasts HOLD_MS and a tick or two for changing over. Those who were never there and those who were go by
    # turns, so the first time takes up to twice the turns there are before one's own.
    assert max(world.longest_wait_ms.values()) <= 2 * (n // 3 + 1) * (HOLD_MS + 4000)
    world.longest_wait_ms.clear()
    world.waits.clear()
    world.run(10 * n * HOLD_MS // 3)
    assert max(world.longest_wait_ms.values()) <= (n // 3 + 1) * (HOLD_MS + 4000)


def test_a_connection_of_no_use_gives_way_first():
    world = World({"d0": "ours", "d1": "liar", "d2": "ours", "d3": "ours"})
    world.run(GRACE_MS - 2000)
    assert "d3" not in world.open
    world.run(6000)
    assert "d1" not in world.open
    assert "d3" in world.open


def test_strangers_are_asked_seldom_until_they_are_adopted():
    world = World({"d7": "stranger"}, boards={1, 2})
    world.run(24 * 3_600_000, every_ms=5000)
    assert len(world.attempts["d7"]) < 24 * 3600 / 450 + 10  # half of the longest wait, and the first few
    before = len(world.attempts["d7"])
    world.adopted.add(5000)
    world.run(2000)
    assert len(world.attempts["d7"]) == before + 1
    assert "d7" in world.open


def test_a_board_that_is_no_longer_ours_is_given_up():
    world = World(ours(2))
    world.run(3000)
    world.adopted.discard(1)
    assert world.roster.plan(world.now_ms) == Close("d1", STRANGER)


@pytest.mark.parametrize(("kind", "least_ms"), [("broken", 30_000), ("flood", 150_000)])
def test_who_fails_or_misbehaves_is_tried_less_and_less_often(kind, least_ms):
    world = World({"d0": kind})
    world.run(3_600_000)
    times = world.attempts["d0"]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] <= 11_000
    assert gaps[-1] >= least_ms
    assert sorted(gaps) == gaps


def test_who_was_not_seen_lately_is_not_called():
    world = World(ours(1))
    world.roster.sighted("d0", 0)
    assert world.roster.plan(FRESH_MS) is None
    assert world.roster.plan(FRESH_MS - 1) == Connect("d0")


def test_addresses_made_up_without_end_cost_bounded_memory_and_starve_nobody():
    world = World(ours(5))
    world.run(120_000)
    world.longest_wait_ms.clear()
    for second in range(240):
        for number in range(50):
            world.roster.sighted(f"made-up-{second}-{number}", world.now_ms)
        world.run(1000)
    assert len(world.roster) <= MAX_DEVICES
    assert all(world.longest_wait_ms[address] < 5 * HOLD_MS for address in ours(5))


def test_beginning_anew_forgives():
    world = World({"d0": "broken", "d1": "stranger"}, boards={0})
    world.run(600_000)
    before = {address: len(times) for address, times in world.attempts.items()}
    world.roster.forgive(world.now_ms)
    world.run(1000)
    assert {address: len(times) for address, times in world.attempts.items()} == {k: n + 1 for k, n in before.items()}


@settings(max_examples=60, deadline=None)
@given(
    most=st.integers(1, 7),
    kinds=st.lists(
        st.sampled_from(["ours", "ours", "liar", "stranger", "broken", "away", "flood"]), min_size=1, max_size=14
    ),
    changes=st.lists(st.tuples(st.integers(0, 13), st.sampled_from(["ours", "away", "broken"])), max_size=8),
)
def test_whatever_devices_do_every_board_of_ours_gets_its_turn(most, kinds, changes):
    world = World({f"d{i}": kind for i, kind in enumerate(kinds)}, most=most)
    for index, kind in changes:
        world.run(20_000)
        if index < len(kinds) and world.kinds[f"d{index}"] != "stranger":
            world.kinds[f"d{index}"] = kind
    world.longest_wait_ms.clear()
    world.waits.clear()
    world.run(1_500_000, every_ms=2000)
    for address, kind in world.kinds.items():
        if kind == "ours":  # at most 60 s of its own back-off, then everybody else once
            assert world.longest_wait_ms.get(address, 0) <= 60_000 + 2 * len(kinds) * (HOLD_MS + 4000)
            assert world.served[address] > 0
