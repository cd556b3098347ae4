"""The gateway's daemon with boards on Bluetooth LE: bleak above, bumble's stack below, no radio frequency."""

import asyncio
import contextlib
import random

import pytest

from qepa_gateway.ble import channel
from qepa_gateway.ble.bleak_radio import BleakRadio
from qepa_gateway.ble.transport import BleTransport
from qepa_gateway.daemon import Daemon
from qepa_gateway.transport import Transports
from qepa_tools.air.bleak_backend import backends
from qepa_tools.air.central import BoardCentral
from qepa_tools.air.light_board import LightBoard
from qepa_tools.air.radio import Radio
from qepa_wire import frame

from .living_rig import Keys, LivingRig, ToServer

pytestmark = pytest.mark.timeout(600)
MTUS = (23, 64, 185, 247)
AGAIN_S = 0.5


class Ward:
    """A rig whose boards are on the air. ``taken`` lists (board, epoch, seq) of the alerts the gateway committed."""

    def __init__(self, directory, radio, n):
        self.rig = LivingRig(directory, patients=n, min_group=5)
        self.radio = radio
        self.taken = []
        self.said = set()
        self.lights = {}
        self._chance = random.Random(7)
        for number in range(1, n + 1):
            self.lights[number] = self._light(number, self.rig.boards[number])
        self._strangers = []
        self._tasks = []

    def add_stranger(self, number):
        light = LightBoard(self.radio.link, f"F0:F1:F2:F3:F7:{number:02X}", number, mtu=100, received=lambda _: None)
        self._strangers.append(light)
        return light

    def _light(self, number, board):
        address = f"F0:F1:F2:F3:F6:{number:02X}"
        light = LightBoard(self.radio.link, address, number, mtu=MTUS[number % len(MTUS)], received=board.receive)
        light.opened = lambda: board.hello() if board.on else board.boot()
        return light

    async def __aenter__(self):
        self.device = await self.radio.central()
        self._tasks += [asyncio.create_task(light.run()) for light in self._strangers]
        for number, light in self.lights.items():
            self._tasks.append(asyncio.create_task(light.run()))
            self._tasks.append(asyncio.create_task(self._repeat(self.rig.boards[number], light)))
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, board, light):
        """What is not acknowledged goes again, as boards do."""
        while True:
            if light.listens and not light.waiting:
                for data in list(board.outbox.values()):
                    light.send(data)
            await asyncio.sleep(AGAIN_S)

    def alert(self, number):
        data = self.rig.boards[number].alert()
        self.said.add((number, frame.parse(data, frame.UP_TYPES).seq))

    @contextlib.asynccontextmanager
    async def gateway(self, *, most=7, hold_s=1.0, power_cycle=None):
        """A daemon's life, from its spool to its end without a goodbye."""
        gateway = self.rig.site.gateway
        take = gateway.intake.handlers[frame.ALERT]

        def noted(board, keys, parsed):
            take(board, keys, parsed)
            self.taken.append((board.number, parsed.seq))

        gateway.intake.handlers[frame.ALERT] = noted
        scanner, client = backends(self.device)
        bleak = BleakRadio(scanner=scanner, client=client)
        if power_cycle is not None:
            bleak.power_cycle = power_cycle
        ble = BleTransport(
            "gw-1",
            bleak,
            serves=gateway.boards.serves,
            count=gateway.refusals.count,
            most=most,
            hold_s=hold_s,
            scan_s=0.3,
            rest_s=0.1,
        )
        daemon = Daemon(gateway, Transports(ToServer(self.rig), ble), Keys(self.rig.kme))
        task = asyncio.create_task(daemon.run())
        try:
            yield ble
            if task.done():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.rig.site.crash()
            self.rig.site.start()

    @property
    def unacknowledged(self):
        return {(board.number, seq) for board in self.rig.boards.values() for seq in board.outbox} & self.said

    async def until(self, condition, what, timeout_s=200):
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"did not happen: {what}; {self.rig.site.refused}") from None

    def disturb(self, fragments):
        """Now and then lose, repeat or swap."""
        fragments, place = list(fragments), self._chance.randrange(20)
        if place >= len(fragments):
            return fragments
        match self._chance.randrange(3):
            case 0:
                del fragments[place]
            case 1:
                fragments.insert(place, fragments[place])
            case _:
                fragments[place : place + 2] = reversed(fragments[place : place + 2])
        return fragments


@pytest.fixture
async def radio():
    async with Radio() as radio:
        yield radio


