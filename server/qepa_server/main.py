"""Start, serve, stop: the only part that touches sockets, signals and the clock."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity, verify_certificate
from qepa_wire.errors import WireError

from .api.app import create_app
from .config import ServerConfig, load
from .errors import ConfigError, ServerError
from .hospital import Hospital, audit_head
from .mqtt import BrokerLink
from .planning import plan_rounds
from .registry.models import signatures_used
from .registry.signer import HssSigner
from .store import settings
from .store.database import Store
from .store.vault import Vault
from .unmask.opening import warm_up

_LOG = logging.getLogger(__name__)
_TICK_S = 0.1
_GATHER_S, _GATHER_LONGEST_S = 0.005, 0.05
_MOST_BYTES, _MOST_BYTES_ALL = 32 << 20, 256 << 20  # that wait of one gateway, and of all
_OVERHEAD_BYTES = 256  # of a message, however short
_MODEL_ROOT = "model root"
EXIT_OK, EXIT_FAULT, EXIT_START = 0, 1, 2


def now_ms() -> int:
    """Wall-clock time in ms."""
    return time.time_ns() // 1_000_000


def run(path: Path) -> int:
    """Run the server of the configuration at ``path`` until SIGTERM or SIGINT; return the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s server %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("alembic", "uvicorn", "mqtt"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return asyncio.run(_run(path))
    except (ServerError, UplinkError, WireError) as error:
        print(f"qepa server: {error}", file=sys.stderr)
        return EXIT_START
    except SQLAlchemyError as error:
        # What could not be stored must not be acknowledged: stop, and go on from what is stored.
        print(f"qepa server: the database failed: {type(error).__name__}", file=sys.stderr)
        return EXIT_FAULT
    except OSError as error:  # likewise for the state of the signing keys
        print(f"qepa server: {error.filename or 'the machine'} failed: {error.strerror}", file=sys.stderr)
        return EXIT_FAULT


class OneLine(logging.Formatter):
    """What a gateway gave as a reason begins no line of its own in the log, and moves no cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (a name of logging)
        """Of logging; a traceback comes after it, and keeps its lines."""
        said = super().formatMessage(record)
        return said if said.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)


async def _run(path: Path) -> int:
    config = load(path)
    plan_rounds(config)  # refuses a quantizer that could overflow before anything is touched
    identity, root_key = _credentials(config)
    listener = _listen(config)
    with contextlib.closing(listener), contextlib.closing(Store.open(config.state_dir)) as store:
        vault, signer = await asyncio.to_thread(_open_keys, config.state_dir, store)
        await asyncio.to_thread(warm_up)
        link = BrokerLink(config.broker, client_id=f"qepa-{config.name}")
        hospital = Hospital(
            config=config,
            store=store,
            vault=vault,
            signer=signer,
            identity=identity,
            root_key=root_key,
            clock_ms=now_ms,
            send=link.send,
        )
        _LOG.info("audit log verified; note its head elsewhere: %s", audit_head(hospital))
        await _serve(config, hospital, link, listener)
    return EXIT_OK


def _credentials(config: ServerConfig) -> tuple[Identity, bytes]:
    try:
        root_key = config.root_key.read_bytes()
    except OSError as error:
        raise ConfigError("config", f"cannot read the root key {config.root_key}: {error.strerror}") from error
    identity = Identity.load(config.identity)
    subject = verify_certificate(identity.certificate, root_key, role="server", now_s=time.time())
    if subject.name != config.name:
        raise ConfigError("config", f"{config.identity} is of {subject.name}, the configuration of {config.name}")
    return identity, root_key


def _listen(config: ServerConfig) -> socket.socket:
    api = config.api
    try:
        return socket.create_server((api.host, api.port), backlog=128)
    except OSError as error:
        raise ConfigError("config", f"cannot listen on {api.host}:{api.port}: {error.strerror}") from error


def _open_keys(folder: Path, store: Store) -> tuple[Vault, HssSigner]:
    """Open the key file and the model signing key, or make both at the first start."""
    path = folder / "model-signing.key"
    with store.read() as connection:
        root = settings.read(connection, _MODEL_ROOT)
        used = signatures_used(connection)
    vault = Vault.open(folder / "kek", create=root is None)
    if root is not None:
        return vault, HssSigner.load(path, vault, public_key=root, used_at_least=used)
    _LOG.info("making the model signing key (a few seconds)")
    signer = HssSigner.generate(path, vault)
    with store.write() as connection:
        settings.add(connection, _MODEL_ROOT, signer.public_key)
    return vault, signer


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to :func:`_serve`."""
        yield


async def _serve(config: ServerConfig, hospital: Hospital, link: BrokerLink, listener: socket.socket) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    inbox = _Inbox(hospital.receive_all, overloaded=lambda: hospital.refused.update(("overload",)))
    app = create_app(hospital, host=config.api.host, stopping=stopping)
    server = _Uvicorn(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    api = asyncio.create_task(server.serve([listener]), name="api")
    work = [
        asyncio.create_task(link.run(inbox.put), name="broker"),
        asyncio.create_task(inbox.run(), name="inbox"),
        asyncio.create_task(_tick(hospital), name="rounds"),
        asyncio.create_task(stopping.wait(), name="stop"),
    ]
    try:
        while not server.started and not api.done():
            await asyncio.sleep(0.01)
        if not api.done():
            address, port = listener.getsockname()[:2]
            print(json.dumps({"ready": True, "api": f"http://{address}:{port}"}), flush=True)
        done, _ = await asyncio.wait([api, *work], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a task that failed ends the server with its error
    finally:
        stopping.set()
        server.should_exit = True
        for task in work:
            task.cancel()
        await asyncio.gather(api, *work, return_exceptions=True)


class _Inbox:
    """Gathers what comes: messages share a transaction with those that came while the last one was written.

    What a flood brings beyond a limit is dropped: ``overloaded()`` is called for each message.
    """

    def __init__(
        self, take: Callable[[Sequence[tuple[str, bytes]]], None], *, overloaded: Callable[[], None] = lambda: None
    ) -> None:
        self._take = take
        self._overloaded = overloaded
        self._waiting: list[tuple[str, bytes]] = []
        self._bytes: Counter[str] = Counter()  # that wait, by gateway
        self._bytes_of_all = 0
        self._arrived = asyncio.Event()

    def put(self, gateway: str, data: bytes) -> None:
        """Take one message soon."""
        size = len(data) + _OVERHEAD_BYTES
        if self._bytes[gateway] + size > _MOST_BYTES or self._bytes_of_all + size > _MOST_BYTES_ALL:
            self._overloaded()
            return
        self._bytes[gateway] += size
        self._bytes_of_all += size
        self._waiting.append((gateway, data))
        self._arrived.set()

    async def run(self) -> None:
        """Serve until cancelled. What waits then was not acknowledged, and comes again."""
        loop, took_s = asyncio.get_running_loop(), 0.0
        while True:
            await self._arrived.wait()
            await asyncio.sleep(min(max(took_s, _GATHER_S), _GATHER_LONGEST_S))
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            self._bytes.clear()
            self._bytes_of_all = 0
            begun_s = loop.time()
            self._take(batch)
            took_s = loop.time() - begun_s


async def _tick(hospital: Hospital) -> None:
    while True:
        hospital.tick()
        await asyncio.sleep(_TICK_S)
