"""What the receiving side needs of a device: one interface for our receiver and for bought time taggers."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from qepa_qkd.serial_protocol import Detections, TimeTags

OnEvents = Callable[[Detections | TimeTags], None]
"""Called in the event loop with each block that arrives.

Detections have slots; TimeTags have raw times in picoseconds on the tagger's clock and need clock recovery. Blocks of a
run follow each other without a gap: where `first_slot` or `first_ps` is not the `end` of the block before, the events
between are lost. Blocks of other runs than the one under way are to be ignored.
"""


class Receiver(Protocol):
    """A device that sees photons. Every method raises PortError once the port is lost."""

    @property
    def closed(self) -> asyncio.Future[str]:
        """Completes with the reason once the device is lost; then open a new one."""
        ...

    @property
    def frames_lost(self) -> int:
        """Pieces of the stream known to be missing or damaged since the port was opened."""
        ...

    async def start(self, run: int) -> None:
        """Begin run `run`. Raises RefusedError."""
        ...

    async def stop(self) -> None:
        """End the run, if any."""
        ...

    async def running(self) -> bool:
        """Whether the run is still under way; ask every few seconds, it keeps the device's watchdog quiet.

        Raises TransientError with the reason where the device knows why it is not.
        """
        ...

    def close(self, reason: str = "closed") -> None:
        """Give the port back."""
        ...
