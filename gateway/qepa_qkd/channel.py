"""Classical channel between Alice and Bob: framed, numbered, MACed messages over a byte stream.

Each side sends a preface (magic, role, 32-byte nonce); both derive session keys from the nonces and the shared
channel key. A frame is `length u32, payload, HMAC[16]`; the HMAC covers the frame's number, so nothing can be
dropped, repeated or reordered unseen, and no payload is parsed before its HMAC is checked.
"""

import asyncio
import contextlib
import hmac
import struct
from typing import Final

from qepa_qkd.authentication import FRAME_MAC_BYTES, SessionKeys, frame_mac
from qepa_qkd.errors import ProtocolError, SecurityError, TransientError
from qepa_qkd.messages import MAX_MESSAGE

_MAGIC: Final = b"QEPA-QKD-1"
_NONCE_BYTES: Final = 32
PREFACE_BYTES: Final = len(_MAGIC) + 1 + _NONCE_BYTES
_LENGTH: Final = struct.Struct("<I")
HANDSHAKE_TIMEOUT_S: Final = 10.0
_SEND_LIMIT: Final = 8 << 20


def preface(role: str, nonce: bytes) -> bytes:
    """First bytes of a connection; `role` is "alice" or "bob"."""
    return _MAGIC + role[:1].encode() + nonce


def parse_preface(data: bytes, expected_role: str) -> bytes:
    """Return the peer's nonce. Raises ProtocolError."""
    if len(data) != PREFACE_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise ProtocolError("the peer does not speak this protocol")
    if data[len(_MAGIC) : len(_MAGIC) + 1] != expected_role[:1].encode():
        raise ProtocolError(f"the peer is not {expected_role}")
    return data[len(_MAGIC) + 1 :]


class FrameSealer:
    """Payloads in, frames out."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._counter = 0

    def seal(self, payload: bytes) -> bytes:
        """Return the frame of `payload`."""
        mac = frame_mac(self._key, self._counter, payload)
        self._counter += 1
        return _LENGTH.pack(len(payload)) + payload + mac


class FrameOpener:
    """Frames in, payloads out."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._counter = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes. Raises ProtocolError on length, SecurityError on HMAC."""
        self._buffer += data
        payloads = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE:
                raise ProtocolError("a classical frame longer than allowed")
            end = _LENGTH.size + length
            if len(self._buffer) < end + FRAME_MAC_BYTES:
                break
            payload, mac = bytes(self._buffer[_LENGTH.size : end]), bytes(self._buffer[end : end + FRAME_MAC_BYTES])
            if not hmac.compare_digest(mac, frame_mac(self._key, self._counter, payload)):
                raise SecurityError("a classical frame whose MAC does not verify")
            self._counter += 1
            del self._buffer[: end + FRAME_MAC_BYTES]
            payloads.append(payload)
        return payloads


class ClassicalChannel:
    """An authenticated connection: `send` payloads, `receive` payloads."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keys: SessionKeys, role: str
    ) -> None:
        """Use `open`."""
        self._reader, self._writer = reader, writer
        mine, theirs = (keys.to_bob, keys.to_alice) if role == "alice" else (keys.to_alice, keys.to_bob)
        self._sealer, self._opener = FrameSealer(mine), FrameOpener(theirs)
        self._received: list[bytes] = []

    @classmethod
    async def open(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: str, channel_key: bytes, nonce: bytes
    ) -> "ClassicalChannel":
        """Exchange prefaces as `role`. Raises ProtocolError, or TransientError when the peer goes away."""
        writer.write(preface(role, nonce))
        peer_role = "bob" if role == "alice" else "alice"
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                data = await reader.readexactly(PREFACE_BYTES)
        except (OSError, EOFError, TimeoutError) as error:
            raise TransientError(f"{peer_role} went away before the connection stood") from error
        peer_nonce = parse_preface(data, peer_role)
        nonces = (nonce, peer_nonce) if role == "alice" else (peer_nonce, nonce)
        return cls(reader, writer, SessionKeys.derive(channel_key, *nonces), role)

    def send(self, payload: bytes) -> None:
        """Queue one payload. Raises TransientError when the peer has stopped reading."""
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > _SEND_LIMIT:
            raise TransientError("the peer has stopped reading")
        self._writer.write(self._sealer.seal(payload))

    @property
    def congested(self) -> bool:
        """Whether more waits to be sent than the connection carries in a moment."""
        transport = self._writer.transport
        return transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]

    async def receive(self, timeout_s: float) -> bytes:
        """Return the next payload. Raises TransientError when the connection ends or stays silent for `timeout_s`."""
        while not self._received:
            try:
                async with asyncio.timeout(timeout_s):
                    data = await self._reader.read(1 << 18)
            except TimeoutError:
                raise TransientError(f"the peer has been silent for {timeout_s:.0f} s") from None
            except OSError as error:
                raise TransientError(f"the connection broke: {error}") from error
            if not data:
                raise TransientError("the peer closed the connection")
            self._received = self._opener.feed(data)[::-1]
        return self._received.pop()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()
