"""One board on the virtual air: what its `bluetooth` module asks for, done by a bumble device.

JSON objects, one a line. From the board `op`: on, config, register, value, advertise, stop_advertising, notify, pair,
passkey, disconnect, secret; to the board `event`, numbered as MicroPython numbers its IRQs, 0 for room to notify again.
Secrets are the board's to keep: after a restart its bumble device knows only what the board gives it.
"""

import asyncio
import contextlib
import json
import logging
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, BaseBumbleError
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.host import Host
from bumble.keys import KeyStore, PairingKeys
from bumble.link import LocalLink
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.smp import PairingMethod

_CONNECT, _DISCONNECT, _WRITE, _MTU = 1, 2, 3, 21
_ENCRYPTION, _GET_SECRET, _SET_SECRET, _PASSKEY = 28, 29, 30, 31
_ROOM = 0
_AT_ONCE = ("secret", "passkey", "pair", "notify")  # answers, and what an operation may be waiting for
_PEER_SECURITY, _OUR_IRK = 2, 10
_DISPLAY = 3
_POWER_OFF_S = 1.0
_FLAG_READ, _FLAG_WRITES, _PROPERTIES = 0x02, 0x0C, 0x3F
_SECURITY = {
    0x0200: Characteristic.Permissions.READ_REQUIRES_ENCRYPTION,
    0x0400: Characteristic.Permissions.READ_REQUIRES_AUTHENTICATION,
    0x1000: Characteristic.Permissions.WRITE_REQUIRES_ENCRYPTION,
    0x2000: Characteristic.Permissions.WRITE_REQUIRES_AUTHENTICATION,
}


def make_device(link: LocalLink, name: str, address: str) -> Device:
    """A bumble device with a controller of its own on ``link``."""
    host = Host()
    host.controller = Controller(name, link=link, public_address=address)
    return Device(name=name, address=hci.Address(address), host=host)


_LOG = logging.getLogger(__name__)


