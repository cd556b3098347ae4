"""A central that speaks a board's service over bleak: frames down, frames up. For tests and measurements."""

import asyncio
from collections.abc import Callable
from typing import Self

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient

from qepa_wire.errors import WireError
from qepa_wire.fragments import OPEN, Fragmenter, Reassembler
from qepa_wire.gatt import DOWN, INFO, UP, Info, decode_info

MAX_UP = 4 * 65535 + 256


class BoardCentral:
    """One connection to the board at ``address``: ``frames`` are what came up, ``refused`` why some did not."""

    def __init__(
        self, address: str, backend: type[BaseBleakClient], *, on_gone: Callable[[], None] | None = None
    ) -> None:
        self.client = BleakClient(
            address, backend=backend, disconnected_callback=None if on_gone is None else lambda _: on_gone()
        )
        self._down = Fragmenter()
        self._up = Reassembler(MAX_UP)
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.refused: list[str] = []
        self.fragments = 0

    async def open(self, *, pair: bool) -> Self:
        """Connect, pair if asked to, subscribe, and say that we listen."""
        await self.client.connect()
        if pair:
            await self.client.pair()
        self._down.reset(self.client.mtu_size)
        self._up.reset()
        await self.client.start_notify(UP, self._received)
        await self.client.write_gatt_char(DOWN, OPEN, response=True)
        return self

    async def info(self) -> Info:
        """What the board says of itself."""
        return decode_info(bytes(await self.client.read_gatt_char(INFO)))

    def _received(self, _: BleakGATTCharacteristic, data: bytearray) -> None:
        self.fragments += 1
        try:
            frame = self._up.push(bytes(data))
        except WireError as error:
            self.refused.append(error.reason)
            return
        if frame:
            self.frames.put_nowait(frame)

    async def send(
        self, frame: bytes, *, response: bool = True, fault: Callable[[list[bytes]], None] | None = None
    ) -> None:
        """Send a frame down; ``fault`` may alter the list of its fragments."""
        self._down.load(frame)
        fragments = []
        while (fragment := self._down.next()) is not None:
            fragments.append(bytes(fragment))
        if fault is not None:
            fault(fragments)
        for each in fragments:
            await self.client.write_gatt_char(DOWN, each, response=response)

    async def close(self) -> None:
        """Disconnect."""
        await self.client.disconnect()
