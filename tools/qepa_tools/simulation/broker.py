"""The broker of a simulation: mosquitto where it is installed, else the embedded one."""

from pathlib import Path

from ..ward import processes
from ..ward.mosquitto import find_mosquitto, start_mosquitto
from ..ward.processes import Child

_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
log_type error
log_type warning
"""


async def start_broker(folder: Path, port: int, *, embedded: bool) -> tuple[Child, str]:
    """Start a broker on the loopback; returns it and its name. Raises ToolError if it does not listen."""
    program = None if embedded else find_mosquitto()
    if program is None:
        child = await processes.start("broker", "qepa_tools.ward.broker", ["--port", str(port)], logs=folder / "logs")
        await processes.ready(child)
        return child, "amqtt"
    configuration = folder / "mosquitto.conf"
    configuration.write_text(_CONFIGURATION.format(port=port))
    return await start_mosquitto(program, configuration, port=port, log=folder / "logs" / "broker.log"), "mosquitto"
