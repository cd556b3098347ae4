"""What the passes left: which random subsets are odd, and the search in some of them, in several ranges at a time."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from qepa_qkd.cascade_subsets import SUBSETS, RandomSubsets
from qepa_qkd.parity_questions import Bits, Indices, SubsetRanges

_MOST_RANGES: Final = 255
"""In one question."""

_Range = tuple[int, int, int]
"""Subset, start, end."""


class LeftoverSearch:
    """Bob's search for errors by subsets of `bits`, which change beneath it as errors are found."""

    def __init__(self, bits: Bits, key: bytes) -> None:
        self._bit_count = len(bits)
        self._subsets = RandomSubsets(bits, key)
        self._told: Bits | None = None
        """Alice's parity of each subset, over all bits."""
        self._odd: list[_Range] = []
        """Ranges of a subset that hold an error, no two of them alike."""
        self._asked: list[tuple[int, list[int]]] = []
        """Subset, and bounds of the parts, of each range of `_odd` that the last question was about."""
        self._found: list[int] = []
        self.searched = 0
        """Odd subsets so far."""

    @property
    def ranges(self) -> int:
        """Odd ranges under search."""
        return len(self._odd)

    @property
    def searching(self) -> bool:
        """Whether a search has begun and not ended; bits must not change until it has."""
        return bool(self._odd)

    def question(self, levels: int, subsets: int) -> SubsetRanges | None:
        """Return what to ask next, None when no subset is odd; odd ranges are halved `levels` times over.

        A new search goes through so many odd subsets at once. Each finds an error that it holds without its partner,
        half of those that were left in pairs; together they leave few pairs to a search that follows.
        """
        if self._told is None:
            return _whole_subsets(self._bit_count)
        if not self._odd:
            self._subsets.refresh()
            odd = self._told ^ self._subsets.parities(*_columns(_whole_subsets(self._bit_count)))
            if not odd.any():
                return None
            self._odd = [(subset, 0, self._bit_count) for subset in np.flatnonzero(odd)[:subsets].tolist()]
            self.searched += 1
        while levels > 1 and len(self._odd) * ((1 << levels) - 1) > _MOST_RANGES:
            levels -= 1
        parts = 1 << levels
        now = self._odd[: _MOST_RANGES // (parts - 1)]
        self._asked = [(subset, _bounds(start, end, parts)) for subset, start, end in now]
        # An odd range says of its last part what the others leave.
        rows = [(subset, start, end) for subset, bounds in self._asked for start, end in pairwise(bounds[:-1])]
        asked, starts, ends = np.array(rows, np.int64).reshape(-1, 3).T
        return SubsetRanges(asked.astype(np.uint8), starts.copy(), ends.copy())

    def receive(self, question: SubsetRanges, told: Bits) -> list[int]:
        """Take the answers to the last question; when a search ends, return the bits it proved wrong."""
        if self._told is None:
            self._told = told
            return []
        wrong = iter((told ^ self._subsets.parities(*_columns(question))).tolist())
        parts: dict[tuple[int, int], int] = {}
        for subset, bounds in self._asked:
            for part in _odd_parts(bounds, wrong):
                parts.setdefault(part, subset)  # what several subsets show is most likely one error
        # Told when all ranges are done: what follows changes bits, and all parities are of one and the same string.
        self._found += [start for start, end in parts if end - start == 1]
        self._odd[: len(self._asked)] = [(subset, *part) for part, subset in parts.items() if part[1] - part[0] > 1]
        if self._odd:
            return []
        found, self._found = self._found, []
        return found


def _bounds(start: int, end: int, parts: int) -> list[int]:
    """Cut a range into as many parts, or into single bits."""
    parts = min(parts, end - start)
    return [start + (end - start) * part // parts for part in range(parts + 1)]


def _odd_parts(bounds: list[int], wrong: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of an odd range that are odd; `wrong` says it of all but the last."""
    last = 1
    for start, end in pairwise(bounds[:-1]):
        odd = next(wrong)
        last ^= odd
        if odd:
            yield start, end
    if last:
        yield bounds[-2], bounds[-1]


def _whole_subsets(bit_count: int) -> SubsetRanges:
    """Each subset over all bits."""
    rows = np.arange(SUBSETS, dtype=np.uint8)
    return SubsetRanges(rows, np.zeros(SUBSETS, np.int64), np.full(SUBSETS, bit_count, np.int64))


def _columns(question: SubsetRanges) -> tuple[Bits, Indices, Indices]:
    return question.subsets, question.starts, question.ends
