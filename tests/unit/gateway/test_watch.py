"""What the gateway notices by itself: silence, a clock that was set, a disk that fills, too much that waits."""

import asyncio
import socket

import pytest
from bedside_rig import Rig
from hypothesis import given
from hypothesis import strategies as st
from test_daemon import Air, running, until

from qepa_gateway.clock import SteadyClock
from qepa_gateway.domain.silence import FIRST_MS, Silence, Step
from qepa_gateway.domain.storage import Limits, Room, refusal, room
from qepa_gateway.errors import ClockError
from qepa_gateway.health import REASONS, faults
from qepa_gateway.key_source import NoKeySource, link_down
from qepa_gateway.spool.outbox import Outbox
from qepa_gateway.transport import Outgoing, Transports
from qepa_wire import frame


class TestSilence:
    def steps(self, every_ms, until_ms, frames=lambda _now_ms: 0):
        silence, found = Silence(0), []
        for now_ms in range(0, until_ms, 1000):
            if (step := silence.judge(now_ms, frames(now_ms), every_ms)) is not None:
                found.append((now_ms, step))
        return silence, found

    def test_means_get_stronger_and_each_is_tried_once(self):
        silence, found = self.steps(5000, 600_000)
        assert found == [(FIRST_MS, Step.RESCAN), (2 * FIRST_MS, Step.POWER_CYCLE), (4 * FIRST_MS, Step.RESTART)]
        assert silence.given_up

    def test_boards_that_speak_seldom_are_waited_for(self):
        _, found = self.steps(300_000, 1_000_000)
        assert found == [(900_000, Step.RESCAN)]

    def test_where_no_board_is_expected_there_is_no_silence(self):
        assert self.steps(None, 10_000_000)[1] == []

    def test_a_frame_ends_it(self):
        silence, found = self.steps(5000, 200_000, frames=lambda now_ms: now_ms // 59_000)
        assert found == []
        assert not silence.taken

    @given(st.lists(st.tuples(st.integers(0, 100_000), st.booleans()), max_size=60))
    def test_it_never_gives_up_before_four_limits_without_a_frame(self, moments):
        silence, now_ms, frames, heard_ms = Silence(0), 0, 0, 0
        for after_ms, heard in moments:
            now_ms, frames = now_ms + after_ms, frames + heard
            silence.judge(now_ms, frames, 1000)
            heard_ms = now_ms if heard else heard_ms
            assert not silence.given_up or now_ms - heard_ms >= 4 * FIRST_MS


class TestClock:
    def clock(self):
        self.wall, self.passed = 1_000_000_000, 0
        return SteadyClock(lambda: self.wall, lambda: self.passed)

    def go(self, passed_ms, moved_ms=0):
        self.passed += passed_ms
        self.wall += passed_ms + moved_ms

    def test_a_step_forward_is_taken_and_counted(self):
        clock = self.clock()
        self.go(100, 86_400_000)
        assert (clock(), clock.steps, clock.stepped_back_ms) == (self.wall, 1, 0)

    def test_it_never_goes_back_and_small_steps_are_waited_out(self):
        clock = self.clock()
        before = clock()
        self.go(1000, -3000)
        assert clock() == before
        self.go(5000)
        assert clock() == self.wall
        assert not clock.stepped_back_ms

    def test_a_large_step_back_is_told(self):
        clock = self.clock()
        self.go(1000, -3_600_000)
        clock()
        assert clock.stepped_back_ms == 3_600_000

    async def test_it_ends_the_daemon(self, tmp_path):
        clock = self.clock()
        async with running(Rig(tmp_path, patients=1), NoKeySource(), clock=clock, watch_s=0.02) as (_, task):
            self.go(1000, -3_600_000)
            clock()
            with pytest.raises(ClockError, match="3600 s"):
                await asyncio.wait_for(task, 60)

    def test_after_a_start_with_times_of_the_future_boards_are_offline_until_heard(self, tmp_path):
        rig = Rig(tmp_path, patients=1).begin()
        rig.now_ms -= 86_400_000
        rig.site.crash()
        rig.site.start()
        rig.settle()
        assert not rig.site.gateway.boards.get(1).is_online(rig.now_ms)
        rig.up(rig.boards[1], rig.boards[1].alert())
        rig.settle()
        assert rig.site.gateway.boards.get(1).is_online(rig.now_ms)


class TestDaemon:
    async def test_silence_is_answered_and_ends_with_a_watchdog_that_starves(self, tmp_path, monkeypatch):
        told = tmp_path / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.bind(str(told))
            door.setblocking(False)
            monkeypatch.setenv("NOTIFY_SOCKET", str(told))

            def heard():
                messages = []
                while True:
                    try:
                        messages.append(door.recv(4096).decode())
                    except BlockingIOError:
                        return messages

            rig = Rig(tmp_path / "ward", patients=1).begin()
            rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
            rig.settle(4)
            now = [0]
            how = {"monotonic": lambda: now[0], "watch_s": 0.02}
            async with running(rig, NoKeySource(), **how) as (air, _):
                await until(lambda: any("WATCHDOG=1" in message for message in heard()), 60)
                now[0] = 2 * FIRST_MS
                await until(lambda: air.recovered == [Step.RESCAN, Step.POWER_CYCLE], 60)
                now[0] = 4 * FIRST_MS
                await until(lambda: air.daemon.recoveries["restart"], 60)
                assert "boards_silent" in air.daemon.faults()
                heard()
                await asyncio.sleep(0.2)
                assert heard() == []
                assert air.daemon.recoveries == {"rescan": 1, "power_cycle": 1, "restart": 1}

    async def test_several_transports_are_one(self):
        class Deaf(Air):
            async def recover(self, step):
                self.recovered.append(step)

        airs = Air(), Deaf()
        airs[1].faults = ("bluetooth",)
        both = Transports(*airs)
        task = asyncio.create_task(both.run(lambda *_: None))
        await until(lambda: all(air.receive is not None for air in airs), 60)
        both.publish(Outgoing("topic", b""))
        await both.recover(Step.RESCAN)
        assert both.faults == ("bluetooth",)
        assert [(len(air.sent), air.recovered) for air in airs] == [(1, [Step.RESCAN])] * 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestStorage:
    LIMITS = Limits(reserve_bytes=1000, most_results=10, most_alerts=2)

    def test_alerts_come_first_as_the_disk_fills(self):
        assert [room(free, self.LIMITS) for free in (1000, 999, 250, 249)] == [
            Room.AMPLE, Room.ALERTS, Room.ALERTS, Room.NONE,
        ]  # fmt: skip
        taken = {
            space: {type_ for type_ in frame.UP_TYPES if refusal(type_, space, 0, self.LIMITS) is None}
            for space in Room
        }
        assert taken[Room.AMPLE] == set(frame.UP_TYPES)
        assert taken[Room.ALERTS] == {frame.HELLO, frame.ALERT, frame.PADS}
        assert taken[Room.NONE] == set()

    def test_alerts_beyond_the_bound_stay_on_their_boards(self):
        assert refusal(frame.ALERT, Room.AMPLE, 2, self.LIMITS) == "spool_full"
        assert refusal(frame.VECTOR, Room.AMPLE, 2, self.LIMITS) is None

    def test_nothing_is_acknowledged_that_a_full_disk_cannot_hold_and_nothing_is_lost(self, tmp_path, monkeypatch):
        rig = Rig(tmp_path, patients=1).begin()
        board, gateway = rig.boards[1], rig.site.gateway
        free = [1 << 40]
        monkeypatch.setattr(type(rig.site.spool), "free_bytes", lambda _: free[0])
        free[0] = (64 << 20) - 1
        rig.advance(2000)
        rig.open_round(1)
        board.vector(1, 1, 16)
        rig.up(board, board.alert())
        rig.advance(2000)
        assert [frame.parse(data, frame.UP_TYPES).type for data in board.outbox.values()] == [frame.VECTOR]
        assert "disk_short" in faults(gateway)
        free[0] = 0
        rig.advance(2000)
        board.alert(active=0)
        rig.advance(2000)
        assert len(board.outbox) == 2
        assert "disk_full" in faults(gateway)
        assert set(faults(gateway)) <= set(REASONS)
        free[0] = 1 << 40
        rig.advance(4000)
        assert not board.outbox
        assert len(rig.server.alerts) == 2
        assert not faults(gateway)

    def test_the_oldest_results_go_when_too_many_wait_and_alerts_stay(self, tmp_path):
        rig = Rig(tmp_path, patients=1)
        outbox = Outbox(rig.site.spool, 3)
        outbox.put("alert", b"asystole", alert=True, now_ms=0)
        for n in range(5):
            outbox.put(f"r{n}", b"sum", alert=False, now_ms=n)
        assert [id_ for id_, _ in outbox.waiting(10)] == ["alert", "r2", "r3", "r4"]
        assert (outbox.dropped, outbox.alerts()) == (2, 1)


def test_reasons_name_what_is_wrong(tmp_path):
    rig = Rig(tmp_path, patients=1)
    assert faults(rig.site.gateway) == ("server",)
    rig.begin()
    assert not faults(rig.site.gateway)
    rig.site.gateway.optical_link = link_down("kme_down")
    assert faults(rig.site.gateway) == ("kme",)
