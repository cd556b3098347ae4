"""Heads of the server's audit log: how an entry extends one, how the server signs them and others countersign them.

An entry enters as the SHA-256 of its record, and the record holds a random salt: who follows the log by these digests
sees that it only grows, and learns nothing of what it says.
"""

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from .identity import Certificate, Identity

GENESIS = bytes(32)
SEAL_CONTEXT = b"qepa/1/audit/seal"  # the server's own signature, over head_bytes
ANCHOR_CONTEXT = b"qepa/1/audit/anchor"  # another party's, over the head's text
MOST_LINKS = 1024
_HEAD = struct.Struct("<Q32s")


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: what to keep elsewhere to notice a log that was cut off or rewritten. As text SEQ:HASH."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        """Return SEQ:HASH."""
        return f"{self.seq}:{self.hash.hex()}"


def head_bytes(head: Head) -> bytes:
    """Return what the server signs: seq u64 and the entry's hash."""
    return _HEAD.pack(head.seq, head.hash)


def chained(previous: bytes, link: bytes) -> bytes:
    """Return the hash of an entry after one with hash ``previous``; ``link`` is the SHA-256 of its record."""
    return hashlib.sha256(b"qepa/2/audit" + previous + link).digest()


def extended(head: Head, links: Iterable[bytes]) -> Head:
    """Return the head after entries with these links were added."""
    for link in links:
        head = Head(head.seq + 1, chained(head.hash, link))
    return head


def countersign(head: Head, identity: Identity) -> bytes:
    """Return the signature of a party that keeps ``head``."""
    return identity.sign(str(head).encode(), ANCHOR_CONTEXT)


def anchor_text(head: Head, certificate: Certificate, signature: bytes) -> str:
    """Return a countersigned head as JSON, as `qepa audit verify --anchor` reads it."""
    record = {"head": str(head), "certificate": certificate.model_dump(mode="json")}
    return json.dumps({**record, "signature": signature.hex()})
