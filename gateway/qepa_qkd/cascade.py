"""Cascade error correction: interactive, parities batched, every leaked bit counted.

G. Brassard, L. Salvail, "Secret-key reconciliation by public discussion" (EUROCRYPT 1993); reuse of known sub-block
parities after J. Martinez-Mateo et al., "Demystifying the information reconciliation protocol Cascade", Quantum Inf.
Comput. 15 (2015). Sans-IO: the corrector (Bob) yields questions, the reference (Alice) answers them.

Two passes find nearly all errors: the first in blocks of about 1.3 expected errors, the second in blocks cut by what
the first one taught both ends (`cascade_partition`). Parities of random subsets then show what is left; more passes
follow when that is much, as after a misjudged error rate.

Leak: each answered parity is one bit about Alice's string. Bob's questions show where the errors are; that too is
given to an eavesdropper, following D. Tupkary and N. Lutkenhaus, "Using Cascade in quantum key distribution", Phys.
Rev. Applied 20 (2023): the error pattern is treated as announced, after which only Alice's parities are charged.

Exchanges against leak: a search that halves needs one exchange a level; one that divides twice between two exchanges
is told three parities where it needs two. `exchange_cost_bits` says how many leaked bits one exchange saved is worth:
few on a fast channel, many where a round trip takes longer than the key it costs.
"""

import hashlib
from typing import Final

import numpy as np

from qepa_qkd.cascade_leftovers import LeftoverSearch
from qepa_qkd.cascade_partition import (
    COUNT,
    MOST_ERRORS,
    UNIT,
    Array,
    Partition,
    divide,
    open_first,
    open_later,
    total_weight,
)
from qepa_qkd.cascade_search import Doubt, compare, note_blocks, settle, take_queue
from qepa_qkd.cascade_subsets import SUBSETS, RandomSubsets
from qepa_qkd.errors import NoKey, ProtocolError
from qepa_qkd.parity_questions import Bits, Divisions, Opening, Question, SubsetRanges
from qepa_qkd.shuffling import shuffle
from qepa_qkd.workspace import borrow

PASSES: Final = 6
MOST_LEVELS: Final = 5
LARGEST_BLOCK_BITS: Final = 1 << 28
_ERRORS_PER_BLOCK: Final = (1.28, 1.15)
"""Of the first and the second pass: larger blocks leak less and take more exchanges."""
_SMALLEST_RATE: Final = 1e-4
_DEEPER: Final = (1, 5, 17, 49)
"""Leaked bits for each exchange that a search saves by dividing twice instead of once, thrice instead of twice, ...

With k divisions between two exchanges (2^k - 1) / k bits are told for each of them, and 1 / k exchanges needed.
"""
_PATIENCE: Final = 152
_DOUBLING: Final = 4
"""After so many exchanges one more is worth twice as much every so many: a block that began badly ends soon too."""
_LATE_COST: Final = 12
"""Bits that one exchange is worth at least from then on."""
_MOST_COST: Final = (100, 2e-3)
"""For one exchange: bits, or of the block."""
_ALL: Final = 1 << 62
_SEVERAL: Final = (20, 40, 80, 160)
"""Worth of an exchange in bits from which on two, three and more odd subsets are searched at once."""
_LATE_BLOCKS: Final = 64
_LATE_SEARCHES: Final = (12, 3)
"""Subsets to search before another pass: it finds many errors at once and costs more than a few searches. The second
number is for more errors than the error rate said, when many are left."""


