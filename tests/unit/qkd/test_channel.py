"""The classical channel between the ends: whatever is changed, cut, repeated or put elsewhere is refused, always."""

import asyncio
import itertools

import pytest

from qepa_qkd.authentication import FRAME_MAC_BYTES, SessionKeys
from qepa_qkd.channel import PREFACE_BYTES, ClassicalChannel, FrameOpener, FrameSealer, parse_preface, preface
from qepa_qkd.errors import ProtocolError, SecurityError, TransientError

KEYS = SessionKeys.derive(bytes(32), bytes(32), bytes(range(32)))
PAYLOADS = [b"first", b"", b"third, a longer one", b"fourth"]


def sealed() -> list[bytes]:
    sealer = FrameSealer(KEYS.to_bob)
    return [sealer.seal(payload) for payload in PAYLOADS]


def accepted(stream: bytes) -> list[bytes]:
    """What a receiver takes of a stream before it refuses it or waits for more."""
    opener, taken = FrameOpener(KEYS.to_bob), []
    try:
        for byte in stream:
            taken += opener.feed(bytes([byte]))
    except (SecurityError, ProtocolError):
        return taken
    return taken


def test_every_bit_of_every_frame_counts() -> None:
    frames = sealed()
    for number, frame in enumerate(frames):
        for bit in range(8 * len(frame)):
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            stream = b"".join([*frames[:number], bytes(changed), *frames[number + 1 :]])
            assert accepted(stream) == PAYLOADS[:number]


def test_every_other_order_and_every_gap_is_refused_at_its_place() -> None:
    frames = sealed()
    for length in range(1, len(frames) + 1):
        for order in itertools.product(range(len(frames)), repeat=length):
            right = next((i for i, n in enumerate(order) if n != i), length)
            assert accepted(b"".join(frames[n] for n in order)) == PAYLOADS[:right]


def test_a_stream_cut_anywhere_gives_whole_frames_only() -> None:
    frames = sealed()
    stream = b"".join(frames)
    ends = list(itertools.accumulate(len(frame) for frame in frames))
    for length in range(len(stream)):
        assert accepted(stream[:length]) == PAYLOADS[: sum(end <= length for end in ends)]


def test_bytes_put_between_frames_are_refused() -> None:
    frames = sealed()
    for extra in (b"\0", b"\0" * (4 + FRAME_MAC_BYTES), frames[0], preface("alice", bytes(32))):
        assert accepted(frames[0] + extra + b"".join(frames[1:])) == PAYLOADS[:1]


def test_every_bit_of_a_preface_counts_or_changes_the_keys() -> None:
    nonce = bytes(range(32))
    right = preface("bob", nonce)
    for bit in range(8 * PREFACE_BYTES):
        changed = bytearray(right)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            heard = parse_preface(bytes(changed), "bob")
        except ProtocolError:
            continue
        keys = SessionKeys.derive(bytes(32), bytes(32), heard)
        with pytest.raises(SecurityError):
            FrameOpener(keys.to_bob).feed(sealed()[0])


async def connected(*, keys: tuple[bytes, bytes]) -> tuple[ClassicalChannel, ClassicalChannel, asyncio.Server]:
    arrived: asyncio.Future[ClassicalChannel] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await ClassicalChannel.open(reader, writer, "alice", keys[0], bytes(32)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    bob = await ClassicalChannel.open(reader, writer, "bob", keys[1], bytes(range(32)))
    return await arrived, bob, server


async def test_payloads_cross_in_order_and_a_closed_connection_is_said() -> None:
    alice, bob, server = await connected(keys=(bytes(32), bytes(32)))
    for payload in PAYLOADS:
        alice.send(payload)
    assert [await bob.receive(5) for _ in PAYLOADS] == PAYLOADS
    alice.close()
    with pytest.raises(TransientError, match="closed"):
        await bob.receive(5)
    bob.close()
    server.close()


async def test_a_peer_with_another_secret_is_refused_at_its_first_word() -> None:
    alice, bob, server = await connected(keys=(bytes(32), bytes([1]) * 32))
    bob.send(b"let me in")
    with pytest.raises(SecurityError):
        await alice.receive(5)
    alice.close()
    bob.close()
    server.close()
