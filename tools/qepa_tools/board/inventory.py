"""The boards this machine has flashed or provisioned, in one JSON file: who they are, never a key."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import typer

from qepa_uplink.identity import write_private

from ..errors import ToolError

DIRECTORY_VARIABLE = "QEPA_BOARDS"


@dataclass(frozen=True, slots=True)
class KnownBoard:
    """One board. ``id`` is its chip's own (hexadecimal); ``board`` its number once it is provisioned.

    ``patient`` is the pseudonym it was enrolled for; ``replaced_by`` the number of the board that took its place;
    ``suite`` and ``patient_boards`` as it was provisioned with.
    """

    id: str
    board: int | None = None
    target: str = ""
    profile: str = ""
    version: int = 0
    gateway: str = ""
    patient: str = ""
    suite: str = "aes256"
    patient_boards: int = 1
    image_sha256: str = ""
    replaced_by: int | None = None
    seen_s: int = 0


class Inventory:
    """The file ``boards.json`` in ``directory``; read at each call, changed under a lock."""

    def __init__(self, directory: Path | None = None) -> None:
        named = os.environ.get(DIRECTORY_VARIABLE)
        self.directory = directory or Path(named or typer.get_app_dir("qepa"))
        self._path = self.directory / "boards.json"

    def boards(self) -> list[KnownBoard]:
        """All, by number and then by id. Raises ToolError for a file that is none of ours."""
        return sorted(self._read().values(), key=lambda each: (each.board is None, each.board or 0, each.id))

    def by_number(self, board: int) -> KnownBoard | None:
        """The board with that number that is still in use, if it is known."""
        return next((each for each in self.boards() if each.board == board and each.replaced_by is None), None)

    def note(self, board_id: str, **changes: Any) -> KnownBoard:
        """Record what is now known of a board."""
        with self._locked():
            boards = self._read()
            board = replace(boards.get(board_id, KnownBoard(board_id)), **changes)
            boards[board_id] = board
            content = json.dumps([asdict(each) for each in boards.values()], indent=1)
            write_private(self._path, content.encode())
            return board

    def _read(self) -> dict[str, KnownBoard]:
        names = {field.name for field in fields(KnownBoard)}
        try:
            records = json.loads(self._path.read_bytes())
            return {each["id"]: KnownBoard(**{k: v for k, v in each.items() if k in names}) for each in records}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ToolError(f"{self._path} is not an inventory of boards: move it away.") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
