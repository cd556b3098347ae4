"""Durable messages to the server: kept until a sealed Ack names them, alerts first."""

from ..errors import CorruptError
from .database import Spool


class Outbox:
    """Bodies are encrypted at rest: an alert says how a patient is.

    Of what is no alert, ``most_results`` wait at most: the oldest go, counted in ``dropped``, for the server gives a
    round up long before. Alerts are never dropped; whoever takes them asks :meth:`alerts` first.
    """

    def __init__(self, spool: Spool, most_results: int) -> None:
        self._spool = spool
        self._most_results = most_results
        self.dropped = 0

    def put(self, id_: str, body: bytes, *, alert: bool, now_ms: int) -> None:
        """Store a message; one with the same id that is there already stays as it is."""
        sealed = self._spool.vault.seal(body, f"outbox/{id_}")
        self._spool.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?)", (id_, int(alert), sealed, now_ms))
        if not alert:
            self.dropped += self._spool.execute(
                "DELETE FROM outbox WHERE alert=0 AND rowid <= "
                "(SELECT rowid FROM outbox WHERE alert=0 ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                (self._most_results,),
            )

    def alerts(self) -> int:
        """How many alerts wait."""
        row = self._spool.row("SELECT count(*) FROM outbox WHERE alert=1")
        return int(row[0]) if row else 0

    def waiting(self, limit: int) -> list[tuple[str, bool]]:
        """(id, is an alert) of up to ``limit`` messages, alerts first, then by age."""
        rows = self._spool.rows("SELECT id, alert FROM outbox ORDER BY alert DESC, rowid LIMIT ?", (limit,))
        return [(id_, bool(alert)) for id_, alert in rows]

    def body(self, id_: str) -> bytes:
        """What was put under ``id_``: signed bytes, or an alert's JSON, to be sealed when it is sent."""
        row = self._spool.row("SELECT body FROM outbox WHERE id=?", (id_,))
        if row is None:
            raise CorruptError(f"outbox/{id_} has gone")
        return self._spool.vault.open(row[0], f"outbox/{id_}")

    def drop(self, ids: tuple[str, ...]) -> None:
        """The server holds these."""
        for id_ in ids:
            self._spool.execute("DELETE FROM outbox WHERE id=?", (id_,))

    def __len__(self) -> int:
        row = self._spool.row("SELECT count(*) FROM outbox")
        return int(row[0]) if row else 0
