"""What Alice's and Bob's programs share: opening files and ports, agreeing with the peer, running until told to end."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from qepa_qkd import __version__
from qepa_qkd.alarms import BLOCK_KINDS, KINDS, ClickMonitor, kind_of, sentence_of
from qepa_qkd.authentication import InitialSecret
from qepa_qkd.channel import ClassicalChannel
from qepa_qkd.config import LinkConfig, Role, load
from qepa_qkd.distillation import BlockOutcome, Environment
from qepa_qkd.drivers.receiver import OnEvents, Receiver
from qepa_qkd.drivers.reconnect import START_LIMIT_S, open_soon
from qepa_qkd.drivers.tdc1 import Tdc1
from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.errors import ConfigError, CorruptError, ProtocolError, QkdError, SecurityError, TransientError
from qepa_qkd.history import History, behind_pseudo_terminal, history_path
from qepa_qkd.identity import open_signing_key
from qepa_qkd.kme import Kme
from qepa_qkd.kme_server import KmeServer
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.messages import Hello, KeepAlive, Message, Refuse, Settle, decode, encode
from qepa_qkd.rehearsal import rehearse
from qepa_qkd.store_database import read_secret_file
from qepa_qkd.vault import Vault

logger = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 5.0
SILENCE_LIMIT_S: Final = 15.0
RETRY_S: Final = 0.5
CONTROLLER_CHECK_S: Final = 2.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

OnReady = Callable[[dict[str, Any]], None]


class LinkEnd:
    """One end of a link, opened: secrets, store, KME. Raises ConfigError, CorruptError or SecurityError on opening."""

    def __init__(self, config: LinkConfig, role: Role) -> None:
        self.config, self.role = config, role
        self.settings = config.settings()
        self.secret = InitialSecret.parse(read_secret_file(config.initial_secret, "Initial secret"))
        self.vault = Vault(config.store.path, config.store.kek, self.secret, is_alice=role == "alice")
        self.status = LinkStatus()
        self.status.authentication_origin = config.authentication_origin
        self.history = History(history_path(config.store.path))
        self.click_monitor = ClickMonitor(self.settings.source, config.alarms.limits())
        """Bob's: knows the rate of detections over all runs."""
        self.environment = Environment(
            settings=self.settings,
            vault=self.vault,
            signer=open_signing_key(config.store.signing_key),
            random_bytes=secrets.token_bytes,
            unix_time_s=time.time,
            alarm_limits=config.alarms.limits(),
        )
        kme = Kme(config.kme, role, self.vault, self.status, config.store.quota_bits)
        self.kme_server = KmeServer(config.kme, kme)

    async def open_terminal_once(self) -> None:
        """Check that the controller answers, soon, before anything is promised. Raises ConfigError."""

        def waiting(reason: TransientError) -> None:
            logger.warning("%s; trying for %d s", reason, START_LIMIT_S)

        try:
            (await open_soon(self._open_device, limit_s=START_LIMIT_S, on_failure=waiting)).close()
        except (TransientError, ProtocolError) as error:
            raise ConfigError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
        self.history.started(time.time(), simulated=behind_pseudo_terminal(self.config.serial_port))

    async def wait_for_terminal(self, on_events: OnEvents | None = None) -> Terminal:
        """Return an open terminal; tries until there is one."""
        while True:
            try:
                return await Terminal.open(str(self.config.serial_port), on_events)
            except (TransientError, ProtocolError) as error:
                self.status.state = "no key: the optical controller does not answer"
                logger.warning("%s", error)
                await asyncio.sleep(RETRY_S)

    async def wait_for_receiver(self, on_events: OnEvents) -> Receiver:
        """Return Bob's open receiver, set as configured; tries until there is one."""
        while True:
            try:
                return await self._open_device(on_events)
            except (TransientError, ProtocolError) as error:
                self.status.state = "no key: the receiver does not answer"
                logger.warning("%s", error)
                await asyncio.sleep(RETRY_S)

    async def _open_device(self, on_events: OnEvents | None = None) -> Receiver:
        port, receiver = str(self.config.serial_port), self.config.receiver
        if self.role == "bob" and receiver.device == "tdc1":
            return await Tdc1.open(port, on_events, threshold_v=receiver.threshold_v)
        terminal = await Terminal.open(port, on_events)
        if on_events is not None and receiver.tags:
            await terminal.command("STOP")
            await terminal.command("SET report=tags")
            await terminal.command(f"SET sync_every={receiver.sync_every}")
        return terminal

    def hello(self) -> bytes:
        """This end's first message."""
        pads = self.vault.pads.positions()
        return encode(Hello(self.settings.digest(), __version__, pads, self.vault.keys.pending()))

    async def agree(self, channel: ClassicalChannel, hello: Message) -> None:
        """Compare settings and settle blocks left pending, given the peer's first message (ours is sent)."""
        if isinstance(hello, Refuse):
            raise ProtocolError(f"the peer refuses: {hello.reason}")
        if not isinstance(hello, Hello):
            raise ProtocolError("the peer does not begin with hello")
        if hello.settings_digest != self.settings.digest():
            reason = "link name or [protocol] settings differ between Alice and Bob"
            channel.send(encode(Refuse(reason)))
            self.status.state = f"no key: {reason}"
            raise ProtocolError(reason)
        self.vault.pads.advance(hello.pads)
        pending = self.vault.keys.pending()
        channel.send(encode(Settle(self.vault.keys.known(hello.pending))))
        settle = decode(await channel.receive(SILENCE_LIMIT_S))
        if not isinstance(settle, Settle):
            raise ProtocolError("the peer does not settle pending blocks")
        for block_id in pending:
            self.vault.settle(block_id, live=block_id in settle.have)

    def record(self, outcomes: list[BlockOutcome], *, running: bool) -> None:
        """Take finished blocks into the status and the log; empties the list. `running`: a run is under way."""
        for outcome in outcomes:
            self._record_error_rates(outcome)
            self._record_alarm(outcome)
            self.status.blocks += 1
            self.history.block(time.time(), outcome, self.vault.keys.stock_bits())
            if outcome.reason is None:
                logger.info("block %d: %d key bits, QBER %.4f", outcome.block, outcome.key_bits, self.status.qber)
            else:
                self.status.blocks_without_key += 1
                self.status.last_reason = outcome.reason
                logger.warning("block %d: no key: %s", outcome.block, outcome.reason)
            if running:
                self.status.state = "running" if outcome.reason is None else f"no key: {outcome.reason}"
        outcomes.clear()

    def _record_error_rates(self, outcome: BlockOutcome) -> None:
        if outcome.sifted_bits:
            self.status.qber_test = outcome.qber_z
            if outcome.qber_x is not None:
                self.status.qber_key = outcome.qber_x
            self.status.qber = outcome.qber_z if outcome.qber_x is None else outcome.qber_x

    def _record_alarm(self, outcome: BlockOutcome) -> None:
        """A block's end raises or clears the alarms that are told from blocks; Alice hears of Bob's others so, too."""
        kinds = BLOCK_KINDS if self.role == "bob" else KINDS
        kind = kind_of(outcome.reason)
        if kind is not None and kind in kinds:
            self.status.alarms.update({kind: sentence_of(outcome.reason or "")})
        elif kind is None and outcome.sifted_bits:
            self.status.alarms.update(dict.fromkeys(kinds))


