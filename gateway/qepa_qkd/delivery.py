"""Key delivery of one KME, apart from HTTP: who may have which key, each once, and what a retry gets.

Rules, all kept in the transaction that consumes the key:

- A key goes to its master once, at Alice, and to each slave it was taken for once, at Bob. The identifier carries its
  audience (`key_id`), so neither KME has to ask the other, and a slave outside of the audience is refused.
- A request is repeated safely with the same request identifier: within `replay_window_s` it gets the same answer,
  also when the KME was killed in between. Without an identifier it gets it only when the KME knows that no complete
  answer left (`mark_unsent`), and then that answer is gone. Two requests never get one key.
- Masters of class alert may take all; others leave `alert_reserve_bits` in stock. A quota bounds what a master takes
  in an hour.
- Alice hands nothing out from blocks older than `hand_out_within_s`; Bob keeps key for `fetch_within_s` longer.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from qepa_qkd.config import KmeSection, Role
from qepa_qkd.delivery_ledger import DeliveredKey
from qepa_qkd.errors import KeyNotFound, SecurityError, StockTooLow
from qepa_qkd.key_id import Claim, KeyLocation
from qepa_qkd.vault import Vault

_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Delivery:
    """Keys for one client, and what names the request they answer."""

    client: str
    request_id: str | None
    fingerprint: bytes
    keys: tuple[DeliveredKey, ...]


class KeyDelivery:
    """Hands keys out (Alice) or redeems their identifiers (Bob). `clock` tells Unix time."""

    def __init__(self, config: KmeSection, role: Role, vault: Vault, clock: Callable[[], float] = time.time) -> None:
        self._config, self._role, self._vault, self._clock = config, role, vault, clock

    def authorise(self, *, master: str, slave: str) -> None:
        """Raise SecurityError when `master` and `slave` share no keys here."""
        if slave not in self._config.slaves_of(master):
            raise SecurityError(f"master SAE {master} and slave SAE {slave} share no keys here")

    def hand_out(
        self, master: str, audience: Collection[str], number: int, size_bytes: int, request_id: str | None = None
    ) -> Delivery:
        """Give `master` fresh keys to share with every slave in `audience`.

        Raises SecurityError (no such pair), StockTooLow (stock, reserve or quota), ProtocolError (identifier of
        another request).
        """
        for slave in audience:
            self.authorise(master=master, slave=slave)
        fingerprint = _fingerprint("enc_keys", sorted(set(audience)), number, size_bytes)
        ledger, now_s = self._vault.deliveries, self._clock()
        with self._vault.transaction():
            keys = ledger.take_answer(master, request_id, fingerprint, now_s)
            if keys is None:
                keys = self._take(master, audience, number, size_bytes, now_s)
                self._keep(master, request_id, fingerprint, keys, now_s)
        return Delivery(master, request_id, fingerprint, keys)

    def redeem(self, master: str, slave: str, key_ids: Sequence[UUID], request_id: str | None = None) -> Delivery:
        """Give `slave` the keys that `master` was given under `key_ids`, all or none.

        Raises SecurityError (no such pair, or a key for other slaves), KeyNotFound, ProtocolError.
        """
        self.authorise(master=master, slave=slave)
        fingerprint = _fingerprint("dec_keys", master, [str(key_id) for key_id in key_ids])
        ledger, now_s = self._vault.deliveries, self._clock()
        with self._vault.transaction():
            keys = ledger.take_answer(slave, request_id, fingerprint, now_s)
            if keys is None:
                keys = self._redeem(master, slave, key_ids, now_s)
                self._keep(slave, request_id, fingerprint, keys, now_s)
        return Delivery(slave, request_id, fingerprint, keys)

    def mark_unsent(self, delivery: Delivery) -> None:
        """Note that certainly no complete answer left: the client's next such request is its retry."""
        if delivery.request_id is None and self._config.replay_window_s:
            expires_s = self._clock() + self._config.replay_window_s
            with self._vault.transaction():
                self._vault.deliveries.keep_answer(
                    delivery.client, None, delivery.fingerprint, delivery.keys, expires_s
                )

    def expire(self) -> int:
        """Destroy what is too old to be handed out, fetched or asked for again; returns the bits of blocks."""
        now_s, config, ledger = self._clock(), self._config, self._vault.deliveries
        shares_before_s = now_s - config.fetch_within_s
        if ledger.expired(now_s, shares_before_s):
            with self._vault.transaction():
                ledger.expire(now_s, shares_before_s)
        kept_s = config.hand_out_within_s + (config.fetch_within_s if self._role == "bob" else 0)
        return self._vault.keys.expire(now_s - kept_s)

    def key_count(self, master: str, size_bytes: int) -> int:
        """How many keys of `size_bytes` this KME holds for `master`."""
        newer_than_s = self._clock() - self._config.hand_out_within_s
        keys = self._vault.keys
        available = keys.live_bits(newer_than_s) - self._reserve_bits(master)
        return max(0, min(keys.key_count(size_bytes, newer_than_s), available // (8 * size_bytes)))

    def _reserve_bits(self, master: str) -> int:
        return 0 if self._config.is_alert(master) or self._role == "bob" else self._config.alert_reserve_bits

    def _take(
        self, master: str, audience: Collection[str], number: int, size_bytes: int, now_s: float
    ) -> tuple[DeliveredKey, ...]:
        bits, hour = 8 * number * size_bytes, int(now_s // _HOUR_S)
        quota = self._config.quota_of(master)
        if quota is not None:
            if self._vault.deliveries.used_bits(master, hour) + bits > quota:
                raise StockTooLow(f"SAE {master} has used up its {quota} bits of this hour")
            self._vault.deliveries.add_usage(master, hour, bits)
        stored = self._vault.keys.take(
            number,
            size_bytes,
            keep_bits=self._reserve_bits(master),
            newer_than_s=now_s - self._config.hand_out_within_s,
        )
        slaves = self._config.slaves_of(master)
        issue = self._vault.identifiers.issue
        return tuple(DeliveredKey(issue(key.location, master, slaves, audience), key.value) for key in stored)

    def _redeem(self, master: str, slave: str, key_ids: Sequence[UUID], now_s: float) -> tuple[DeliveredKey, ...]:
        if len(set(key_ids)) != len(key_ids):
            raise KeyNotFound("a key_ID is named twice")
        bit = 1 << self._config.slaves_of(master).index(slave)
        ledger = self._vault.deliveries
        values: dict[UUID, bytes] = {}
        fresh: dict[KeyLocation, tuple[UUID, int]] = {}
        for key_id in key_ids:
            location, audience = self._locate(master, key_id)
            if not audience & bit:
                raise SecurityError(f"key_ID {key_id} was not taken for SAE {slave}")
            share = ledger.share(key_id)
            if share is None:
                fresh[location] = key_id, audience & ~bit
                continue
            waiting, values[key_id] = share
            if not waiting & bit:
                raise KeyNotFound(f"key_ID {key_id} was fetched before")
            ledger.keep_share(key_id, waiting & ~bit, values[key_id], now_s)
        for key in self._vault.keys.redeem(list(fresh)):
            key_id, waiting = fresh[key.location]
            values[key_id] = key.value
            if waiting:
                ledger.keep_share(key_id, waiting, key.value, now_s)
        return tuple(DeliveredKey(key_id, values[key_id]) for key_id in key_ids)

    def _locate(self, master: str, key_id: UUID) -> tuple[KeyLocation, int]:
        claim = Claim.parse(key_id)
        slaves = self._config.slaves_of(master)
        for block_id in self._vault.keys.blocks_named(claim.block_prefix):
            if self._vault.identifiers.confirms(claim, block_id, master, slaves):
                return KeyLocation(block_id, claim.offset, claim.size), claim.audience
        raise KeyNotFound(f"key_ID {key_id} was not issued by this link")

    def _keep(
        self, client: str, request_id: str | None, fingerprint: bytes, keys: Sequence[DeliveredKey], now_s: float
    ) -> None:
        if request_id is not None and self._config.replay_window_s:
            expires_s = now_s + self._config.replay_window_s
            self._vault.deliveries.keep_answer(client, request_id, fingerprint, keys, expires_s)


def _fingerprint(*request: object) -> bytes:
    return hashlib.sha256(json.dumps(request).encode()).digest()
