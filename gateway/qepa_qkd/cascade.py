"""Cascade error correction: interactive, parities batched, every leaked bit counted.

G. Brassard, L. Salvail, "Secret-key reconciliation by public discussion" (EUROCRYPT 1993), with block sizes and reuse
of known sub-block parities after J. Martinez-Mateo et al., "Demystifying the information reconciliation protocol
Cascade", Quantum Inf. Comput. 15 (2015). Sans-IO: the corrector (Bob) yields parity requests, the reference (Alice)
answers them.

Leak: each answered parity is one bit about Alice's string. Bob's requests show where the errors are; that too is
given to an eavesdropper, following D. Tupkary and N. Lutkenhaus, "Using Cascade in quantum key distribution", Phys.
Rev. Applied 20 (2023): the error pattern is treated as announced, after which only Alice's parities are charged. That
the bound of `decoy` holds unchanged under this announcement is assumed, not proved here.
"""

import hashlib
from dataclasses import dataclass
from math import ceil, log2
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import ProtocolError

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Order = npt.NDArray[np.int32]

PASSES: Final = 12
_LARGEST_MIDDLE_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Ranges:
    """A batch of questions: the parity of positions [starts, ends) in the order of pass `pass_index`."""

    pass_index: int
    starts: Indices
    ends: Indices


def block_sizes(bit_count: int, error_rate: float) -> tuple[int, ...]:
    """Block size of each pass: about one error per block first, then larger, then halves that catch leftovers."""
    alpha = log2(1 / min(0.25, max(error_rate, 1 / bit_count))) - 0.5
    first, second = 2 ** ceil(alpha), 2 ** ceil((alpha + 12) / 2)
    half = max(1, ceil(bit_count / 2))
    wanted = [first, max(2 * first, second), max(4 * first, _LARGEST_MIDDLE_BLOCK)] + [half] * (PASSES - 3)
    return tuple(min(size, half) for size in wanted)


def pass_order(seed: bytes, pass_index: int, bit_count: int) -> Order:
    """Pseudo-random order of the bits in one pass, the same on every machine: argsort of a SHAKE-256 stream."""
    stream = hashlib.shake_256(b"cascade" + bytes([pass_index]) + seed).digest(8 * bit_count)
    return np.argsort(np.frombuffer(stream, "<u8"), kind="stable").astype(np.int32)


class CascadeReference:
    """Alice's side: answers parity requests about `bits` and counts what that gives away."""

    def __init__(self, bits: Bits, seed: bytes) -> None:
        self._bits = bits
        self._seed = seed
        self._prefix: dict[int, Bits] = {}
        self.leak_bits = 0

    def answer(self, ranges: Ranges) -> Bits:
        """Return one parity per range. Raises ProtocolError on ranges that no corrector would ask for."""
        n = len(self._bits)
        if not 0 <= ranges.pass_index < PASSES or len(ranges.starts) != len(ranges.ends):
            raise ProtocolError("a parity request for a pass that does not exist")
        if not len(ranges.starts) or ranges.starts.min() < 0 or ranges.ends.max() > n:
            raise ProtocolError("a parity request outside the block")
        if np.any(ranges.starts >= ranges.ends):
            raise ProtocolError("a parity request for an empty range")
        self.leak_bits += len(ranges.starts)
        if self.leak_bits > n // 2 + 1024:
            raise ProtocolError("far more parities asked for than correcting the block takes")
        prefix = self._prefix.get(ranges.pass_index)
        if prefix is None:
            prefix = _prefix_parity(self._bits[pass_order(self._seed, ranges.pass_index, n)])
            self._prefix[ranges.pass_index] = prefix
        return prefix[ranges.starts] ^ prefix[ranges.ends]


class _Pass:
    """What is known in one pass: a partition of the positions into segments whose parity Alice has told."""

    def __init__(self, order: Order, size: int) -> None:
        self.order = order
        self.position = np.empty_like(order)
        self.position[order] = np.arange(len(order), dtype=np.int32)
        self.starts: Indices = np.arange(0, len(order), size, dtype=np.int64)
        self.parity: Bits = np.zeros(0, np.uint8)
        self.odd: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def ends(self) -> Indices:
        return np.append(self.starts[1:], len(self.order))

    def open(self, parity: Bits, prefix: Bits) -> None:
        self.parity = parity
        self.odd = (parity ^ prefix[self.starts] ^ prefix[self.ends()]).astype(np.bool_)

    def flip(self, bits: Indices) -> None:
        """Bits changed: the segments they lie in change their parity at Bob's end."""
        segments = np.searchsorted(self.starts, self.position[bits], side="right") - 1
        np.logical_xor.at(self.odd, segments, True)

    def replace(self, old: Indices, starts: Indices, parity: Bits, odd: npt.NDArray[np.bool_]) -> None:
        """Put finer segments in the place of segments `old`."""
        keep = np.ones(len(self.starts), np.bool_)
        keep[old] = False
        all_starts = np.concatenate([self.starts[keep], starts])
        order = np.argsort(all_starts)
        self.starts = all_starts[order]
        self.parity = np.concatenate([self.parity[keep], parity])[order]
        self.odd = np.concatenate([self.odd[keep], odd])[order]


