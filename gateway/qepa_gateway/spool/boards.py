"""Boards, their epochs and replay windows, in the spool."""

from dataclasses import dataclass

from ..domain.keyring import EpochKeys, KeyReference, Keyring
from ..domain.replay import Window
from ..errors import CorruptError
from .database import Spool

_KEYS = 32


@dataclass(slots=True)
class BoardRow:
    """What is stored of a board; ``epoch`` is the highest ever, ``seq_down`` the highest reserved."""

    board: int
    patient: str
    adopted: bool
    epoch: int = 0
    seq_down: int = 0
    last_seen_ms: int = 0
    boots: int = 0
    model: int = 0
    pads: int = 0
    battery_permille: int = 65535
    reset_cause: int = 0
    mode: int = 0
    barred: int = 0  # bit n: not to be asked for stream n
    firmware: int = 0  # version mod 2^16 that it runs, on trial or for good


class BoardStore:
    """Reads everything at start; writes inside the caller's transaction."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def load(self) -> list[BoardRow]:
        """All boards ever adopted."""
        columns = (
            "board, patient, adopted, epoch, seq_down, last_seen_ms, boots, model, pads, battery_permille, "
            "reset_cause, mode, barred, firmware"
        )
        return [
            BoardRow(row[0], row[1], bool(row[2]), *row[3:])
            for row in self._spool.rows(f"SELECT {columns} FROM boards")  # noqa: S608 (names of columns)
        ]

    def save(self, row: BoardRow) -> None:
        """Write all of ``row``."""
        self._spool.execute(
            "INSERT OR REPLACE INTO boards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.board,
                row.patient,
                int(row.adopted),
                row.epoch,
                row.seq_down,
                row.last_seen_ms,
                row.boots,
                row.model,
                row.pads,
                row.battery_permille,
                row.reset_cause,
                row.mode,
                row.barred,
                row.firmware,
            ),
        )

    def load_keyring(self, board: int, highest: int) -> Keyring:
        """The epochs whose keys are held."""
        epochs = []
        for epoch, key_id, steps, sealed in self._spool.rows(
            "SELECT epoch, key_id, steps, keys FROM epochs WHERE board=?", (board,)
        ):
            secret = self._spool.vault.open(sealed, _place(board, epoch))
            if len(secret) not in (3 * _KEYS, 5 * _KEYS):
                raise CorruptError(f"epoch {epoch} of board {board:08x} has {len(secret)} bytes of keys")
            parts = [secret[i : i + _KEYS] for i in range(0, len(secret), _KEYS)]
            epochs.append(EpochKeys(epoch, KeyReference(key_id, steps), *parts))
        return Keyring(epochs, highest)

    def save_epoch(self, board: int, keys: EpochKeys) -> None:
        """Store an epoch's keys, or what is left of them once it is retired."""
        secret = keys.mac_up + keys.mask + keys.alert + keys.link + keys.mac_down
        self._spool.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?)",
            (
                board,
                keys.epoch,
                keys.reference.key_id,
                keys.reference.steps,
                self._spool.vault.seal(secret, _place(board, keys.epoch)),
            ),
        )

    def drop_epoch(self, board: int, epoch: int) -> None:
        """Delete an epoch's keys and window: its frames can't be authenticated any more."""
        self._spool.execute("DELETE FROM epochs WHERE board=? AND epoch=?", (board, epoch))
        self._spool.execute("DELETE FROM seen WHERE board=? AND epoch=?", (board, epoch))

    def load_window(self, board: int, epoch: int) -> Window:
        """The replay window of an epoch."""
        rows = self._spool.rows("SELECT seq, mark FROM seen WHERE board=? AND epoch=?", (board, epoch))
        return Window(dict(rows))

    def note_seen(self, board: int, epoch: int, seq: int, mark: bytes) -> None:
        """Make a number durable together with what its frame brought."""
        self._spool.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", (board, epoch, seq, mark))

    def prune_seen(self, board: int, epoch: int, floor: int) -> None:
        """Forget numbers that the window refuses anyway."""
        self._spool.execute("DELETE FROM seen WHERE board=? AND epoch=? AND seq<=?", (board, epoch, floor))

    def fetched(self, key_id: bytes) -> bytes | None:
        """A pad that the KME delivered and no epoch has used yet."""
        row = self._spool.row("SELECT key FROM fetched WHERE key_id=?", (key_id,))
        return None if row is None else self._spool.vault.open(row[0], f"fetched/{key_id.hex()}")

    def save_fetched(self, key_id: bytes, key: bytes) -> None:
        """Keep a pad: the KME will not deliver it again."""
        sealed = self._spool.vault.seal(key, f"fetched/{key_id.hex()}")
        self._spool.execute("INSERT OR REPLACE INTO fetched VALUES (?, ?)", (key_id, sealed))

    def drop_fetched(self, key_id: bytes) -> None:
        """The pad has become an epoch's key."""
        self._spool.execute("DELETE FROM fetched WHERE key_id=?", (key_id,))


def _place(board: int, epoch: int) -> str:
    return f"epochs/{board:08x}/{epoch}"
