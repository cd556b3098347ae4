"""An embedded MQTT broker (amqtt) as a program: enough for a ward on one machine, replaced by mosquitto on a Pi."""

import argparse
import asyncio
import json
import logging
import signal

from amqtt.broker import Broker

_SHUTDOWN_S = 5.0


async def serve(host: str, port: int) -> None:
    """Run until SIGTERM."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}", "max_connections": 2000}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            "timeout_disconnect_delay": 0,
        }
    )
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await broker.start()
    print(json.dumps({"ready": True, "port": port}), flush=True)
    await stop.wait()
    # Python 3.11's wait_for may swallow the cancellation of a client's reader; asyncio.run cancels it once more.
    await asyncio.wait([asyncio.create_task(broker.shutdown())], timeout=_SHUTDOWN_S)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    asyncio.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
