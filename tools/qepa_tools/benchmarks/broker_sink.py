"""``python -m qepa_tools.benchmarks.broker_sink PORT FOLDER COUNT``: takes a gateway's frames from the broker, no more.

What it cannot exceed no gateway can. After COUNT messages it says so to the server's topic, and begins again. With
COUNT 0 it acknowledges each frame at once and under no key: the way there and back without a gateway in it.
"""

import asyncio
import json
import struct
import sys
from pathlib import Path

from qepa_uplink.topics import to_server
from qepa_wire import frame
from qepa_wire.payloads import encode_ack
from qepa_wire.topics import all_boards_up

from .load_ward import GATEWAY
from .raw_mqtt import RawMqtt


async def serve(port: int, password: str, count: int) -> None:
    """Count for ever."""
    seen = 0

    def take(topic: str, payload: bytes) -> None:
        nonlocal seen
        seen += 1
        if not count:
            board, epoch, seq = struct.unpack_from("<III", payload, 4)
            ack = frame.encode(frame.ACK, board, epoch, seq, encode_ack([seq]), bytes(32))
            connection.publish(topic.removesuffix("up") + "down", ack)
        elif seen % count == 0:
            connection.publish(to_server(GATEWAY), b"all")

    connection = await RawMqtt.connect(port, GATEWAY, password, take)
    await connection.subscribe(all_boards_up(GATEWAY))
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    login = json.loads((Path(sys.argv[2]) / "clients" / f"{GATEWAY}.json").read_text())
    asyncio.run(serve(int(sys.argv[1]), login["password"], int(sys.argv[3])))
