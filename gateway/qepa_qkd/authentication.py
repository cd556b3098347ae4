"""Wegman-Carter authentication of a block's classical messages, and the session keys that guard single frames.

The tag of a transcript is its polynomial hash plus a mask, in the field of p = 2^127 - 1: unforgeable whatever the
attacker computes (Wegman and Carter 1981). Hash key and mask are a pad of 32 bytes that serves one tag: none outlives
its tag, and once pads come from quantum key nothing of the initial secret is left in it. One tag in each direction
covers all that was said about a block, and no key is kept before both are checked. Frames also carry an HMAC under
session keys: it costs no quantum key and keeps strangers' bytes away from the parsers, no claim rests on it.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qepa_qkd.errors import ConfigError
from qepa_qkd.universal_hash import PRIME, PolynomialHash

TAG_BYTES: Final = 16
PAD_BYTES: Final = 32
"""Of one tag: hash key and mask."""
FRAME_MAC_BYTES: Final = 16
_CHANNEL_KEY_BYTES: Final = 32
_PADS_FROM: Final = 64
"""Bytes between the channel key and the pads are reserved."""
SECRET_BYTES: Final = 4096
"""Size of a fresh initial secret: the channel key and pads for 63 tags in each direction."""


@dataclass(frozen=True, slots=True)
class Pad:
    """Key of one tag, hash key and mask; `segment` and `position` name it, and the store gives it out once."""

    segment: int
    position: int
    value: bytes


class PadLedger(Protocol):
    """Where pads come from: a durable store that never gives the same pad twice. Segment 0 is the initial secret."""

    def pads_left(self) -> tuple[int, int]:
        """Tags that can still be made and tags that can still be checked."""
        ...

    def spend_own_pad(self) -> Pad:
        """Durably reserve the next pad for a tag to send. Raises NoKey when none is left."""
        ...

    def spend_peer_pad(self, segment: int, position: int) -> Pad:
        """Durably mark the pad of a received tag as used. Raises SecurityError when it was used or skipped before."""
        ...

    def retire_initial(self) -> None:
        """Durably skip and erase what is left of the initial secret's pads: the peer has gone over to quantum key."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class InitialSecret:
    """What both ends share before the first block, split by purpose."""

    channel_key: bytes
    pads_to_bob: bytes
    pads_to_alice: bytes

    @classmethod
    def parse(cls, data: bytes) -> "InitialSecret":
        """Split the bytes of a secret file. Raises ConfigError when they are too few."""
        half = (len(data) - _PADS_FROM) // 2 // PAD_BYTES * PAD_BYTES
        if half < PAD_BYTES:
            least = _PADS_FROM + 2 * PAD_BYTES
            raise ConfigError(f"the initial secret has {len(data)} bytes; it needs at least {least}")
        pads = data[_PADS_FROM : _PADS_FROM + 2 * half]
        return cls(data[:_CHANNEL_KEY_BYTES], pads[:half], pads[half:])


class Transcript:
    """What one side said about one block; its tag is made or checked once, when it is known which pad serves it."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []

    def absorb(self, message: bytes) -> None:
        """Append one message."""
        self._messages.append(message)

    def tag(self, pad: Pad) -> bytes:
        """The Wegman-Carter tag under `pad`."""
        hashed = PolynomialHash(pad.value[:16])
        for message in self._messages:
            hashed.update(message)
        # 128 uniform bits taken mod p are uniform up to 2^-126, which the epsilon of a tag absorbs.
        value = (hashed.value() + int.from_bytes(pad.value[16:], "little")) % PRIME
        return value.to_bytes(TAG_BYTES, "little")

    def verify(self, tag: bytes, pad: Pad) -> bool:
        """Whether `tag` is the tag of what was absorbed."""
        return hmac.compare_digest(self.tag(pad), tag)


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """HMAC keys of one connection, one per direction."""

    to_bob: bytes
    to_alice: bytes

    @classmethod
    def derive(cls, channel_key: bytes, alice_nonce: bytes, bob_nonce: bytes) -> "SessionKeys":
        """Fresh keys from both nonces, so that nothing of an earlier connection can be replayed."""
        hkdf = HKDF(SHA256(), length=64, salt=alice_nonce + bob_nonce, info=b"qepa-qkd classical channel 1")
        keys = hkdf.derive(channel_key)
        return cls(keys[:32], keys[32:])


def frame_mac(key: bytes, counter: int, payload: bytes) -> bytes:
    """HMAC-SHA256, cut to 16 bytes, of the frame's number and payload."""
    return hmac.digest(key, counter.to_bytes(8, "little") + payload, hashlib.sha256)[:FRAME_MAC_BYTES]
