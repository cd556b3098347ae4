"""What carries frames and messages: MQTT, and beside it Bluetooth LE, behind the same few methods."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .domain.silence import Step


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

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it now, in words fit for a counter's label, such as ``broker``; () if nothing is."""

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Hand every (topic, payload) to ``receive``; reconnect for ever. Runs once, until cancelled."""

    def publish(self, message: Outgoing) -> None:
        """Send, or drop while there is no connection or where this transport does not reach."""

    async def recover(self, step: Step) -> None:
        """No board is heard although some are expected: begin anew (RESCAN), from the adapter up (POWER_CYCLE)."""


class Transports:
    """Several transports as one. Each message is offered to all: a board is reached by the one that has it."""

    def __init__(self, *transports: Transport) -> None:
        self._transports = transports

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults of all."""
        return tuple(fault for transport in self._transports for fault in transport.faults)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Run all; what ends one ends all."""
        async with asyncio.TaskGroup() as tasks:
            for transport in self._transports:
                tasks.create_task(transport.run(receive))

    def publish(self, message: Outgoing) -> None:
        """Offer to all."""
        for transport in self._transports:
            transport.publish(message)

    async def recover(self, step: Step) -> None:
        """Pass on."""
        for transport in self._transports:
            await transport.recover(step)
