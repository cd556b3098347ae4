"""``python -m qepa_gateway``: the daemon, its example configuration, and a broker's.

The daemon exits with 0 after SIGTERM or SIGINT, 2 on a start fault, 1 if storage fails or the clock was set back.
"""

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
from qepa_uplink.broker import read_login
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import write_private

from .bedside.app import make_app
from .bedside.server import listen, serve
from .ble.bleak_radio import BleakRadio
from .ble.transport import BleTransport
from .clock import SteadyClock
from .config import Config, example, load_config, load_trusted
from .core import Gateway
from .daemon import Daemon
from .errors import ClockError, ConfigError, GatewayError, SpoolError
from .inference.runtime import is_available
from .inference.shelf import ModelShelf
from .key_source import KeySource, KmeKeySource, NoKeySource
from .mosquitto.command import mosquitto_command
from .mqtt.transport import MqttTransport
from .spool.database import Spool
from .systemd import notify
from .transport import Transports

_LOG = logging.getLogger(__name__)


def run(path: Path | str) -> int:
    """Run the gateway that ``path`` configures until a signal ends it; return the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for noisy in ("httpx", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    clock = SteadyClock()
    try:
        config = load_config(Path(path))
        trusted = load_trusted(config, now_s=time.time())
        token = _token(config.bedside.token_file)
        door = listen(config.bedside.host, config.bedside.port)
        spool = Spool.open(config.state_dir)
        infers = config.inference.enabled and is_available()
        gateway = Gateway(
            trusted,
            spool,
            clock,
            min_group=config.min_group,
            between_docks_s=3600 * config.keys.between_docks_h,
            limits=config.spool.limits(),
            model_terms=config.model_rollout.terms(),
            firmware_root=config.firmware.key(),
            firmware_terms=config.firmware.terms(),
            firmware_at_once=config.firmware.at_once,
            shelf=ModelShelf(config.state_dir) if infers else None,
        )
        gateway.lacks_runtime = config.inference.enabled and not infers
    except GatewayError as error:
        print(f"qepa-gateway: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(config, gateway, door, token, clock))
    except (ConfigError, KmeConfigError) as error:
        print(f"qepa-gateway: {error}", file=sys.stderr)
        return 2
    except (SpoolError, ClockError) as error:
        _LOG.critical("to be started again error=%s", error)
        return 1
    finally:
        spool.close()
    return 0


async def _serve(config: Config, gateway: Gateway, door: socket.socket, token: str, clock: SteadyClock) -> None:
    ble = _ble(config, gateway)
    transport = Transports(_mqtt(config), *(() if ble is None else (ble,)))
    daemon = Daemon(gateway, transport, _key_source(config), clock=clock)
    app = make_app(
        gateway,
        token,
        clock,
        host=config.bedside.host,
        wake=daemon.wake,
        faults=daemon.faults,
        recoveries=daemon.recoveries,
        ble=None if ble is None else ble.report,
    )
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
    notify("STOPPING=1")
    for task in (waiter, *tasks):
        task.cancel()
    await asyncio.gather(waiter, *tasks, return_exceptions=True)
    for task in done - {waiter}:
        task.result()
    _LOG.info("gateway down name=%s", gateway.name)


def _ble(config: Config, gateway: Gateway) -> BleTransport | None:
    ble = config.ble
    if ble is None:
        return None
    return BleTransport(
        config.name,
        BleakRadio(adapter=ble.adapter, pair=ble.pair, power_cycle=ble.power_cycle),
        serves=gateway.boards.serves,
        count=gateway.refusals.count,
        most=ble.connections,
        hold_s=ble.hold_s,
    )


def _mqtt(config: Config) -> MqttTransport:
    broker = config.broker
    try:
        password, tls = read_login(broker.password_file, broker.ca)
    except UplinkError as error:
        raise ConfigError(str(error)) from error
    return MqttTransport(config.name, broker.host, broker.port, username=broker.username, password=password, tls=tls)


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
    arguments = sys.argv[1:]
    if arguments[:1] == ["mosquitto"]:
        sys.exit(mosquitto_command(arguments[1:]))
    parser = argparse.ArgumentParser(
        prog="qepa-gateway",
        description="The QEPA bedside gateway.",
        epilog="`qepa-gateway mosquitto --help`: a safe configuration for a broker.",
    )
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", type=Path, help="TOML file")
    group.add_argument("--example-config", action="store_true", help="print one, with every setting explained")
    chosen = parser.parse_args(arguments)
    if chosen.example_config:
        print(example(), end="")
        sys.exit(0)
    sys.exit(run(chosen.config))
