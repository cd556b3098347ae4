"""A link that runs while a command watches it: bench if it is virtual, Alice, Bob, and a monitor."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from .folder import LinkFolder
from .monitor import LinkView, Monitor
from .programs import Programs, start_bench, start_ends

Said = Callable[[str], None]
T = TypeVar("T")

POLL_S: Final = 0.5


@contextlib.asynccontextmanager
async def running_link(
    folder: LinkFolder, bench_options: Sequence[str], say: Said = lambda _: None
) -> AsyncIterator[tuple[Programs, Monitor]]:
    """Start what the folder needs, end it in the opposite order. Raises ToolError when something cannot start."""
    async with Programs(folder.path) as programs:
        if folder.virtual:
            say("starting the virtual bench")
            await start_bench(programs, folder.path, bench_options)
        say("starting Alice and Bob (the first start on a machine compiles: a minute)")
        urls = await start_ends(programs, folder)
        async with Monitor(folder, urls) as monitor:
            yield programs, monitor


async def views(programs: Programs, monitor: Monitor) -> AsyncIterator[LinkView]:
    """Yield the link's view a few times a second, for ever. Raises ToolError when a program ends by itself."""
    while True:
        programs.check()
        yield await monitor.view()
        await asyncio.sleep(POLL_S)


def run_until_signal(work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work`; SIGINT and SIGTERM cancel it, which is returned as None."""

    async def supervised() -> T | None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(supervised())