async def test_twenty_boards_over_seven_connections_while_gateways_die_lose_nothing_and_double_nothing(tmp_path, radio):
    ward = Ward(tmp_path, radio, 20)
    for light in ward.lights.values():
        light.tamper = ward.disturb
    async with ward:
        async with ward.gateway():
            await ward.until(lambda: all(board.on for board in ward.rig.boards.values()), "all boards' first turn")
            for number in ward.lights:
                ward.alert(number)
            await ward.until(lambda: len(ward.taken) >= 8, "some alerts")
            for number in (3, 4, 5):
                await ward.lights[number].drop()
        assert ward.said - ward.unacknowledged <= set(ward.taken)
        async with ward.gateway():
            for number in ward.lights:
                ward.alert(number)
            await ward.until(lambda: len(ward.taken) >= 22, "more alerts")
        assert ward.said - ward.unacknowledged <= set(ward.taken)
        async with ward.gateway() as ble:
            await ward.until(lambda: not ward.unacknowledged, "every alert acknowledged")
            assert ble.report().connections <= 7
            assert ble.report().ends.keys() <= {"rotation", "failed", "dropped"}
        assert sorted(ward.taken) == sorted(ward.said)
        assert {tuple(id_.split("-")[1::2]) for id_ in ward.rig.server.alerts} == {
            (f"{board:08x}", str(seq)) for board, seq in ward.said
        }


async def test_who_floods_or_sends_garbage_or_is_not_ours_is_shut_out_and_the_others_are_served(
    tmp_path, radio, monkeypatch
):
    monkeypatch.setattr(channel, "BURST_BYTES", 20_000)
    monkeypatch.setattr(channel, "MAX_GARBAGE", 100)
    monkeypatch.setattr(channel, "MAX_UNANSWERED", 60)
    ward = Ward(tmp_path, radio, 7)
    flooder, garbler, forger = (ward.lights[number] for number in (1, 2, 3))
    stranger = ward.add_stranger(0x99)
    forger.tamper = lambda _: []
    endless = [bytes([number % 64 | (0x80 if number == 1 else 0)]) + bytes(200) for number in range(1, 401)]
    flooder.opened = lambda: flooder.send_fragments(endless)
    garbage = [bytes([number * 7 % 64]) + random.Random(number).randbytes(20) for number in range(400)]
    garbler.opened = lambda: garbler.send_fragments(garbage)
    forged = frame.encode(frame.ALERT, 3, 1, 1, bytes(40), bytes(32))
    forger.opened = lambda: forger.send_fragments([bytes([0xC0 | number % 64]) + forged for number in range(1, 401)])
    async with ward, ward.gateway() as ble:
        await ward.until(lambda: all(ward.rig.boards[number].on for number in (4, 5, 6, 7)), "the others' first turn")
        for number in (4, 5, 6, 7):
            ward.alert(number)
        await ward.until(lambda: not ward.unacknowledged, "their alerts")
        shut_out = {"flood", "garbage", "unanswered", "unknown_board"}
        await ward.until(lambda: shut_out <= ble.report().ends.keys(), "all shut out")
        assert {f"ble_{reason}" for reason in shut_out} <= ward.rig.site.refused.keys()
        assert stranger.connections == 0  # it was asked who it is, and told nothing
    assert sorted(ward.taken) == sorted(ward.said)


async def test_what_a_killed_gateway_left_connected_is_freed_by_the_power_cycle_at_the_start(tmp_path, radio):
    ward = Ward(tmp_path, radio, 1)
    async with ward:
        left = BoardCentral(ward.lights[1].address, backends(ward.device)[1])
        await ward.until(lambda: ward.lights[1].is_advertising, "advertising")
        await left.open(pair=True)
        assert not ward.lights[1].is_advertising

        async def cycle():
            for connection in list(ward.device.connections.values()):
                await connection.disconnect()

        async with ward.gateway(power_cycle=cycle):
            await ward.until(lambda: ward.lights[1].connections == 2, "the board is back")
            ward.alert(1)
            await ward.until(lambda: not ward.unacknowledged, "its alert")


async def test_orders_and_models_go_down_in_fragments_of_every_size(tmp_path, radio):
    ward = Ward(tmp_path, radio, 4)
    async with ward, ward.gateway():
        await ward.until(lambda: all(board.on for board in ward.rig.boards.values()), "all connected")
        ward.rig.server.broadcast(ward.rig.server.release(5))
        await ward.until(lambda: all(board.model == 5 for board in ward.rig.boards.values()), "the model, canary first")
        mtus = {MTUS[number % len(MTUS)] for number in ward.lights}
        assert mtus == set(MTUS)
