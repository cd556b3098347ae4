"""What carries frames and messages. MQTT today; BLE has to offer no more than this."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish. ``qos`` 1 where nothing repeats it."""

    topic: str
    payload: bytes
    qos: int = 0


Send = Callable[[Outgoing], None]
Clock = Callable[[], int]  # wall clock, ms since the epoch


class Transport(Protocol):
    """May lose, repeat and delay: acknowledgements and repetition are the gateway's."""

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Hand every (topic, payload) to ``receive``; reconnect for ever."""

    def publish(self, message: Outgoing) -> None:
        """Send, or drop while there is no connection."""
