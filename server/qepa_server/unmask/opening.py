"""Take the end masks off a cell's sum, or say why not. Pure: what it needs is passed in.

Everything a gateway claims is held against the server's own records: which boards are enrolled where, and to which
patients they belong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qepa_uplink.errors import UplinkError
from qepa_uplink.lighthe import add_sealed, open_sum, sum_masks
from qepa_uplink.messages import Partial

from ..errors import UnmaskError

_WARM_KEYS = 64  # enough for compiled loops to be worth their loading


@dataclass(frozen=True, slots=True)
class Contributor:
    """What the server knows of a board: whose, where, and the key of its end masks (derived, 32 bytes)."""

    patient: str
    gateway: str
    end_mask_key: bytes

    def __repr__(self) -> str:
        return f"Contributor({self.patient} at {self.gateway})"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sum must keep to: words, what one board's word can be (noise included), boards, patients at least."""

    n_words: int
    word_max: int
    n_max: int
    min_group: int


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """A cell's sum in quantizer steps, exact, with who is in it."""

    total: tuple[int, ...]
    boards: tuple[int, ...]
    patients: tuple[str, ...]


def warm_up() -> None:
    """Load what opening compiles, so that the first sum of a process does not wait for it."""
    sum_masks([bytes(32)] * _WARM_KEYS, stream=0, round_=0, n_words=1)
    total = add_sealed([bytes(20)], 1)
    open_sum(total, bytes(32), stream=0, round_=0)


def check_contributors(
    partials: Sequence[Partial], gateways: Sequence[str], records: Mapping[int, Contributor], limits: Limits
) -> tuple[list[int], set[str]]:
    """Return (boards, patients) of a complete cell; raises UnmaskError for any claim that does not hold."""
    if sorted(partial.gateway for partial in partials) != sorted(gateways):
        missing = sorted(set(gateways) - {partial.gateway for partial in partials})
        raise UnmaskError("incomplete", f"no partial sum of {', '.join(missing) or 'the cell alone'}")
    boards: list[int] = []
    patients: set[str] = set()
    for partial in partials:
        if partial.n_words != limits.n_words:
            raise UnmaskError("length", f"{partial.gateway} sent {partial.n_words} words, not {limits.n_words}")
        for board in partial.contributors:
            record = records.get(board)
            if record is None or record.gateway != partial.gateway:
                raise UnmaskError("board", f"{board:08x} is not enrolled at {partial.gateway}")
            boards.append(board)
            patients.add(record.patient)
    if len(set(boards)) != len(boards):
        raise UnmaskError("repeated", "a board stands twice in the contributor lists")
    if len(boards) > limits.n_max:
        raise UnmaskError("overflow", f"{len(boards)} boards, n_max is {limits.n_max}")
    if len(patients) < limits.min_group:
        raise UnmaskError("small", f"{len(patients)} patients, min_group is {limits.min_group}")
    return boards, patients


def open_cell(
    partials: Sequence[Partial],
    gateways: Sequence[str],
    records: Mapping[int, Contributor],
    check_key: bytes,
    limits: Limits,
    *,
    round_: int,
    stream: int,
) -> OpenedSum:
    """Return the opened sum of a cell; raises UnmaskError when any check fails, and then nothing was opened."""
    boards, patients = check_contributors(partials, gateways, records, limits)
    try:
        sealed = add_sealed([partial.sealed for partial in partials], limits.n_words)
        keys = [records[board].end_mask_key for board in boards]
        masks = sum_masks(keys, stream=stream, round_=round_, n_words=limits.n_words)
        total = open_sum(sealed - masks, check_key, stream=stream, round_=round_)
    except UplinkError as error:
        raise UnmaskError(error.reason, str(error)) from error
    limit = len(boards) * limits.word_max
    if int(np.abs(total).max()) > limit:
        raise UnmaskError("range", f"a word of the sum is beyond {len(boards)} * {limits.word_max}")
    return OpenedSum(tuple(total.tolist()), tuple(sorted(boards)), tuple(sorted(patients)))
