"""``python -m qepa_gateway --config FILE``: exit 0 after SIGTERM or SIGINT, 2 on a start fault, 1 if storage fails."""

import argparse
import asyncio
import json
import logging
import secrets
import signal
import socket
import sys
import time
from pathlib import Path

from qepa_qkd.errors import ConfigError as KmeConfigError
from qepa_qkd.kme_client import KmeClient
from qepa_uplink.identity import write_private

from .bedside.app import make_app
from .bedside.server import listen, serve
from .config import Config, load_config, load_trusted
from .core import Gateway
from .daemon import Daemon, sd_notify
from .errors import ConfigError, GatewayError, SpoolError
from .key_source import KeySource, KmeKeySource, NoKeySource
from .mqtt.transport import MqttTransport
from .spool.database import Spool

_LOG = logging.getLogger(__name__)


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def run(path: Path | str) -> int:
    """Run the gateway that ``path`` configures until a signal ends it; return the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for noisy in ("httpx", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        config = load_config(Path(path))
        trusted = load_trusted(config, now_s=time.time())
        token = _token(config.bedside.token_file)
        door = listen(config.bedside.host, config.bedside.port)
        spool = Spool.open(config.state_dir)
        gateway = Gateway(trusted, spool, wall_clock_ms, min_group=config.min_group)
    except GatewayError as error:
        print(f"qepa-gateway: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(config, gateway, door, token))
    except (ConfigError, KmeConfigError) as error:
        print(f"qepa-gateway: {error}", file=sys.stderr)
        return 2
    except SpoolError as error:
        _LOG.critical("spool failed error=%s", error)
        return 1
    finally:
        spool.close()
    return 0


async def _serve(config: Config, gateway: Gateway, door: socket.socket, token: str) -> None:
    daemon = Daemon(gateway, _transport(config), _key_source(config), wall_clock_ms)
    app = make_app(gateway, token, wall_clock_ms, host=config.bedside.host, wake=daemon.wake)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = {
        asyncio.create_task(daemon.run()),
        asyncio.create_task(serve(app, door)),
    }
    waiter = asyncio.create_task(stop.wait())
    host, port = door.getsockname()[:2]
    print(json.dumps({"ready": True, "bedside": f"http://{host}:{port}"}), flush=True)
    _LOG.info("gateway up name=%s boards=%d", gateway.name, len(gateway.boards.served()))
    done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    sd_notify("STOPPING=1")
    for task in (waiter, *tasks):
        task.cancel()
    await asyncio.gather(waiter, *tasks, return_exceptions=True)
    for task in done - {waiter}:
        task.result()
    _LOG.info("gateway down name=%s", gateway.name)


def _transport(config: Config) -> MqttTransport:
    broker = config.broker
    password = None
    if broker.password_file is not None:
        try:
            password = broker.password_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"cannot read {broker.password_file}: {error.strerror}") from error
    return MqttTransport(config.name, broker.host, broker.port, username=broker.username, password=password)


def _key_source(config: Config) -> KeySource:
    kme = config.kme
    if kme is None:
        return NoKeySource()
    return KmeKeySource(KmeClient(kme.url, ca=kme.ca, certificate=kme.cert, private_key=kme.key), kme.master_sae)


def _token(path: Path) -> str:
    try:
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32).encode())
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot use the token file {path}: {error}") from error
    if len(token) < 16:
        raise ConfigError(f"the token in {path} is too short: delete the file to have one made")
    return token


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="qepa-gateway", description="The QEPA bedside gateway.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    sys.exit(run(parser.parse_args().config))