class Peripheral:
    """Serves one board's connection to the radio. ``notify_delay_s`` makes a slow central of whoever listens;
    ``loses`` is asked for each notification whether the air swallows it; while ``clear`` is not set, none passes."""

    def __init__(self, link: LocalLink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._device: Device | None = None
        self._characteristics: dict[int, Characteristic[bytes]] = {}
        self._values: dict[int, bytes] = {}
        self._authenticated: dict[int, bool] = {}
        self._secrets: dict[int, asyncio.Future[bytes | None]] = {}
        self._passkey: asyncio.Future[int] | None = None
        self._notifications: deque[tuple[int, int, bytes]] = deque()
        self._notifying = asyncio.Event()
        self._settings: dict[str, Any] = {}
        self._operations: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.address = ""
        self.notify_delay_s = 0.0
        self.clear = asyncio.Event()
        self.clear.set()
        self.loses: Callable[[bytes], bool] = lambda _: False
        self.most_under_way = 0

    @property
    def is_advertising(self) -> bool:
        """Whether a central can find it now."""
        return self._device is not None and self._device.is_advertising

    @property
    def under_way(self) -> int:
        """Notifications that the board's stack holds."""
        return len(self._notifications)

    @property
    def device(self) -> Device:
        """The bumble device; there is one once the board has switched its radio on."""
        if self._device is None:
            raise RuntimeError("the board's radio is off")
        return self._device

    async def serve(self) -> None:
        """Until the board's end of the connection closes, as at a power cut."""
        workers = [asyncio.create_task(self._notify()), asyncio.create_task(self._operate())]
        try:
            for worker in workers:
                worker.add_done_callback(self._ended)
            while line := await self._reader.readline():
                message = json.loads(line)
                if message["op"] in _AT_ONCE:
                    getattr(self, "_op_" + message.pop("op"))(**message)
                else:
                    self._operations.put_nowait(message)
        except ConnectionError:
            pass
        finally:
            while not all(worker.done() for worker in workers):
                for worker in workers:
                    worker.cancel()  # more than once: bumble swallows it where it waits for a disconnection
                await asyncio.wait(workers, timeout=0.1)
            await self._power_off()
            self._writer.close()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            _LOG.error("the radio of board %s failed", self.address, exc_info=error)
            self._writer.close()

    async def _operate(self) -> None:
        """Operations in order; some of them ask the board in turn."""
        while True:
            message = await self._operations.get()
            done = getattr(self, "_op_" + message.pop("op"))(**message)
            if done is not None:
                await done

    async def _power_off(self) -> None:
        if self._device is None:
            return
        # A connection that falls in this moment would have us wait for ever for its end.
        with contextlib.suppress(BaseBumbleError, TimeoutError):
            async with asyncio.timeout(_POWER_OFF_S):
                for connection in list(self._device.connections.values()):
                    await connection.disconnect()
                if self._device.is_advertising:
                    await self._device.stop_advertising()
        await self._device.power_off()

    def _tell(self, event: int, **details: object) -> None:
        self._writer.write(json.dumps({"event": event, **details}).encode() + b"\n")

    # Operations

    async def _op_on(self, address: str, **settings: Any) -> None:
        self.address = address
        self._device = make_device(self._link, "board", address)
        self._device.keystore = _BoardKeys(self)
        self._device.pairing_config_factory = self._pairing
        self._device.on("connection", self._connected)
        self._op_config(**settings)
        if await self.secret(_OUR_IRK, 0, b"irk") is None:
            self._tell(_SET_SECRET, type=_OUR_IRK, key=b"irk".hex(), value=bytes(16).hex())

    def _op_config(self, **settings: Any) -> None:
        self._settings = settings
        self.device.gatt_server.max_mtu = settings["mtu"]

    async def _op_register(self, services: list[dict[str, Any]]) -> None:
        for service in services:
            characteristics = [self._characteristic(**each) for each in service["characteristics"]]
            self.device.add_service(Service(UUID(service["uuid"]), characteristics))
        await self.device.power_on()

    def _characteristic(self, uuid: str, flags: int, handle: int) -> Characteristic[bytes]:
        permissions = Characteristic.Permissions(0)
        if flags & _FLAG_READ:
            permissions |= Characteristic.Permissions.READABLE
        if flags & _FLAG_WRITES:
            permissions |= Characteristic.Permissions.WRITEABLE
        for flag, permission in _SECURITY.items():
            if flags & flag:
                permissions |= permission
        self._values[handle] = b""

        def read(_: Connection) -> bytes:
            return self._values[handle]

        def write(connection: Connection, value: bytes) -> None:
            self._tell(_WRITE, conn=connection.handle, handle=handle, value=bytes(value).hex())

        value = CharacteristicValue(read=read, write=write)
        properties = Characteristic.Properties(flags & _PROPERTIES)
        characteristic: Characteristic[bytes] = Characteristic(UUID(uuid), properties, permissions, value)
        self._characteristics[handle] = characteristic
        return characteristic

    def _op_value(self, handle: int, value: str, send: bool) -> None:
        self._values[handle] = bytes.fromhex(value)
        if send:
            self._queue(-1, handle, self._values[handle])

    async def _op_advertise(self, data: str) -> None:
        if self.device.is_advertising:
            await self.device.stop_advertising()
        await self.device.start_advertising(advertising_data=bytes.fromhex(data), auto_restart=False)

    async def _op_stop_advertising(self) -> None:
        if self.device.is_advertising:
            await self.device.stop_advertising()

    def _op_notify(self, conn: int, handle: int, value: str) -> None:
        self._queue(conn, handle, bytes.fromhex(value))
        self.most_under_way = max(self.most_under_way, len(self._notifications))

    def _op_pair(self, conn: int) -> None:
        if (connection := self._connection(conn)) is not None:
            connection.request_pairing()

    def _op_passkey(self, conn: int, passkey: int) -> None:  # noqa: ARG002  one pairing at a time
        if self._passkey is not None and not self._passkey.done():
            self._passkey.set_result(passkey)

    async def _op_disconnect(self, conn: int) -> None:
        if (connection := self._connection(conn)) is not None:
            await connection.disconnect()

    def _op_secret(self, id: int, value: str | None) -> None:
        self._secrets.pop(id).set_result(None if value is None else bytes.fromhex(value))

    def _connection(self, handle: int) -> Connection | None:
        return self.device.connections.get(handle)

    # Notifications, in order and at the pace of the central

    def _queue(self, conn: int, handle: int, value: bytes) -> None:
        self._notifications.append((conn, handle, value))
        self._notifying.set()

    async def _notify(self) -> None:
        while True:
            await self._notifying.wait()
            while self._notifications:
                if self.notify_delay_s:
                    await asyncio.sleep(self.notify_delay_s)
                await self.clear.wait()
                if not self._notifications:  # the connection fell meanwhile
                    break
                conn, handle, value = self._notifications.popleft()
                if not self.loses(value):
                    await self._deliver(conn, handle, value)
                if conn >= 0:
                    self._tell(_ROOM, count=1)
            self._notifying.clear()

    async def _deliver(self, conn: int, handle: int, value: bytes) -> None:
        characteristic = self._characteristics[handle]
        if conn < 0:
            await self.device.notify_subscribers(characteristic, value)
        elif (connection := self._connection(conn)) is not None:
            await self.device.gatt_server.notify_subscriber(connection, characteristic, value, force=True)

    # Connection and security

    def _connected(self, connection: Connection) -> None:
        self._authenticated.pop(connection.handle, None)
        self._notifications.clear()
        address = bytes(reversed(bytes(connection.peer_address))).hex()
        handle = connection.handle
        self._tell(_CONNECT, conn=handle, address_type=int(connection.peer_address.address_type), address=address)

        def gone(_: int) -> None:
            self._notifications.clear()
            self._tell(_DISCONNECT, conn=handle, address_type=0, address=address)

        def correct(_: object = None) -> None:
            # bumble takes every encrypted link for an authenticated one; NimBLE does not.
            connection.authenticated = self._authenticated.get(handle, False)

        def encrypted() -> None:
            session = self.device.smp_manager.sessions.get(handle)
            if session is not None and not session.completed:
                self._authenticated[handle] = session.pairing_method != PairingMethod.JUST_WORKS
            correct()
            self._tell(
                _ENCRYPTION,
                conn=handle,
                encrypted=bool(connection.encryption),
                authenticated=connection.authenticated,
                bonded=session is None,
                key_size=16,
            )

        connection.on("disconnection", gone)
        connection.on("connection_att_mtu_update", lambda: self._tell(_MTU, conn=handle, mtu=connection.att_mtu))
        connection.on("connection_encryption_change", encrypted)
        connection.on("pairing", correct)

    def _pairing(self, connection: Connection) -> PairingConfig:
        return PairingConfig(
            sc=self._settings["le_secure"],
            mitm=self._settings["mitm"],
            bonding=self._settings["bond"],
            delegate=_Delegate(self, connection.handle, self._settings["io"]),
            identity_address_type=PairingConfig.AddressType.RANDOM,
        )

    async def passkey(self, conn: int) -> int:
        """The passkey that the board wants to have typed in at the other end."""
        self._passkey = asyncio.get_running_loop().create_future()
        self._tell(_PASSKEY, conn=conn, action=_DISPLAY)
        return await self._passkey

    async def secret(self, type_: int, index: int, key: bytes | None) -> bytes | None:
        """Ask the board for a secret."""
        number = len(self._secrets) + 1
        while number in self._secrets:
            number += 1
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._secrets[number] = future
        self._tell(_GET_SECRET, id=number, type=type_, index=index, key=None if key is None else key.hex())
        return await future

    def keep_bond(self, peer: str, value: bytes) -> None:
        """Have the board keep ``value`` for the central at address ``peer``."""
        self._tell(_SET_SECRET, type=_PEER_SECURITY, key=peer.encode().hex(), value=value.hex())

    async def bond(self, peer: str) -> bytes | None:
        """What the board kept for ``peer``."""
        return await self.secret(_PEER_SECURITY, 0, peer.encode())

    def note_authenticated(self, peer: str, authenticated: bool) -> None:
        """The link to ``peer`` is about to be encrypted with the key of a pairing that was authenticated, or not."""
        for connection in self.device.connections.values():
            if str(connection.peer_address) == peer:
                self._authenticated[connection.handle] = authenticated


class _Delegate(PairingDelegate):
    def __init__(self, board: Peripheral, conn: int, io_capability: int) -> None:
        super().__init__(io_capability=PairingDelegate.IoCapability(io_capability))
        self._board = board
        self._conn = conn

    async def generate_passkey(self) -> int:
        return await self._board.passkey(self._conn)


class _BoardKeys(KeyStore):
    """Long-term keys in the board's own flash: one byte for how the pairing was done, then the key."""

    def __init__(self, board: Peripheral) -> None:
        self._board = board

    async def update(self, name: str, keys: PairingKeys) -> None:
        if keys.ltk is not None:
            self._board.keep_bond(name, struct.pack("<B", keys.ltk.authenticated) + keys.ltk.value)

    async def get(self, name: str) -> PairingKeys | None:
        value = await self._board.bond(name)
        if value is None:
            return None
        self._board.note_authenticated(name, bool(value[0]))
        return PairingKeys(ltk=PairingKeys.Key(value=value[1:], authenticated=bool(value[0])))
