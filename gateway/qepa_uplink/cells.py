"""Cells: which patients are summed together in a round, drawn from a seed that no single party chooses.

The server commits to a nonce before it sees the gateways' nonces, and the seed hashes them all: the server can only
abort a round, a gateway that speaks last can not know the server's nonce. Every party draws the same cells from
(seed, patients of each gateway); which patients of a gateway are in which of its cells, only that gateway knows.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import UplinkError


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its number in the round and its gateways, in order of name."""

    id: int
    gateways: tuple[str, ...]


def round_seed(round_: int, server_nonce: bytes, nonces: Mapping[str, bytes]) -> bytes:
    """Return the round's seed: SHA-256 over the round, the server's nonce and each gateway's, by name."""
    digest = hashlib.sha256(b"qepa/1/cells" + round_.to_bytes(8, "little") + server_nonce)
    for gateway in sorted(nonces):
        digest.update(gateway.encode() + b"\0" + nonces[gateway])
    return digest.digest()


def _rank(seed: bytes, name: str) -> bytes:
    return hmac.digest(seed, name.encode(), "sha256")


def draw_cells(seed: bytes, patients: Mapping[str, int], *, min_group: int, target: int) -> tuple[Cell, ...]:
    """Return the cells of a round for ``patients`` of each gateway.

    A gateway with at least ``target`` patients fills as many cells of its own as it can; the others are shuffled
    and joined until a cell reaches ``target``. What is left over joins another cell unless it has ``min_group``
    patients. Fewer than ``min_group`` patients in all give no cell. ``target`` above ``min_group`` leaves room for
    boards that drop out.
    """
    if not 5 <= min_group <= target:
        raise UplinkError("cells", f"min_group {min_group} must be at least 5 and at most cell_target {target}")
    groups: list[list[str]] = []
    small: list[str] = []
    for gateway in sorted(patients, key=lambda name: _rank(seed, name)):
        if patients[gateway] >= target:
            groups.extend([gateway] for _ in range(patients[gateway] // target))
        elif patients[gateway] > 0:
            small.append(gateway)
    joined: list[list[str]] = []
    current: list[str] = []
    for gateway in small:
        current.append(gateway)
        if sum(patients[name] for name in current) >= target:
            joined.append(current)
            current = []
    if current:
        if sum(patients[name] for name in current) >= min_group:
            joined.append(current)
        elif joined:
            joined[-1].extend(current)
        elif groups:
            groups[-1] = groups[-1] + current
    return tuple(Cell(i, tuple(sorted(group))) for i, group in enumerate(joined + groups, start=1))


def assign_patients(seed: bytes, gateway: str, patients: Iterable[str], cells: Iterable[Cell]) -> dict[str, int]:
    """Return the cell of each of a gateway's patients: shuffled by the seed, dealt evenly. Empty without cells."""
    own = [cell.id for cell in cells if gateway in cell.gateways]
    if not own:
        return {}
    order = sorted(patients, key=lambda name: _rank(seed, "patient/" + name))
    return {patient: own[i % len(own)] for i, patient in enumerate(order)}


def contributors_digest(contributors: Iterable[int]) -> bytes:
    """Return the digest of a contributor list as Count messages carry it."""
    return hashlib.sha256(b"".join(board.to_bytes(4, "little") for board in sorted(contributors))).digest()
