"""bleak on the virtual air: pass ``backend=`` what :func:`backends` returns to BleakScanner and BleakClient.

As BlueZ does, connecting encrypts by itself where there is a bond.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from bleak.args import SizedBuffer
from bleak.assigned_numbers import CHARACTERISTIC_PROPERTIES
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakDeviceNotFoundError, BleakError
from bumble.core import UUID, AdvertisingData, BaseBumbleError
from bumble.device import Advertisement, Connection, Device, Peer

_SERVICE_LISTS = (
    AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
    AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
)


_COMMAND_S = 1.0  # that a cancelled command to the controller has to end by itself

T = TypeVar("T")


def _text(value: UUID) -> str:
    return str(uuid.UUID(bytes=bytes(reversed(value.to_bytes(force_128=True)))))


def _services(data: AdvertisingData) -> list[str]:
    """Each once: bumble repeats an advertisement in its scan response."""
    lists: list[Any] = [each for kind in _SERVICE_LISTS for each in data.get_all(kind)]
    return list(dict.fromkeys(_text(each) for one in lists for each in one))


def _is_being_cancelled() -> bool:
    """Whether a CancelledError is meant for this task; bumble raises them for what fails, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _whole(command: Coroutine[Any, Any, T]) -> T:
    """The result of ``command``, which no cancellation cuts off: bumble's host would then wait for ever."""
    task = asyncio.ensure_future(command)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=_COMMAND_S)
        task.cancel()
        raise


def backends(device: Device, *, mtu: int = 247) -> tuple[type[BaseBleakScanner], type[BaseBleakClient]]:
    """(scanner, client) backend classes that use ``device``; clients ask for ``mtu``."""

    class Scanner(_Scanner):
        central = device

    class Client(_Client):
        central = device
        wanted_mtu = mtu

    return Scanner, Client


class _Scanner(BaseBleakScanner):
    central: Device

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        scanning_mode: str = "active",
        **_: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._is_active = scanning_mode == "active"

    def _seen(self, advertisement: Advertisement) -> None:
        services = _services(advertisement.data)
        if not self.is_allowed_uuid(services):
            return
        address = str(advertisement.address).split("/")[0]
        data = AdvertisementData(None, {}, {}, services, None, advertisement.rssi, (advertisement,))
        found = self.create_or_update_device(address, address, None, advertisement.address, data)
        self.call_detection_callbacks(found, data)

    async def start(self) -> None:
        self.seen_devices = {}
        self.central.on("advertisement", self._seen)
        try:
            await _whole(self.central.start_scanning(active=self._is_active, filter_duplicates=False, legacy=True))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        self.central.remove_listener("advertisement", self._seen)
        await _whole(self.central.stop_scanning())


class _Client(BaseBleakClient):
    central: Device
    wanted_mtu: int

    def __init__(self, address_or_ble_device: BLEDevice | str, **kwargs: Any) -> None:
        kwargs.pop("services", None)  # all are discovered
        super().__init__(address_or_ble_device, **kwargs)
        details = address_or_ble_device.details if isinstance(address_or_ble_device, BLEDevice) else None
        self._target = details or self.address
        self._connection: Connection | None = None
        self._subscriptions: dict[int, Any] = {}
        self._ended = asyncio.Event()

    @property
    def name(self) -> str:
        return self.address

    @property
    def mtu_size(self) -> int:
        return self._connection.att_mtu if self._connection else 23

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def _standing(self) -> Connection:
        if self._connection is None:
            raise BleakError("not connected")
        return self._connection

    async def _ask(self, operation: Coroutine[Any, Any, T]) -> T:
        """The result of ``operation``; raises BleakError for its failure, and at once when the connection falls.

        In a task of its own: what bumble awaits with `asyncio.wait_for` may swallow a cancellation.
        """
        asked = asyncio.ensure_future(operation)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise BleakError("disconnected")
            return asked.result()
        except (BaseBumbleError, TimeoutError, asyncio.CancelledError) as error:
            if not asked.done() or _is_being_cancelled():
                raise
            raise BleakError(str(error) or "cancelled") from error
        finally:
            asked.cancel()
            ended.cancel()

    async def connect(self, pair: bool, **_: Any) -> None:
        try:
            self._connection = await self._connected()
        except (BaseBumbleError, TimeoutError, asyncio.CancelledError) as error:
            if _is_being_cancelled():
                raise
            raise BleakDeviceNotFoundError(self.address, str(error)) from error
        self._ended.clear()
        self._connection.on("disconnection", self._gone)
        try:
            await self._set_up(self._connection, pair)
        except BaseException:
            await self.disconnect()
            raise

    async def _connected(self) -> Connection:
        task = asyncio.ensure_future(self.central.connect(self._target, timeout=self._timeout))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                await asyncio.wait((task,), timeout=_COMMAND_S)
            if task.done() and not task.cancelled() and task.exception() is None:
                await task.result().disconnect()
            task.cancel()
            raise

    async def _set_up(self, connection: Connection, pair: bool) -> None:
        peer = Peer(connection)
        await self._ask(peer.request_mtu(self.wanted_mtu))
        if self.central.keystore and await self.central.keystore.get(str(connection.peer_address)):
            await self._ask(_whole(connection.encrypt()))
        elif pair:
            await self.pair()
        self.services = await self._ask(self._discover(peer))

    def _gone(self, _: int) -> None:
        self._connection = None
        self._ended.set()
        if self._disconnected_callback:
            self._disconnected_callback()

    async def _discover(self, peer: Peer) -> BleakGATTServiceCollection:
        found = BleakGATTServiceCollection()
        await peer.discover_services()
        for each in peer.services:
            service = BleakGATTService(each, each.handle, _text(each.uuid))
            found.add_service(service)
            for one in await each.discover_characteristics():
                properties = [name for bit, name in CHARACTERISTIC_PROPERTIES.items() if one.properties & bit]
                characteristic = BleakGATTCharacteristic(
                    one, one.handle, _text(one.uuid), properties, lambda: self.mtu_size - 3, service
                )
                found.add_characteristic(characteristic)
                for descriptor in await one.discover_descriptors():
                    found.add_descriptor(
                        BleakGATTDescriptor(descriptor, descriptor.handle, _text(descriptor.type), characteristic)
                    )
        return found

    async def disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect()
        self._connection = None

    async def pair(self, *_: Any, **__: Any) -> None:
        await self._ask(self._standing().pair())

    async def unpair(self) -> None:
        if self.central.keystore is not None:
            await self.central.keystore.delete(str(self._target))

    async def read_gatt_char(self, characteristic: BleakGATTCharacteristic, **_: Any) -> bytearray:
        return bytearray(await self._ask(characteristic.obj.read_value()))

    async def read_gatt_descriptor(self, descriptor: BleakGATTDescriptor, **_: Any) -> bytearray:
        return bytearray(await self._ask(descriptor.obj.read_value()))

    async def write_gatt_char(self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool) -> None:
        self._standing()
        await self._ask(characteristic.obj.write_value(bytes(data), with_response=response))

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        await self._ask(descriptor.obj.write_value(bytes(data), with_response=True))

    async def start_notify(self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_: Any) -> None:
        def received(value: bytes) -> None:
            callback(bytearray(value))

        self._subscriptions[characteristic.handle] = received
        await self._ask(characteristic.obj.subscribe(received))

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        await self._ask(characteristic.obj.unsubscribe(self._subscriptions.pop(characteristic.handle)))
