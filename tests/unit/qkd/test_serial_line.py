"""The classical channel over a serial line as programs use it: two pseudo-terminals joined, real event loop."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from qepa_qkd.channel import ClassicalChannel
from qepa_qkd.drivers.errors import PortError
from qepa_qkd.drivers.serial_line import SerialLine
from qepa_qkd.errors import TransientError
from qepa_tools.bench.null_modem import NullModem

BITS_PER_S = 4_000_000
PATIENCE_S = 60
KEY = bytes(32)


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "alice", tmp_path / "bob"


@pytest.fixture
def modem(names: tuple[Path, Path]) -> Iterator[NullModem]:
    with NullModem(names, bits_per_s=BITS_PER_S) as joined:
        yield joined


def opened(name: Path) -> SerialLine:
    line = SerialLine(str(name), BITS_PER_S)
    line.open_port()
    return line


async def channel(line: SerialLine, role: str) -> ClassicalChannel:
    reader, writer = await line.connect()
    return await ClassicalChannel.open(reader, writer, role, KEY, os.urandom(32))


async def channels(alice: SerialLine, bob: SerialLine) -> tuple[ClassicalChannel, ClassicalChannel]:
    async with asyncio.timeout(PATIENCE_S):
        first, second = await asyncio.gather(channel(alice, "alice"), channel(bob, "bob"))
    return first, second


async def converse(alice: ClassicalChannel, bob: ClassicalChannel) -> None:
    payloads = [os.urandom(n) for n in (0, 1, 30_000)]
    for payload in payloads:
        alice.send(payload)
        bob.send(payload[::-1])
    for payload in payloads:
        assert await bob.receive(PATIENCE_S) == payload
        assert await alice.receive(PATIENCE_S) == payload[::-1]


async def until_closed(end: ClassicalChannel) -> None:
    async def receive_all() -> None:
        while True:
            await end.receive(PATIENCE_S)

    with pytest.raises(TransientError, match="closed"):
        await receive_all()
    end.close()


async def test_payloads_cross_both_ways_and_an_end_is_noticed(modem: NullModem, names: tuple[Path, Path]) -> None:
    alice, bob = opened(names[0]), opened(names[1])
    mine, theirs = await channels(alice, bob)
    await converse(mine, theirs)
    mine.send(b"goodbye")
    mine.close()
    assert await theirs.receive(PATIENCE_S) == b"goodbye"
    await until_closed(theirs)
    await converse(*await channels(alice, bob))
    alice.close()
    bob.close()


async def test_garbage_on_the_line_reaches_nobody(modem: NullModem, names: tuple[Path, Path]) -> None:
    fate = random.Random(1)

    def spoil(_: int, data: bytes) -> bytes:
        place = fate.randrange(len(data))
        return data[:place] + fate.randbytes(fate.randrange(40)) + data[place:] if fate.random() < 0.1 else data

    modem.spoil = spoil
    alice, bob = opened(names[0]), opened(names[1])
    await converse(*await channels(alice, bob))
    alice.close()
    bob.close()


async def test_an_end_that_starts_again_gets_a_connection_and_the_old_one_ends(
    modem: NullModem, names: tuple[Path, Path]
) -> None:
    alice, bob = opened(names[0]), opened(names[1])
    mine, theirs = await channels(alice, bob)
    await converse(mine, theirs)
    mine.send(os.urandom(5_000))
    assert alice._port is not None
    alice._port.close()  # as by kill -9: no farewell
    alice._line.lost("killed")
    again = opened(names[0])
    first = asyncio.ensure_future(channel(again, "alice"))
    async with asyncio.timeout(PATIENCE_S):
        await until_closed(theirs)
        second = await channel(bob, "bob")
        await converse(await first, second)
    again.close()
    bob.close()


async def test_a_port_that_is_pulled_out_ends_the_connection_and_is_found_again(names: tuple[Path, Path]) -> None:
    with NullModem(names, bits_per_s=BITS_PER_S):
        alice, bob = opened(names[0]), opened(names[1])
        mine, theirs = await channels(alice, bob)
    for end in (mine, theirs):
        await until_closed(end)
    with NullModem(names, bits_per_s=BITS_PER_S):
        await converse(*await channels(alice, bob))
        alice.close()
        bob.close()


async def test_a_reader_that_is_slow_makes_the_other_end_wait_and_that_is_seen(
    modem: NullModem, names: tuple[Path, Path]
) -> None:
    alice, bob = opened(names[0]), opened(names[1])
    mine, theirs = await channels(alice, bob)
    payloads = [bytes([n]) * 300_000 for n in range(3)]
    for payload in payloads:
        mine.send(payload)
    assert mine.congested
    await asyncio.sleep(1.0)  # Bob is busy
    async with asyncio.timeout(PATIENCE_S):
        for payload in payloads:
            assert await theirs.receive(PATIENCE_S) == payload
        while mine.congested:
            await asyncio.sleep(0.01)
    alice.close()
    bob.close()


async def test_a_port_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="cannot be opened"):
        opened(tmp_path / "nothing")
