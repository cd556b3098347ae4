"""The register of boards: patient, gateway and end key of each; end keys are sealed at rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from qepa_wire.keys import END_MASK, derive

from ..store.database import Store
from ..store.schema import boards
from ..store.vault import Vault
from ..unmask.opening import Contributor


def end_key_purpose(board: int) -> str:
    """What an end key is sealed for."""
    return f"end key {board:08x}"


@dataclass(frozen=True, slots=True)
class Board:
    """An enrolled board. ``repr`` shows no key."""

    board: int
    patient: str
    gateway: str
    end_key: bytes
    request_digest: bytes
    patient_boards: int = 1  # how many boards the dock told it that its patient wears

    def __repr__(self) -> str:
        return f"Board({self.board:08x} of {self.patient} at {self.gateway})"


class BoardRegister(Mapping[int, Board]):
    """All enrolled boards, in memory and in the database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._boards: dict[int, Board] = {}
        with store.read() as connection:
            for row in connection.execute(select(boards).order_by(boards.c.board)):
                key = vault.open_sealed(row.end_key, end_key_purpose(row.board))
                self._boards[row.board] = Board(
                    row.board, row.patient, row.gateway, key, row.request_digest, row.patient_boards
                )

    def __getitem__(self, board: int) -> Board:
        return self._boards[board]

    def __iter__(self) -> Iterator[int]:
        return iter(self._boards)

    def __len__(self) -> int:
        return len(self._boards)

    def adopt(self, board: Board) -> None:
        """Take in what the database now holds."""
        self._boards[board.board] = board

    def drop(self, board: int) -> None:
        """Forget a board that the database no longer holds."""
        self._boards.pop(board, None)

    def of_gateway(self, gateway: str) -> list[Board]:
        """Boards of one gateway, by number."""
        return sorted((b for b in self._boards.values() if b.gateway == gateway), key=lambda b: b.board)

    def patients_of(self, gateway: str) -> int:
        """Number of patients with a board at ``gateway``."""
        return len({b.patient for b in self._boards.values() if b.gateway == gateway})

    def contributors(self, numbers: set[int]) -> dict[int, Contributor]:
        """Records for opening a sum, of those of ``numbers`` that are enrolled."""
        return {
            number: Contributor(b.patient, b.gateway, derive(b.end_key, END_MASK))
            for number in numbers
            if (b := self._boards.get(number)) is not None
        }