class CascadeCorrector:
    """Bob's side. Alternate `request()` and `receive()` until `request()` returns None; then `bits` is corrected.

    Raises ProtocolError when the answers contradict each other.

    All odd segments of one pass are halved together, so a batch of n segments takes log2(size) exchanges, and two
    searches never chase the same error.
    """

    def __init__(self, bits: Bits, seed: bytes, error_rate: float) -> None:
        self.bits = bits.copy()
        self.corrected = 0
        self.leak_bits = 0
        self._changed = np.zeros(len(bits), np.bool_)
        self._seed = seed
        self._sizes = block_sizes(len(bits), error_rate)
        self._passes: list[_Pass] = []
        self._prefix: Bits = np.zeros(0, np.uint8)
        self._active: _Search | None = None
        self._opening: _Pass | None = None

    def request(self) -> Ranges | None:
        """Return the next batch of questions, or None when all passes are done."""
        while True:
            if self._active is not None:
                if (ranges := self._active.request()) is not None:
                    return ranges
                self._finish_search()
            searched = self._next_search()
            if searched:
                continue
            if len(self._passes) == PASSES:
                return None
            index = len(self._passes)
            order = pass_order(self._seed, index, len(self.bits))
            self._opening = _Pass(order, self._sizes[index])
            self._prefix = _prefix_parity(self.bits[order])
            return Ranges(index, self._opening.starts, self._opening.ends())

    def receive(self, ranges: Ranges, parities: Bits) -> None:
        """Take the answers to `ranges`, the last request."""
        if len(parities) != len(ranges.starts):
            raise ProtocolError("a parity answer of the wrong length")
        self.leak_bits += len(parities)
        if self._opening is not None:
            self._opening.open(parities, self._prefix)
            self._passes.append(self._opening)
            self._opening = None
        elif self._active is not None:
            self._active.receive(parities)

    def _next_search(self) -> bool:
        for index, one in sorted(enumerate(self._passes), key=lambda entry: self._sizes[entry[0]]):
            if one.odd.any():
                self._active = _Search(index, one, _prefix_parity(self.bits[one.order]))
                return True
        return False

    def _finish_search(self) -> None:
        if self._active is None:
            return
        found = self._active.finish()
        # With true parities every search ends at a true error, so no bit is ever changed twice.
        if self._changed[found].any():
            raise ProtocolError("the parities Alice tells contradict each other")
        self._changed[found] = True
        self.bits[found] ^= 1
        self.corrected += len(found)
        for one in self._passes:
            one.flip(found)
        self._active = None


class _Search:
    """Binary search in all odd segments of one pass at once; the bits do not change while it runs."""

    def __init__(self, index: int, one: _Pass, prefix: Bits) -> None:
        self._index, self._pass, self._prefix = index, one, prefix
        self._segments = np.flatnonzero(one.odd)
        self._starts = one.starts[self._segments]
        self._ends = one.ends()[self._segments]
        self._parity = one.parity[self._segments]
        self._even_starts: list[Indices] = []
        self._even_parity: list[Bits] = []

    def request(self) -> Ranges | None:
        wide = self._ends - self._starts > 1
        if not wide.any():
            return None
        starts = self._starts[wide]
        return Ranges(self._index, starts, (starts + self._ends[wide]) // 2)

    def receive(self, parities: Bits) -> None:
        wide = np.flatnonzero(self._ends - self._starts > 1)
        starts, ends = self._starts[wide], self._ends[wide]
        middles = (starts + ends) // 2
        right = self._parity[wide] ^ parities
        left_odd = (parities ^ self._prefix[starts] ^ self._prefix[middles]).astype(np.bool_)
        self._even_starts.append(np.where(left_odd, middles, starts))
        self._even_parity.append(np.where(left_odd, right, parities))
        self._starts[wide] = np.where(left_odd, starts, middles)
        self._ends[wide] = np.where(left_odd, middles, ends)
        self._parity[wide] = np.where(left_odd, parities, right)

    def finish(self) -> Indices:
        """Store the finer segments and return the bits that are wrong."""
        starts = np.concatenate([self._starts, *self._even_starts])
        parity = np.concatenate([self._parity, *self._even_parity])
        odd = np.zeros(len(starts), np.bool_)
        odd[: len(self._starts)] = True
        self._pass.replace(self._segments, starts, parity, odd)
        return self._pass.order[self._starts].astype(np.int64)


def _prefix_parity(bits: Bits) -> Bits:
    """Parity of the first i bits, i from 0 to n."""
    return np.concatenate([np.zeros(1, np.uint8), np.bitwise_xor.accumulate(bits)])
