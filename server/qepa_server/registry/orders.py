"""Orders of the release desk: who gives one, that it is young, and that none is carried out twice.

The signature is verified before a byte of an order is parsed. That an order was carried out is stored with what it did,
in one transaction, and stays for ever: no restart and no clock that was set back gives it a second effect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection, insert, select

from qepa_uplink.releases import ORDER_HOLDS_S, Order, SignedOrder
from qepa_wire.primitives import sha256

from ..errors import RefusedError
from ..parsing import parse
from ..store.database import Store
from ..store.schema import orders as table

O = TypeVar("O", bound=Order, covariant=True)  # noqa: E741, PLC0105


@dataclass(frozen=True, slots=True)
class Given(Generic[O]):
    """An order, the name of who signed it, and the SHA-256 of what was signed."""

    order: O
    by: str
    digest: bytes


class Orders:
    """What was ordered, durably. ``root_key`` is who certifies people."""

    def __init__(self, *, store: Store, root_key: bytes, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._root_key = root_key
        self._clock_ms = clock_ms

    def verify(self, signed: SignedOrder, kind: type[O]) -> Given[O]:
        """Return the order of this kind that a person signed; raises UplinkError (certificate, signature, schema)."""
        person = signed.verify(self._root_key, role="release", context=kind.CONTEXT, now_s=self._clock_ms() / 1000)
        return Given(parse(kind, signed.body), person.name, sha256(signed.body))

    def admit(self, given: Given[Order]) -> None:
        """Raise RefusedError unless the order is new (replay), young (time), and no later one was first (older)."""
        order = given.order
        # Two that are young at one time were signed within twice that time: beyond it, the clock was set back since.
        later = (table.c.signed_s > order.signed_s) & (table.c.signed_s <= order.signed_s + 2 * ORDER_HOLDS_S)
        with self._store.read() as connection:
            known = connection.execute(select(table.c.at_ms).where(table.c.digest == given.digest)).first()
            other = connection.execute(select(table.c.by).where(later, table.c.subject == order.subject)).first()
        if known is not None:
            raise RefusedError("replay", "this order was carried out before: sign a new one")
        if abs(self._clock_ms() / 1000 - order.signed_s) > ORDER_HOLDS_S:
            raise RefusedError("time", f"the order was signed more than {ORDER_HOLDS_S // 60} minutes from now")
        if other is not None:
            raise RefusedError("older", f"{other.by} ordered something about {order.subject} later, and that was done")

    def open(self, signed: SignedOrder, kind: type[O]) -> Given[O]:
        """Return an order that is to be carried out; raises what :meth:`verify` and :meth:`admit` raise."""
        given = self.verify(signed, kind)
        self.admit(given)
        return given

    def spend(self, connection: Connection, given: Given[Order]) -> None:
        """Note in the caller's transaction that an order was carried out; a second time is an IntegrityError."""
        connection.execute(
            insert(table).values(
                digest=given.digest,
                subject=given.order.subject,
                signed_s=given.order.signed_s,
                by=given.by,
                at_ms=self._clock_ms(),
            )
        )
