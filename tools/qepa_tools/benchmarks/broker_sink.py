"""``python -m qepa_tools.benchmarks.broker_sink PORT FOLDER COUNT``: takes a gateway's frames from the broker, no more.

What it cannot exceed no gateway can. After COUNT messages it says so to the server's topic, and begins again.
"""

import asyncio
import json
import sys
from pathlib import Path

from qepa_uplink.topics import to_server
from qepa_wire.topics import all_boards_up

from .load_ward import GATEWAY
from .raw_mqtt import RawMqtt


async def serve(port: int, password: str, count: int) -> None:
    """Count for ever."""
    seen = 0

    def take(_topic: str, _payload: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen % count == 0:
            connection.publish(to_server(GATEWAY), b"all")

    connection = await RawMqtt.connect(port, GATEWAY, password, take)
    await connection.subscribe(all_boards_up(GATEWAY))
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    login = json.loads((Path(sys.argv[2]) / "clients" / f"{GATEWAY}.json").read_text())
    asyncio.run(serve(int(sys.argv[1]), login["password"], int(sys.argv[3])))