def first_block_size(bit_count: int, error_rate: float) -> int:
    """Bits in a block of the first pass."""
    return max(1, min(round(_ERRORS_PER_BLOCK[0] / _clip(error_rate)), bit_count // 2))


def exchange_cost(bit_count: int) -> float:
    """Leaked bits worth one exchange where exchanges are fast: with it, blocks end within 200 exchanges."""
    return max(2e-5 * bit_count, min(3e-5 * bit_count, 3))


def _clip(error_rate: float) -> float:
    return min(0.25, max(error_rate, _SMALLEST_RATE))


class _End:
    """What both ends do alike: shuffle the bits, open passes."""

    def __init__(self, bits: Bits, seed: bytes, error_rate: float, *, traces: bool) -> None:
        n = len(bits)
        if not 2 <= n <= LARGEST_BLOCK_BITS:
            raise ValueError("a block for Cascade has at least 2 bits and at most 2^28")
        stream = hashlib.shake_256(b"cascade" + seed).digest(20 * (PASSES + 1) + 8)
        self._keys = np.frombuffer(stream[:-8], "<u4").reshape(PASSES + 1, 5).astype(np.uint32)
        self._subset_key = stream[-8:]
        self._capacity = _most_parities(n) + PASSES
        self._memory = borrow(self)
        self._partition = Partition.of(n, PASSES, _clip(error_rate), self._capacity, self._memory, traces=traces)
        self._first_size = first_block_size(n, error_rate)
        self._shuffled = self._memory.array("shuffled", n, np.uint8)
        shuffle(self._keys[PASSES], bits, self._shuffled, False)
        self._last_pass = -1
        self._opened = 0
        self.leak_bits = 0

    def _open(self, bits: Bits, target: int) -> Bits:
        """Open the next pass and return the parity of each of its blocks."""
        p, state = self._opened, self._partition
        self._opened += 1
        self._last_pass = -1
        if p == 0:
            return _bits(open_first(state, bits, self._first_size))
        return _bits(open_later(state, p, self._keys[p], bits, target))

    def _divide(self, question: Divisions) -> Bits:
        """Divide segments and return the parity of each left part."""
        now, parities = divide(self._partition, question.segments, question.levels, self._last_pass)
        if now == -2:
            raise ProtocolError("a parity request for segments that do not exist")
        self._last_pass = now
        return _bits(parities)


def _most_parities(bit_count: int) -> int:
    """More than correcting a block takes at the highest error rate that leaves a key."""
    return 3 * bit_count // 4 + 1024


def _most_told(question: Question | None) -> int:
    """Parities that the answer has at most; of an opening that is known only afterwards."""
    match question:
        case Divisions(levels, segments):
            return len(segments) * ((1 << levels) - 1)
        case SubsetRanges(subsets):
            return len(subsets)
        case _:
            return 0


def _bits(array: Array) -> Bits:
    return array


class CascadeReference(_End):
    """Alice's side: answers questions about `bits` and counts in `leak_bits` what that gives away."""

    def __init__(self, bits: Bits, seed: bytes, error_rate: float) -> None:
        """`seed` is public and drawn after Bob's bits are fixed; both ends have the same `error_rate`."""
        super().__init__(bits, seed, error_rate, traces=False)
        self._subsets: RandomSubsets | None = None

    def answer(self, question: Question) -> Bits:
        """Return the parities asked for. Raises ProtocolError on questions that no corrector would ask."""
        match question:
            case Opening(target):
                told = self._answer_opening(target)
            case Divisions():
                told = self._answer_divisions(question)
            case SubsetRanges():
                told = self._answer_subsets(question)
            case _:
                raise ProtocolError("a question that is not about Cascade")
        self.leak_bits += len(told)
        return told

    def _check_leak(self, more: int) -> None:
        if self.leak_bits + more > _most_parities(len(self._shuffled)):
            raise ProtocolError("far more parities asked for than correcting the block takes")

    def _answer_opening(self, target: int) -> Bits:
        if self._opened == PASSES or (self._opened and target < 1):
            raise ProtocolError("a request for a pass that does not exist")
        parities = self._open(self._shuffled, target)
        told = parities if self._opened == 1 else parities[:-1]
        self._check_leak(len(told))
        return told

    def _answer_divisions(self, question: Divisions) -> Bits:
        if not 1 <= question.levels <= MOST_LEVELS or not len(question.segments):
            raise ProtocolError("a parity request that makes no sense")
        self._check_leak(_most_told(question))
        return self._divide(question)

    def _answer_subsets(self, question: SubsetRanges) -> Bits:
        subsets, starts, ends = question.subsets, question.starts, question.ends
        if not len(subsets) or not len(subsets) == len(starts) == len(ends) or subsets.max() >= SUBSETS:
            raise ProtocolError("a parity request for a subset that does not exist")
        if starts.min() < 0 or ends.max() > len(self._shuffled) or np.any(starts >= ends):
            raise ProtocolError("a parity request for an empty range or outside the block")
        self._check_leak(len(subsets))
        if self._subsets is None:
            self._subsets = RandomSubsets(self._shuffled, self._subset_key)
        return self._subsets.parities(subsets, starts, ends)


class CascadeCorrector(_End):
    """Bob's side. Alternate `request()` and `receive()` until `request()` returns None; then `bits` is corrected.

    `corrected` counts changed bits, `leak_bits` parities, `exchanges` questions. Raises ProtocolError when answers
    contradict each other.
    """

    def __init__(self, bits: Bits, seed: bytes, error_rate: float, exchange_cost_bits: float | None = None) -> None:
        """`exchange_cost_bits`: what saving an early exchange is worth, in leaked bits; None: `exchange_cost`."""
        super().__init__(bits, seed, error_rate, traces=True)
        self._doubt = Doubt.of(self._shuffled, PASSES, self._capacity, self._memory)
        self._rate = _clip(error_rate)
        self._cost = exchange_cost(len(bits)) if exchange_cost_bits is None else exchange_cost_bits
        self._wave = 0
        self._difference = 0
        self._late: LeftoverSearch | None = None
        self.exchanges = 0

    @property
    def bits(self) -> Bits:
        """The bits as they are now, in the order they came in."""
        out = np.empty_like(self._doubt.bits)
        shuffle(self._keys[PASSES], self._doubt.bits, out, True)
        return out

    @property
    def corrected(self) -> int:
        """Bits changed so far."""
        return int(np.count_nonzero(self._doubt.changed))

    def request(self) -> Question | None:
        """Return the next question, or None when nothing is left to ask. Raises NoKey on hopelessly many errors."""
        question = self._next_question()
        if self.leak_bits + _most_told(question) > _most_parities(len(self._shuffled)):
            raise NoKey("error correction failed: far more errors than the error rate said")
        return question

    def _next_question(self) -> Question | None:
        if self._opened == 0:
            return Opening(0)
        while self._doubt.waiting[-1]:
            question = self._divisions()
            if len(question.segments):
                return question
        if self._opened == 1:
            return self._opening(self._errors_per_block())
        return self._look_for_leftovers()

    def receive(self, question: Question, parities: Bits) -> None:
        """Take the answers to `question`, the last request."""
        self.leak_bits += len(parities)
        self.exchanges += 1
        match question:
            case Opening(target):
                self._receive_blocks(target, parities)
            case Divisions():
                mine = self._divide(question)
                if len(parities) != len(mine):
                    raise ProtocolError("a parity answer of the wrong length")
                if not compare(self._partition, self._doubt, question.segments, parities, mine):
                    raise _contradiction()
            case SubsetRanges():
                self._receive_subsets(question, parities)
            case _:
                raise ProtocolError("an answer to a question that was not asked")

    def _divisions(self) -> Divisions:
        waiting = self._doubt.waiting.tolist()
        asked, only = waiting[-1], -1
        if asked > 2 * self._cost:
            # One pass at a time: searches in two passes would chase the same error.
            if not waiting[self._wave]:
                self._wave = waiting.index(max(waiting[:-1]))
            only = self._wave
            asked = waiting[only]
        return Divisions(self._levels(asked), take_queue(self._partition, self._doubt, only))

    def _levels(self, searches: int) -> int:
        """How often to divide before the next exchange."""
        cost = self._cost_now()
        return 1 + sum(searches * extra <= cost for extra in _DEEPER)

    def _at_once(self) -> int:
        """Odd subsets to search in one go: one more costs some 15 bits and an error found twice."""
        return 1 + sum(self._cost_now() >= least for least in _SEVERAL)

    def _cost_now(self) -> float:
        """What saving one exchange is worth now, in leaked bits."""
        cost: float = self._cost
        late = self.exchanges - _PATIENCE
        if late > 0 and not self._misjudged():
            most = max(_MOST_COST[0], _MOST_COST[1] * len(self._shuffled))
            cost = max(cost, min(max(cost, _LATE_COST) * 2 ** min(late / _DOUBLING, 64), most))
        return cost

    def _errors_per_block(self) -> float:
        """Target of the second pass: less, as errors turn out to be more than the error rate said."""
        size = self._first_size
        blocks = -(-len(self._shuffled) // size)
        expected = (1 - (1 - 2 * self._rate) ** size) / 2
        seen = min(0.49, self.corrected / blocks)
        if abs(seen - expected) < 3 * (expected * (1 - expected) / blocks) ** 0.5:
            return _ERRORS_PER_BLOCK[1]
        rate = (1 - (1 - 2 * seen) ** (1 / size)) / 2
        return _ERRORS_PER_BLOCK[1] * self._rate / float(max(rate, _SMALLEST_RATE))

    def _opening(self, errors_per_block: float) -> Opening:
        target = round(min(errors_per_block, MOST_ERRORS) * UNIT)
        half = (total_weight(self._partition, 2 * target) + 1) // 2
        return Opening(max(1, min(target, half)))

    def _receive_blocks(self, target: int, told: Bits) -> None:
        first = int(self._partition.now[COUNT])
        mine = self._open(self._doubt.bits, target)
        later = self._opened > 1
        if len(told) != max(0, len(mine) - later):
            raise ProtocolError("a parity answer of the wrong length")
        if not later:
            self._difference = int(np.bitwise_xor.reduce(told ^ mine))
        top = note_blocks(self._doubt, first, told, mine, self._difference ^ self.corrected & 1)
        if not settle(self._partition, self._doubt, top, -1):
            raise _contradiction()

    def _look_for_leftovers(self) -> Question | None:
        late = self._late
        if late is None:
            late = self._late = LeftoverSearch(self._doubt.bits, self._subset_key)
        if late.searched >= _LATE_SEARCHES[self._misjudged()] and not late.searching and self._opened < PASSES:
            late.searched = 0
            blocks = _LATE_BLOCKS << 2 * (self._opened - 2)
            return self._opening(total_weight(self._partition, _ALL) / UNIT / blocks)
        return late.question(self._levels(max(2, late.ranges)), self._at_once())

    def _misjudged(self) -> bool:
        expected = self._rate * len(self._shuffled)
        return bool(self.corrected > expected + 5 * expected**0.5)

    def _receive_subsets(self, question: SubsetRanges, told: Bits) -> None:
        if self._late is None or len(told) != len(question.subsets):
            raise ProtocolError("a parity answer of the wrong length")
        found = self._late.receive(question, told)
        if self._doubt.changed[found].any():
            raise _contradiction()
        for wrong in found:
            # What one of them proves may have changed the next.
            if not self._doubt.changed[wrong] and not settle(self._partition, self._doubt, 0, wrong):
                raise _contradiction()


def _contradiction() -> ProtocolError:
    return ProtocolError("the parities Alice tells contradict each other")
