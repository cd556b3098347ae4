"""A board's Bluetooth side in CPython, without firmware: for tests that make boards up by the dozen.

PROTOCOL.md, section 14, as the firmware keeps it: silent until opened, one central, nothing that is not encrypted.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from bumble.core import UUID, BaseBumbleError
from bumble.device import Connection
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.keys import MemoryKeyStore
from bumble.link import LocalLink
from bumble.pairing import PairingConfig, PairingDelegate

from qepa_wire.errors import WireError
from qepa_wire.fragments import Fragmenter, Reassembler
from qepa_wire.gatt import DOWN, INFO, SERVICE, UP, advertisement, encode_info

from .peripheral import make_device

MAX_DOWN = 8192
_ADVERTISE_MS = 100.0
_POWER_OFF_S = 1.0


def _check_cancelled() -> None:
    """bumble swallows cancellation where it waits for its controller."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class LightBoard:
    """Board ``number`` at ``address``; ``received`` is handed each frame down, ``opened`` called for each central.

    ``tamper`` may lose, repeat and swap the fragments of a frame up.
    """

    def __init__(
        self, link: LocalLink, address: str, number: int, *, mtu: int, received: Callable[[bytes], None]
    ) -> None:
        self.address = address
        self.tamper: Callable[[list[bytes]], list[bytes]] = lambda fragments: fragments
        self.opened: Callable[[], None] = lambda: None
        self.connections = 0
        self._received = received
        self._central: Connection | None = None
        self._listens = False
        self._fragments: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._up = Fragmenter()
        self._down = Reassembler(MAX_DOWN)
        self._device = make_device(link, f"board {number}", address)
        self._device.keystore = MemoryKeyStore()
        self._device.gatt_server.max_mtu = mtu
        self._device.pairing_config_factory = lambda _: PairingConfig(
            sc=True,
            mitm=False,
            bonding=True,
            delegate=PairingDelegate(PairingDelegate.NO_OUTPUT_NO_INPUT),
            identity_address_type=PairingConfig.AddressType.RANDOM,
        )
        self._device.on("connection", self._connected)
        self._notify = self._add_service(encode_info(number, mtu, MAX_DOWN))

    def _add_service(self, info: bytes) -> Characteristic[bytes]:
        properties, allowed = Characteristic.Properties, Characteristic.Permissions
        up: Characteristic[bytes] = Characteristic(UUID(UP), properties.NOTIFY, allowed(0), b"")
        down: Characteristic[bytes] = Characteristic(
            UUID(DOWN),
            properties.WRITE | properties.WRITE_WITHOUT_RESPONSE,
            allowed.WRITEABLE | allowed.WRITE_REQUIRES_ENCRYPTION,
            CharacteristicValue(write=self._written),
        )
        readable = allowed.READABLE | allowed.READ_REQUIRES_ENCRYPTION
        told: Characteristic[bytes] = Characteristic(UUID(INFO), properties.READ, readable, info)
        self._device.add_service(Service(UUID(SERVICE), [up, down, told]))
        return up

    @property
    def listens(self) -> bool:
        """Whether a central has opened."""
        return self._listens

    @property
    def is_advertising(self) -> bool:
        """Whether a central can find it now."""
        return bool(self._device.is_advertising)

    async def run(self) -> None:
        """On the air until cancelled."""
        await self._device.power_on()
        try:
            while True:
                if self._central is None and not self._device.is_advertising:
                    await self._device.start_advertising(
                        advertising_data=advertisement(),
                        auto_restart=False,
                        advertising_interval_min=_ADVERTISE_MS,
                        advertising_interval_max=_ADVERTISE_MS,
                    )
                _check_cancelled()
                self._more.clear()
                while self._listens and self._fragments and self._central is not None:
                    await self._device.gatt_server.notify_subscriber(
                        self._central, self._notify, self._fragments.popleft(), force=True
                    )
                _check_cancelled()
                await self._more.wait()
        finally:
            # Where a command to the controller was cancelled, bumble would wait for its end for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POWER_OFF_S):
                    await self._device.power_off()

    def send(self, frame: bytes) -> None:
        """Queue a frame up; forgotten when the connection falls."""
        self._up.load(frame)
        fragments = []
        while (fragment := self._up.next()) is not None:
            fragments.append(bytes(fragment))
        self.send_fragments(self.tamper(fragments))

    def send_fragments(self, fragments: list[bytes]) -> None:
        """Queue fragments as they are."""
        if self._listens:
            self._fragments.extend(fragments)
            self._more.set()

    @property
    def waiting(self) -> int:
        """Fragments that have not left."""
        return len(self._fragments)

    async def drop(self) -> None:
        """Let the connection fall."""
        if self._central is not None:
            with contextlib.suppress(BaseBumbleError, TimeoutError):
                await self._central.disconnect()

    def _connected(self, connection: Connection) -> None:
        self._central = connection
        self._down.reset()

        def gone(_: int) -> None:
            self._central, self._listens = None, False
            self._fragments.clear()
            self._more.set()

        connection.on("disconnection", gone)

    def _written(self, connection: Connection, value: bytes) -> None:
        try:
            frame = self._down.push(bytes(value))
        except WireError:
            return
        if frame:
            self._received(frame)
        elif frame is not None:
            self._up.reset(connection.att_mtu)
            self._listens = True
            self.connections += 1
            self.opened()
