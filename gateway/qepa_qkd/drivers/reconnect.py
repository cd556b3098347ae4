"""Open a device that may be busy for a while, and again one that was unplugged, is another one, or comes back later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from qepa_qkd.drivers.errors import NoPortError
from qepa_qkd.errors import ProtocolError, TransientError

Device = TypeVar("Device")

START_LIMIT_S: Final = 20.0
"""For which a controller may be silent or in use when a program starts."""
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 5.0


async def open_soon(
    open_device: Callable[[], Awaitable[Device]],
    *,
    limit_s: float,
    on_failure: Callable[[TransientError], None] = lambda _: None,
    retry_s: float = FIRST_RETRY_S,
) -> Device:
    """Return the open device; for `limit_s` it may be silent or in the hands of another program, then that is raised.

    A controller may be starting again or have much to do, a predecessor may be ending, a modem manager may be asking
    who is there. Where there is no port (NoPortError) or another device (ProtocolError), waiting mends nothing: these
    are raised at once. `on_failure` is told the first reason to wait.
    """
    loop = asyncio.get_running_loop()
    end_s, told = loop.time() + limit_s, False
    while True:
        try:
            return await open_device()
        except NoPortError:
            raise
        except TransientError as error:
            if loop.time() >= end_s:
                raise
            if not told:
                told = True
                on_failure(error)
        await asyncio.sleep(retry_s)


async def open_when_there(
    open_device: Callable[[], Awaitable[Device]],
    *,
    on_failure: Callable[[TransientError | ProtocolError], None] = lambda _: None,
    first_retry_s: float = FIRST_RETRY_S,
    longest_retry_s: float = LONGEST_RETRY_S,
) -> Device:
    """Return the open device; tries until there is one, ever more slowly.

    A wrong device or version is waited out too, since somebody may change the plug. `on_failure` is told each new
    reason once. A device that was lost is opened by calling this again; runs do not survive that, and because each run
    has a number of its own, nothing of an old one is taken for the new.
    """
    delay_s, told = first_retry_s, ""
    while True:
        try:
            return await open_device()
        except (TransientError, ProtocolError) as error:
            if str(error) != told:
                told = str(error)
                on_failure(error)
        await asyncio.sleep(delay_s)
        delay_s = min(longest_retry_s, 1.5 * delay_s)
