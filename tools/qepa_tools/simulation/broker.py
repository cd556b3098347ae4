"""The broker of a simulation: mosquitto where it is installed, else the embedded one."""

import asyncio
import contextlib
import shutil
import sys
from pathlib import Path

from ..errors import ToolError
from ..ward import processes
from ..ward.processes import Child

_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
log_type error
log_type warning
"""
_PATIENCE_S = 60.0


def find_mosquitto() -> str | None:
    """Path of the broker's program, also where it is not on everyone's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


async def start_broker(folder: Path, port: int, *, embedded: bool) -> tuple[Child, str]:
    """Start a broker on the loopback; returns it and its name. Raises ToolError if it does not listen."""
    program = None if embedded else find_mosquitto()
    if program is None:
        child = await processes.start("broker", "qepa_tools.ward.broker", ["--port", str(port)], logs=folder / "logs")
        await processes.ready(child)
        return child, "amqtt"
    configuration = folder / "mosquitto.conf"
    configuration.write_text(_CONFIGURATION.format(port=port))
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    log = folder / "logs" / "broker.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            str(configuration),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            preexec_fn=processes.die_with_parent if sys.platform == "linux" else None,
        )
    child = Child("broker", process, log)
    async with asyncio.timeout(_PATIENCE_S):
        while child.running:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return child, "mosquitto"
            await asyncio.sleep(0.05)
    raise ToolError(f"mosquitto could not start: {child.last_words() or f'see {log}'}")
