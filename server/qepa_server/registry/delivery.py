"""The newest model of the boards' line on its way to gateways that missed its release."""

from collections.abc import Callable

from qepa_uplink.messages import Status

from .models import ModelRegistry
from .repetition import Repetition


class ModelDelivery:
    """``send(gateway, data)`` queues bytes for a gateway."""

    def __init__(
        self, *, registry: ModelRegistry, clock_ms: Callable[[], int], send: Callable[[str, bytes], None]
    ) -> None:
        self._registry = registry
        self._clock_ms = clock_ms
        self._send = send
        self._repetition = Repetition(said_before=True)

    def greet(self, gateway: str) -> None:
        """A gateway has a new session: it may have missed the release."""
        if self._registry.envelope:
            self._send(gateway, self._registry.envelope)

    def on_status(self, gateway: str, status: Status) -> None:
        """A gateway tells which models its boards have: send it the newest again while some lack it."""
        version = self._registry.current.version
        if not self._registry.envelope or not any(
            board.online and board.model_version < version for board in status.boards
        ):
            return
        # A gateway hears of a board's model late, so this may be needless: ask less and less often.
        if self._repetition.is_due(gateway, version, self._clock_ms()):
            self._send(gateway, self._registry.envelope)
