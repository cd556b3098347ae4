"""What the transport wants of a Bluetooth adapter. Everything that fails raises RadioError, and nothing else does."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Link(Protocol):
    """A connection to one device, encrypted where the device asks for it."""

    @property
    def mtu(self) -> int:
        """ATT MTU in force."""

    async def info(self) -> bytes:
        """The value of INFO."""

    async def listen(self, received: Callable[[bytes], None]) -> None:
        """Subscribe to UP, then say so with OPEN; every fragment is handed to ``received``, in order."""

    async def write(self, fragment: bytes) -> None:
        """Write to DOWN; returns when the device has it."""

    async def close(self) -> None:
        """Disconnect; raises nothing, and may be called twice."""


class Radio(Protocol):
    """The adapter."""

    def scanning(self, seen: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """While it lasts, ``seen`` is told the address of who advertises our service, again and again."""

    async def connect(self, address: str, gone: Callable[[], None]) -> Link:
        """Connect to who was seen, pairing where that is wanted; ``gone`` is called when the connection falls."""

    async def power_cycle(self) -> None:
        """Switch the adapter off and on, if there is a way; all connections are gone then."""
