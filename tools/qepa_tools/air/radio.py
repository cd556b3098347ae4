"""The virtual air: boards register over TCP, centrals are bumble devices in this process."""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from bumble.device import Device
from bumble.keys import MemoryKeyStore
from bumble.link import LocalLink
from bumble.pairing import PairingConfig, PairingDelegate

from .peripheral import Peripheral, make_device

SHIMS = Path(__file__).with_name("shims")
"""Where MicroPython finds the `bluetooth` that leads here."""


class Radio:
    """An asynchronous context manager. Boards find it by ``port`` on the loopback interface."""

    def __init__(self) -> None:
        self.link: LocalLink = LocalLink()  # type: ignore[no-untyped-call]  # bumble's
        self._tasks: set[asyncio.Task[None]] = set()
        self.peripherals: list[Peripheral] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        peripheral = Peripheral(self.link, reader, writer)
        self.peripherals.append(peripheral)
        try:
            await peripheral.serve()
        finally:
            self.peripherals.remove(peripheral)
            if task is not None:
                self._tasks.discard(task)

    async def central(self, address: str = "F0:F1:F2:F3:F4:00", *, passkey: int | None = None) -> Device:
        """A central's bumble device, on. With ``passkey`` it can type, without it pairing "just works".

        What it bonds with, it remembers as long as it lives.
        """
        device = make_device(self.link, "central", address)
        device.keystore = MemoryKeyStore()
        delegate = _Typist(passkey)
        device.pairing_config_factory = lambda _: PairingConfig(
            sc=True,
            mitm=passkey is not None,
            bonding=True,
            delegate=delegate,
            identity_address_type=PairingConfig.AddressType.RANDOM,
        )
        await device.power_on()
        return device


class _Typist(PairingDelegate):
    def __init__(self, passkey: int | None) -> None:
        super().__init__(
            io_capability=PairingDelegate.NO_OUTPUT_NO_INPUT if passkey is None else PairingDelegate.KEYBOARD_INPUT_ONLY
        )
        self._passkey = passkey

    async def get_number(self) -> int | None:
        return self._passkey
