"""The event loop: keys are fetched while frames flow, a failed spool ends it, a key under way is kept."""

import asyncio
import contextlib
import sqlite3
from types import SimpleNamespace
from uuid import UUID

import pytest
from bedside_rig import Rig

from qepa_gateway.daemon import Daemon
from qepa_gateway.errors import ClockError, KeyUnavailable, SpoolError
from qepa_gateway.key_source import KmeKeySource, NoKeySource
from qepa_gateway.spool.boards import BoardStore
from qepa_qkd.errors import KeyNotFound, ProtocolError, TransientError
from qepa_uplink.messages import LinkStatus
from qepa_wire.topics import board_down, board_up


class Air:
    """A transport in memory."""

    def __init__(self):
        self.sent, self.recovered, self.faults = [], [], ()
        self.receive = None

    async def run(self, receive):
        self.receive = receive
        await asyncio.Event().wait()

    def publish(self, message):
        self.sent.append(message)

    async def recover(self, step):
        self.recovered.append(step)


class SlowKme:
    """A key source that answers when told to."""

    def __init__(self, kme):
        self.kme, self.go, self.asked = kme, asyncio.Event(), []

    async def fetch(self, key_id):
        self.asked.append(key_id)
        key = self.kme.fetch(key_id)
        await self.go.wait()
        if isinstance(key, str):
            raise KeyUnavailable(key)
        return key

    async def link_status(self):
        return LinkStatus(state="running", qber=0.02, stored_keys=3, bits_produced=9, bits_consumed=4)

    async def close(self):
        pass


async def until(condition, timeout_s=60):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def ward(tmp_path):
    rig = Rig(tmp_path, patients=3)
    rig.settle(6)
    return rig


@contextlib.asynccontextmanager
async def running(rig, source, **how):
    air = Air()
    daemon = Daemon(rig.site.gateway, air, source, **how)
    air.daemon = daemon
    task = asyncio.create_task(daemon.run())
    await until(lambda: air.receive is not None)
    try:
        yield air, task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SpoolError, ClockError, RuntimeError):
            await task


async def test_a_hello_is_answered_when_its_key_has_come(ward):
    board, source = ward.boards[1], SlowKme(ward.kme)
    async with running(ward, source) as (air, _):
        air.receive(board_up("gw-1", 1), board.boot())
        await until(lambda: source.asked)
        assert not any(message.topic == board_down("gw-1", 1) for message in air.sent)
        source.go.set()
        await until(lambda: any(message.topic == board_down("gw-1", 1) for message in air.sent))
        board.receive(next(message.payload for message in air.sent if message.topic == board_down("gw-1", 1)))
        assert not board.outbox
        assert ward.site.gateway.optical_link.qber == 0.02


async def test_a_key_under_way_is_kept_at_shutdown(ward):
    board, source = ward.boards[1], SlowKme(ward.kme)
    async with running(ward, source) as (air, task):
        air.receive(board_up("gw-1", 1), board.boot())
        await until(lambda: source.asked)
        task.cancel()
        await asyncio.sleep(0.05)
        source.go.set()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    ward.site.crash()
    ward.site.start()
    calls = ward.kme.calls
    ward.settle()
    assert not board.outbox
    assert ward.kme.calls == calls
    assert BoardStore(ward.site.spool).fetched(board.key_id) is None  # it has become an epoch's key


async def test_a_failed_spool_ends_the_daemon(ward):
    async with running(ward, NoKeySource()) as (air, task):

        class Broken:
            in_transaction = False

            def execute(self, *_):
                raise sqlite3.OperationalError("disk I/O error")

        ward.site.spool._connection = Broken()
        air.receive(board_up("gw-1", 1), b"")
        with pytest.raises(SpoolError, match="disk I/O"):
            await asyncio.wait_for(task, 60)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (KeyNotFound("gone"), "key_unknown"),
        (TransientError("away"), "kme_down"),
        (ProtocolError("nonsense"), "kme_down"),
    ],
)
async def test_what_the_kme_says_becomes_a_reason(failure, reason):
    async def dec_keys(_master, _key_ids, **_):
        raise failure

    with pytest.raises(KeyUnavailable) as error:
        await KmeKeySource(SimpleNamespace(dec_keys=dec_keys), "dock").fetch(bytes(16))
    assert error.value.reason == reason


async def test_a_key_id_is_the_kmes_uuid(ward):
    key_id, key = ward.kme.pad()

    async def dec_keys(master, key_ids, *, request_id):
        assert (master, key_ids) == ("dock", [UUID(bytes=key_id)])
        assert request_id == key_id.hex()  # whoever asks again for a key whose answer was lost gets it
        return [SimpleNamespace(value=key)]

    assert await KmeKeySource(SimpleNamespace(dec_keys=dec_keys), "dock").fetch(key_id) == key


class OddKme(SlowKme):
    """A key source with a fault that nobody foresaw, at the first question."""

    async def fetch(self, key_id):
        if not self.asked:
            self.asked.append(key_id)
            raise RuntimeError("what no key source should raise")
        return await super().fetch(key_id)


async def test_a_fault_while_a_key_is_fetched_ends_the_daemon_that_a_board_does_not_wait_for_ever(ward):
    async with running(ward, OddKme(ward.kme)) as (air, task):
        air.receive(board_up("gw-1", 1), ward.boards[1].boot())
        with pytest.raises(RuntimeError, match="no key source"):
            async with asyncio.timeout(30):
                await asyncio.shield(task)


async def test_a_spool_that_fails_while_a_key_is_refused_ends_the_daemon(ward):
    board, source = ward.boards[1], SlowKme(ward.kme)
    ward.kme.down = True
    async with running(ward, source) as (air, task):
        air.receive(board_up("gw-1", 1), board.boot())
        await until(lambda: source.asked)

        def broken(*_):
            raise SpoolError("disk I/O error")

        ward.site.gateway.one_time.key_failed = broken
        source.go.set()
        with pytest.raises(SpoolError, match="disk I/O"):
            async with asyncio.timeout(30):
                await asyncio.shield(task)