async def keep_alive(channel: ClassicalChannel) -> None:
    """Say something every few seconds, so that the peer knows a dead connection from a quiet one."""
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        channel.send(encode(KeepAlive()))


async def watch(terminal: Receiver) -> None:
    """Raise TransientError once the terminal is lost."""
    raise TransientError(await asyncio.shield(terminal.closed))


async def run_session(*parts: Awaitable[None]) -> None:
    """Run the parts of a connection until one of them fails; log why. Cancelling cancels all."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(_as_coroutine(part))
    except* QkdError as failures:
        for failure in failures.exceptions:
            level = logging.WARNING if isinstance(failure, TransientError) else logging.ERROR
            logger.log(level, "connection ends: %s", failure)


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel `task` and wait for its end.

    Asks again each second: a task group whose parts failed at the moment of a cancellation reports only the failure.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)


def main(role: Role, run: Callable[[LinkConfig, OnReady], Awaitable[None]], arguments: Sequence[str] | None) -> int:
    """Command line of both programs: exit status 0 after a signal, 2 with one sentence when it cannot start.

    All that is compiled is compiled before a port is opened: the first start on a machine takes up to a minute.
    """
    parser = argparse.ArgumentParser(prog=f"python -m qepa_qkd.{role}")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{role} %(levelname)s %(message)s")
    for number in _ENDING:
        signal.signal(number, _end_at_once)  # until the event loop has its own
    try:
        config = load(options.config, role)
        rehearse(config.protocol.reconciliation)
        return asyncio.run(_until_signal(run(config, _print_ready)))
    except (ConfigError, CorruptError, SecurityError) as error:
        print(error, file=sys.stderr)
        return 2


def _end_at_once(*_: object) -> None:
    """End while nothing is open yet. An exception would come up amid numba, which makes others of it."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # a bar hides the cursor
    os._exit(0)


def _print_ready(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


async def _until_signal(running: Awaitable[None]) -> int:
    task = asyncio.ensure_future(running)
    for number in _ENDING:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return 0


async def _as_coroutine(part: Awaitable[None]) -> None:
    await part
