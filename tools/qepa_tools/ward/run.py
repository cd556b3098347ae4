"""``qepa ward``: start everything, show it, end everything."""

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .plan import WardPlan
from .report import Reporter
from .screen import lost_view, ward_view
from .ward import Ward

_REFRESH_S = 0.5
_STATUS_SIGINT = 130


def run_ward(plan: WardPlan, *, as_json: bool) -> int:
    """Run the ward until its rounds are done or it is told to stop; return the exit status.

    Raises ToolError for what the user can mend, after everything has been ended.
    """
    try:
        return asyncio.run(_run(plan, as_json=as_json))
    except KeyboardInterrupt:
        return _STATUS_SIGINT


async def _run(plan: WardPlan, *, as_json: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(stderr=as_json)
    ward = Ward(plan)
    _log_to(ward)
    async with ward:
        started = await _until(stop, _start(ward, console))
        if not started:
            return 0
        reporter = Reporter(plan, ward)
        watching = reporter.watch() if as_json else _show(ward, reporter, console)
        await _until(stop, watching)
        await ward.check()
    if as_json:
        report = reporter.report()
        print(json.dumps(report))
        return 0 if report["ok"] else 1
    return 0


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Run ``work`` to its end or until ``stop``; return whether it ended by itself."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False
    task.result()
    return True


async def _start(ward: Ward, console: Console) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def step(title: str, total: int) -> Callable[[], None]:
            task = progress.add_task(title, total=total)
            return lambda: progress.advance(task)

        await ward.start(step)


async def _show(ward: Ward, reporter: "Reporter", console: Console) -> None:
    if ward.page_url:
        console.print(f"The ward's page: [link={ward.page_url}]{ward.page_url}[/]   (Ctrl-C ends the ward)")
    with Live(console=console, refresh_per_second=4, screen=console.is_terminal) as live:
        async for state in reporter.states():
            live.update(lost_view(ward.trouble) if state is None else ward_view(state, ward.pace, ward.notice))


def _log_to(ward: Ward) -> None:
    handler = logging.FileHandler(ward.log_file(), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("qepa.ward")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
