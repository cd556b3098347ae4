"""What leaves for gateways: never before what it rests on is durable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .database import Store


class Outbox:
    """``transmit(gateway, data)`` queues bytes for a gateway."""

    def __init__(self, store: Store, transmit: Callable[[str, bytes], None]) -> None:
        self._store = store
        self.transmit = transmit
        self._held: list[tuple[str, bytes]] | None = None

    def send(self, gateway: str, data: bytes) -> None:
        """Send at once; inside :meth:`together` when that is durable."""
        if self._held is None:
            self.transmit(gateway, data)
        else:
            self._held.append((gateway, data))

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction; what is sent meanwhile leaves when it is durable, and not at all if it fails."""
        held = self._held = []
        try:
            with self._store.batch():
                yield
        finally:
            self._held = None
        for gateway, data in held:
            self.transmit(gateway, data)
