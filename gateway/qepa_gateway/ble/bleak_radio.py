"""The adapter through bleak: the only place that knows it.

What bleak 3 on BlueZ does not do, and who does it then:
- A passkey: ``pair`` asks BlueZ, and BlueZ asks whoever registered an agent on D-Bus; bleak registers none. Boards with
  a passkey are paired once with ``bluetoothctl``; from then on BlueZ encrypts with the bond by itself.
- How a link is secured: bleak does not tell. Boards refuse what is not encrypted (PROTOCOL.md, 14.1), and frames carry
  their own MACs.
- Connections of a process that was killed: BlueZ keeps them, and a connected board does not advertise. The power cycle
  with which the transport begins ends them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from bleak import BleakClient, BleakScanner
from bleak.args.bluez import BlueZClientArgs, BlueZScannerArgs
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

from qepa_wire.fragments import ATT_BYTES, OPEN
from qepa_wire.gatt import DOWN, INFO, SERVICE, UP

from ..errors import RadioError

_LOG = logging.getLogger(__name__)
_MAX_DEVICES = 256
_CONNECT_S = 15.0
_CLOSE_S = 5.0
_POWER_CYCLE_S = 20.0


@contextlib.contextmanager
def _failing_as_radio_error(what: str) -> Iterator[None]:
    # bleak lets errors of D-Bus, of its own assertions and of sockets through; to the daemon they are all one.
    try:
        yield
    except RadioError:
        raise
    except Exception as error:
        raise RadioError(f"{what}: {type(error).__name__}: {error}") from error


class BleakLink:
    """:class:`qepa_gateway.ble.radio.Link` over a connected client."""

    def __init__(self, client: BleakClient) -> None:
        self._client = client
        with _failing_as_radio_error("no service of ours"):
            found = [client.services.get_characteristic(uuid) for uuid in (UP, DOWN, INFO)]
        up, down, info = found
        if up is None or down is None or info is None:
            raise RadioError("no service of ours: a characteristic is missing")
        self._up, self._down, self._info = up, down, info

    @property
    def mtu(self) -> int:
        """From the characteristic: ``mtu_size`` is always 23 on BlueZ."""
        return self._down.max_write_without_response_size + ATT_BYTES

    async def info(self) -> bytes:
        """The value of INFO."""
        with _failing_as_radio_error("reading INFO"):
            return bytes(await self._client.read_gatt_char(self._info))

    async def listen(self, received: Callable[[bytes], None]) -> None:
        """Subscribe, then open."""

        def notified(_: BleakGATTCharacteristic, data: bytearray) -> None:
            received(bytes(data))

        with _failing_as_radio_error("subscribing"):
            await self._client.start_notify(self._up, notified)
            await self._client.write_gatt_char(self._down, OPEN, response=True)

    async def write(self, fragment: bytes) -> None:
        """Write with response: the board's stack says when it has room again."""
        with _failing_as_radio_error("writing"):
            await self._client.write_gatt_char(self._down, fragment, response=True)

    async def close(self) -> None:
        """Disconnect, for at most a few seconds."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._client.disconnect()
        except Exception as error:
            _LOG.warning("a device could not be disconnected error=%s: %s", type(error).__name__, error)


class BleakRadio:
    """:class:`qepa_gateway.ble.radio.Radio`.

    adapter: such as ``hci0``, None for the first; pair: with whom there is no bond; power_cycle: a command and its
    arguments, empty for none; scanner and client: backends in place of the system's.
    """

    def __init__(
        self,
        *,
        adapter: str | None = None,
        pair: bool = True,
        power_cycle: Sequence[str] = (),
        scanner: type[BaseBleakScanner] | None = None,
        client: type[BaseBleakClient] | None = None,
    ) -> None:
        self._adapter = adapter
        self._pair = pair
        self._power_cycle = tuple(power_cycle)
        self._scanner, self._client = scanner, client
        self._devices: dict[str, BLEDevice] = {}

    @contextlib.asynccontextmanager
    async def scanning(self, seen: Callable[[str], None]) -> AsyncIterator[None]:
        """Scan for our service."""

        def detected(device: BLEDevice, _: AdvertisementData) -> None:
            self._devices.pop(device.address, None)
            self._devices[device.address] = device
            if len(self._devices) > _MAX_DEVICES:
                del self._devices[next(iter(self._devices))]
            seen(device.address)

        bluez: BlueZScannerArgs = {} if self._adapter is None else {"adapter": self._adapter}
        with _failing_as_radio_error("scanning"):
            scanner = BleakScanner(detected, [SERVICE], bluez=bluez, backend=self._scanner)
            await scanner.start()
        try:
            yield
        finally:
            with _failing_as_radio_error("scanning"):
                await scanner.stop()

    async def connect(self, address: str, gone: Callable[[], None]) -> BleakLink:
        """Connect, pair, discover."""
        bluez: BlueZClientArgs = {} if self._adapter is None else {"adapter": self._adapter}
        client = BleakClient(
            self._devices.get(address, address),
            lambda _: gone(),
            [SERVICE],
            timeout=_CONNECT_S,
            pair=self._pair,
            bluez=bluez,
            backend=self._client,
        )
        with _failing_as_radio_error("connecting"):
            await client.connect()
        try:
            return BleakLink(client)
        except RadioError:
            with contextlib.suppress(Exception):
                await client.disconnect()
            raise

    async def power_cycle(self) -> None:
        """Run the command, if there is one."""
        if not self._power_cycle:
            return
        with _failing_as_radio_error(f"{self._power_cycle[0]}"):
            process = await asyncio.create_subprocess_exec(
                *self._power_cycle, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(_POWER_CYCLE_S):
                    status = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if status:
            raise RadioError(f"{self._power_cycle[0]} ended with {status}")
