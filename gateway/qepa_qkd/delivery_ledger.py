"""What key delivery has to remember: answers a client may ask for again, keys that more slaves wait for, usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from qepa_qkd.errors import ProtocolError
from qepa_qkd.store_database import StoreDatabase

_UUID_BYTES = 16
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class DeliveredKey:
    """A key as an application gets it; the key stays out of `repr` and logs."""

    key_id: UUID
    value: bytes

    def __repr__(self) -> str:
        """Say which key, not what it is."""
        return f"DeliveredKey({self.key_id}, {8 * len(self.value)} bits)"


class DeliveryLedger:
    """Tables `answers`, `shares` and `usage`. Changes belong inside a transaction of the vault."""

    def __init__(self, database: StoreDatabase) -> None:
        self._database = database

    def take_answer(
        self, client: str, request_id: str | None, fingerprint: bytes, now_s: float
    ) -> tuple[DeliveredKey, ...] | None:
        """Return the answer kept for this request, None if it is a new one.

        One kept without identifier is removed: it was never sent, and the answer that is sent now is its last.
        Raises ProtocolError when the identifier belongs to another request.
        """
        where, named = (
            ("request_id IS NULL AND fingerprint = ?", fingerprint)
            if request_id is None
            else ("request_id = ?", request_id)
        )
        query = f"SELECT rowid, fingerprint, sealed FROM answers WHERE client = ? AND {where} AND expires_s > ? LIMIT 1"  # noqa: S608 (`where` is one of two constants)
        rows = self._database.read(query, client, named, now_s)
        if not rows:
            return None
        row, known, sealed = rows[0]
        if known != fingerprint:
            raise ProtocolError("this request identifier was used for another request")
        if request_id is None:
            self._database.write("DELETE FROM answers WHERE rowid = ?", row)
        return _unpack(self._database.unseal(cast(bytes, sealed), _answer_label(client, request_id, fingerprint)))

    def keep_answer(
        self,
        client: str,
        request_id: str | None,
        fingerprint: bytes,
        keys: Sequence[DeliveredKey],
        expires_s: float,
    ) -> None:
        """Keep an answer until `expires_s`; without identifier only one of which it is certain that it was not sent."""
        sealed = self._database.seal(_pack(keys), _answer_label(client, request_id, fingerprint))
        self._database.write(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", client, request_id, fingerprint, sealed, expires_s
        )

    def share(self, key_id: UUID) -> tuple[int, bytes] | None:
        """Return (slaves that still wait, key) of a key that one of its slaves has fetched; None: no such key."""
        rows = self._database.read("SELECT waiting, sealed FROM shares WHERE key_id = ?", str(key_id))
        if not rows:
            return None
        waiting, sealed = rows[0]
        return cast(int, waiting), self._database.unseal(cast(bytes, sealed), f"share {key_id}")

    def keep_share(self, key_id: UUID, waiting: int, value: bytes, now_s: float) -> None:
        """Note which slaves still wait for a key; 0 destroys it. `now_s` counts from the first fetch."""
        if not waiting:
            self._database.write("DELETE FROM shares WHERE key_id = ?", str(key_id))
            return
        self._database.write(
            "INSERT INTO shares VALUES (?, ?, ?, ?) ON CONFLICT (key_id) DO UPDATE SET waiting = excluded.waiting",
            str(key_id),
            waiting,
            self._database.seal(value, f"share {key_id}"),
            now_s,
        )

    def used_bits(self, sae: str, hour: int) -> int:
        """Bits that `sae` was given in this hour since 1970."""
        rows = self._database.read("SELECT bits FROM usage WHERE sae = ? AND hour = ?", sae, hour)
        return cast(int, rows[0][0]) if rows else 0

    def add_usage(self, sae: str, hour: int, bits: int) -> None:
        """Count bits given to `sae`; a new hour begins at zero."""
        self._database.write(
            "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (sae) DO UPDATE SET hour = excluded.hour, "
            "bits = excluded.bits + CASE WHEN hour = excluded.hour THEN bits ELSE 0 END",
            sae,
            hour,
            bits,
        )

    def expired(self, now_s: float, shares_before_s: float) -> bool:
        """Whether `expire` would destroy anything."""
        answers = self._database.read("SELECT 1 FROM answers WHERE expires_s <= ? LIMIT 1", now_s)
        return bool(answers or self._database.read("SELECT 1 FROM shares WHERE created_s < ? LIMIT 1", shares_before_s))

    def expire(self, now_s: float, shares_before_s: float) -> None:
        """Destroy answers whose time is over and shared keys first fetched before `shares_before_s`."""
        self._database.write("DELETE FROM answers WHERE expires_s <= ?", now_s)
        self._database.write("DELETE FROM shares WHERE created_s < ?", shares_before_s)


def _pack(keys: Sequence[DeliveredKey]) -> bytes:
    return b"".join(k.key_id.bytes + len(k.value).to_bytes(_LENGTH_BYTES, "big") + k.value for k in keys)


def _unpack(data: bytes) -> tuple[DeliveredKey, ...]:
    keys, at = [], 0
    while at < len(data):
        start = at + _UUID_BYTES + _LENGTH_BYTES
        size = int.from_bytes(data[at + _UUID_BYTES : start], "big")
        keys.append(DeliveredKey(UUID(bytes=data[at : at + _UUID_BYTES]), data[start : start + size]))
        at = start + size
    return tuple(keys)


def _answer_label(client: str, request_id: str | None, fingerprint: bytes) -> str:
    return f"answer {client} {request_id} {fingerprint.hex()}"
