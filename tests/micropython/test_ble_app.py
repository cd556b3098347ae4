"""The unmodified board application over Bluetooth LE: the gateway's codecs at the other end of bleak."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from qepa_tools.air.bleak_backend import backends
from qepa_tools.air.central import BoardCentral
from qepa_tools.air.radio import Radio
from qepa_tools.fleet.events import Log, ProgramError
from qepa_tools.fleet.fleet import BoardSpec
from qepa_wire import frame as wire
from qepa_wire import gatt, keys, payloads

from .board_gateway import PATIENCE_S, STATISTICS, Gateway, Peer, Ward

BOARD = 0x2A
PASSKEY = 314159
CONSENT = b"consent-number-1"
HEART = f"{gatt.HEART_RATE_MEASUREMENT:08x}-0000-1000-8000-00805f9b34fb"


class AirGateway(Gateway):
    """A gateway whose boards come over the air; it connects and disconnects when it is told to."""

    def __init__(self, device) -> None:
        super().__init__(port=0)
        self._device = device
        self.central: BoardCentral | None = None

    async def __aenter__(self) -> "AirGateway":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.central is not None:
            await self.disconnect()

    async def connect(self, address: str, *, pair: bool) -> BoardCentral:
        self.central = await BoardCentral(address, backends(self._device)[1]).open(pair=pair)
        self._task = asyncio.create_task(self._serve())
        return self.central

    async def disconnect(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.central.close()
        self.central = None

    async def _serve(self) -> None:
        while True:
            data = await self.central.frames.get()
            await self._take(data)
            parsed = wire.parse(data, wire.UP_TYPES)
            if parsed.type == wire.CARE:  # as a gateway does
                await self.send(self.peers[parsed.board], wire.ACK, payloads.encode_ack([parsed.seq]))

    async def publish(self, peer: Peer, data: bytes) -> None:  # noqa: ARG002  there is one
        await self.central.send(data)


class AirWard(Ward):
    radio: Radio

    def spec(self, board: int, speed: float = 1.0) -> BoardSpec:
        spec = super().spec(board, speed)
        return BoardSpec(
            board=spec.board, flash=spec.flash, firmware=spec.firmware, main=spec.main, ecg=spec.ecg, speed=speed,
            radio=self.radio.port,
        )  # fmt: skip

    def identity(self, peer: Peer, **changes: object) -> str:
        return super().identity(peer, **{"transport": "ble", "ble": {"passkey": PASSKEY}} | changes)

    async def dock_board(self, speed: float) -> Peer:
        """Start and dock a board; returns it once it advertises."""
        peer = self.gateway.peers[BOARD] = Peer(BOARD)
        await self.fleet.start_board(self.spec(BOARD, speed))
        assert (await self.dock(BOARD, f"provision({self.identity(peer)!r})"))["ok"]
        assert (await self.load(peer, 2))["loaded"] == 2
        async with asyncio.timeout(PATIENCE_S):
            while not any(each.is_advertising for each in self.radio.peripherals):
                await asyncio.sleep(0.02)
        return peer


class NoCable:
    port = 1


@pytest.fixture
async def ward(fleet, tmp_path) -> AsyncIterator[AirWard]:
    logs = []

    async def collect() -> None:
        async for event in fleet.events():
            if isinstance(event, Log | ProgramError):
                logs.append(event)

    task = asyncio.create_task(collect())
    async with Radio() as radio, AirGateway(await radio.central(passkey=PASSKEY)) as gateway:
        ward = AirWard(fleet, gateway, NoCable(), tmp_path)
        ward.radio = radio
        yield ward
        failed = [event for event in logs if isinstance(event, ProgramError) or "failed" in event.line]
        assert not failed, failed
    task.cancel()


async def test_rounds_care_and_what_was_kept_meanwhile(ward):
    peer = await ward.dock_board(speed=8)
    gateway = ward.gateway
    address = ward.spec(BOARD).radio_address
    central = await gateway.connect(address, pair=True)
    await gateway.until(lambda: peer.hellos, "HELLO")
    await gateway.order(peer, 1, STATISTICS)
    await gateway.until(lambda: (1, 1) in peer.vectors, "the vector")
    assert gateway.open([peer], 1, 1)

    heard = []
    await central.client.start_notify(HEART, lambda _, data: heard.append(bytes(data)))
    await asyncio.sleep(0.3)
    assert not heard  # no consent, no heart rate
    peer.consents[CONSENT] = keys.care_key(peer.end_key, CONSENT)
    grant = payloads.encode_grant(peer.consents[CONSENT], BOARD, CONSENT, 36000)
    await gateway.send(peer, wire.CARE_GRANT, grant)
    await gateway.until(lambda: heard and peer.cares, "care and heart rate")
    assert heard[-1][1] == 75

    await gateway.disconnect()
    before = len(peer.cares)
    last_ms = peer.cares[-1].t_ms
    await asyncio.sleep(5)  # 40 seconds of sample time; care is kept by the board's clock, one record in 10 s of it
    await gateway.connect(address, pair=False)

    def since() -> list[int]:
        return [care.t_ms for care in peer.cares[before:]]

    await gateway.until(lambda: any(t_ms < since()[0] for t_ms in since()), "a kept record after a live one")
    live = since()[0]
    kept = [t_ms for t_ms in since() if t_ms < live]
    assert all(last_ms < t_ms < live for t_ms in kept)

    await gateway.send(peer, wire.CARE_REVOKE, CONSENT)
    await gateway.order(peer, 2, STATISTICS)
    await gateway.until(lambda: (1, 2) in peer.vectors, "a vector: what the board sent before the end is here")
    count = len(peer.cares)
    await asyncio.sleep(0.5)
    assert len(peer.cares) == count
    assert not any(each.name.startswith("ring") for each in (ward.spec(BOARD).flash / "qepa").iterdir())
    assert not peer.refused
