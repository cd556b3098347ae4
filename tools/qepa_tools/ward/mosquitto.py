"""mosquitto as a child process."""

import asyncio
import contextlib
import shutil
import sys
from pathlib import Path

from ..errors import ToolError
from .processes import Child, die_with_parent

_PATIENCE_S = 60.0


def find_mosquitto() -> str | None:
    """Path of the broker's program, also where it is not on everyone's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


async def start_mosquitto(program: str, configuration: Path, *, port: int, log: Path) -> Child:
    """Start it and wait until it listens on ``port`` of the loopback. Raises ToolError with its last words if not."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            str(configuration),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    child = Child("broker", process, log)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while child.running:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return child
                await asyncio.sleep(0.05)
    await child.end()
    raise ToolError(f"mosquitto did not start: {child.last_words() or f'see {log}'}")
