"""The part that the simulation's two own programs share: told in a file, ended by SIGTERM, telling in another."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from .plan import SimulationPlan

_LOG = logging.getLogger(__name__)


def read_task(path: Path) -> tuple[SimulationPlan, dict[str, Any]]:
    """Return the plan and what else is in a task file."""
    task = json.loads(path.read_text())
    return SimulationPlan(**task.pop("plan")), task


def log_to_stderr() -> None:
    """Log as the daemons do."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("mqtt").setLevel(logging.WARNING)


async def until_told(work: Coroutine[Any, Any, None], **said: Any) -> None:
    """Run ``work`` until SIGTERM or SIGINT cancels it; say once that it runs. Raises what ended it early."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = {asyncio.create_task(work), asyncio.create_task(stop.wait())}
    print(json.dumps({"ready": True, **said}), flush=True)
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
