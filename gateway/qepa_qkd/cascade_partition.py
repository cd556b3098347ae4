"""What both ends of Cascade know: how each pass divides the bits into segments of known parity, and what follows.

After the first pass errors are not spread evenly any more: a bit in an even segment of 64 is far likelier wrong than
one in an even segment of 4. Both ends see the segments, so both can tell. Each bit carries the logarithm of its odds of
being wrong (`level`); every pass adds the evidence of the segment the bit lies in. Later passes lay bits of like odds
together, cut blocks of equal expected number of errors, and a search divides a segment where half of its expected
errors lie on either side, so that a question carries close to a whole bit. Bits that a parity and its certain
neighbours determine are certain and are never asked about again.

Everything is integer arithmetic on tables, so that two machines agree. Levels are -16 log2(odds): 0 is even odds, 90
is 2 %. With x errors expected among the other bits of an even segment, independent and rare, their parity is odd with
probability (1 - exp(-2x)) / 2 (Gallager 1962, lemma 4.1, in the limit of small rates), so a bit's odds are multiplied
by tanh(x). What all bits of a pass gain alike when it opens is added at once; segments hold the difference to it.

Levels are brought up to date between waves: while one pass is searched, only its own segments change, and its own
evidence is the same for all bits that a question compares.
"""

from math import log2, tanh
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from qepa_qkd.compiled import inlined, kernel
from qepa_qkd.shuffling import CHUNK, mix, width_of

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

PER_OCTAVE: Final = 16
CERTAIN: Final = 4095
"""Level of a bit whose value follows from parities."""
UNIT: Final = 1 << 30
"""Weight of one expected error."""
SINGLE: Final = -4096
"""Evidence of a segment whose first bit was its last uncertain one: that bit is certain now."""

START, END, LIVE, BEFORE, WAVE, EVIDENCE, PASS = range(7)
"""Columns of `Partition.segments`."""
_LEVELS_PER_CLASS: Final = 4


def _weight_table() -> npt.NDArray[np.int64]:
    odds = [2.0 ** (-level / PER_OCTAVE) for level in range(CERTAIN)]
    return np.array([max(1, round(UNIT * o / (1 + o))) for o in odds] + [0], np.int64)


def _evidence_table() -> npt.NDArray[np.int64]:
    """Levels that an even segment adds, by the position of the highest bit of the weight and the three bits below."""
    table = np.zeros(64 * 8, np.int64)
    for exponent in range(64):
        for fraction in range(8):
            errors = 2.0**exponent * (1 + (fraction + 0.5) / 8) / UNIT
            table[8 * exponent + fraction] = round(-PER_OCTAVE * log2(tanh(errors)))
    return table


WEIGHTS: Final = _weight_table()
EVIDENCE_OF: Final = _evidence_table()


class Partition(NamedTuple):
    """Segments of all passes of `n` bits. Places [p n, (p + 1) n) belong to pass p; what is unused is never read."""

    level: Array
    """int16, (n,): -16 log2 of the odds that the bit is wrong; CERTAIN for bits that are known."""
    order: Array
    """int32, (passes n,): bit at a place. A pass leaves out bits that were certain when it was opened."""
    where: Array
    """int32, (passes n,): place of bit i in pass p, at p n + i; -1 when the pass leaves it out."""
    bits: Array
    """uint8, (passes n,): this end's bit at a place."""
    owner: Array
    """int32, (passes n,): segment that a place lies in."""
    mass: Array
    """int64, (passes n,): expected errors up to and with a place, counted from where its segment was prepared."""
    segments: Array
    """int64, (capacity, 7): a row a segment, in the order they were made; one that is divided keeps its left part.

    START, END: its places. LIVE: uncertain bits when it was prepared for searching; they come first. BEFORE: `mass`
    ahead of it. WAVE: when it was prepared. EVIDENCE: what it has added to the level of its bits. PASS.
    """
    opening: Array
    """int64, (passes,): what opening a pass has added to the level of all bits."""
    made: Array
    """int32, (2 capacity,): segments made in this wave."""
    now: Array
    """int64, (4,): number of the wave, segments so far, length of `made`, passes so far."""

    @classmethod
    def of(cls, bit_count: int, passes: int, error_rate: float, capacity: int) -> "Partition":
        """A partition without passes, for `capacity` segments at most; every bit is wrong with `error_rate`."""
        level = round(-PER_OCTAVE * log2(error_rate / (1 - error_rate)))
        places = passes * bit_count
        return cls(
            level=np.full(bit_count, max(0, level), np.int16),
            order=np.empty(places, np.int32),
            where=np.empty(places, np.int32),
            bits=np.empty(places, np.uint8),
            owner=np.empty(places, np.int32),
            mass=np.empty(places, np.int64),
            segments=np.empty((capacity, 7), np.int64),
            opening=np.zeros(passes, np.int64),
            made=np.empty(2 * capacity, np.int32),
            now=np.array([1, 0, 0, 0]),
        )


@kernel
def _evidence(weight: int) -> int:
    """Levels to add for `weight` of expected errors among the others."""
    if weight <= 0:
        weight = 1
    exponent = 0
    rest = weight
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            exponent += step
            rest >>= step
    fraction = weight >> (exponent - 3) if exponent >= 3 else weight << (3 - exponent)
    return int(EVIDENCE_OF[8 * exponent + (fraction & 7)])


@kernel
def _class_ends(level: Array, ends: Array) -> None:
    """Count uncertain bits by class of level, likeliest wrong first; ends[c + 1] is where class c will end."""
    for i in range(len(level)):
        if level[i] != CERTAIN:
            ends[max(level[i], 0) // _LEVELS_PER_CLASS + 1] += 1
    for c in range(1, len(ends)):
        ends[c] += ends[c - 1]


@kernel
def _draw_order(keys: Array, level: Array, bits: Array, ends: Array, order: Array, where: Array, values: Array) -> None:
    """Lay out a pass class by class, at random within one; `ends` comes with the starts of the classes."""
    n = len(level)
    width = width_of(n)
    images = np.empty(min(CHUNK, 1 << width), np.uint32)
    for first in range(0, 1 << width, len(images)):
        mix(first, keys, width, images)
        for i in images:
            if i < n:
                found = level[i]
                if found == CERTAIN:
                    where[i] = -1
                else:
                    c = max(found, 0) // _LEVELS_PER_CLASS
                    place = ends[c]
                    ends[c] = place + 1
                    order[place] = i
                    values[place] = bits[i]
                    where[i] = place


@kernel
def _add_block(state: Partition, p: int, start: int, end: int) -> None:
    s = state.now[1]
    state.now[1] = s + 1
    row = state.segments[s]
    row[START], row[END], row[EVIDENCE], row[WAVE], row[PASS] = start, end, 0, 0, p
    state.owner[start:end] = s


@kernel
def _raise_levels(state: Partition, p: int, weight: int) -> None:
    """Add the evidence of even blocks of `weight` to all bits."""
    evidence = _evidence(weight)
    state.opening[p] = evidence
    state.now[3] = p + 1
    level = state.level
    for i in range(len(level)):
        level[i] = CERTAIN if level[i] == CERTAIN else level[i] + evidence


@kernel
def open_first(state: Partition, bits: Array, size: int) -> Array:
    """Open pass 0 in the order the bits have, in blocks of `size`; return their parities."""
    n = len(bits)
    for i in range(n):
        state.order[i] = i
        state.where[i] = i
        state.bits[i] = bits[i]
    for start in range(0, n, size):
        _add_block(state, 0, start, min(n, start + size))
    _raise_levels(state, 0, WEIGHTS[state.level[0]] * (size - 1))
    return _block_parities(state, 0)


@kernel
def open_later(state: Partition, p: int, keys: Array, bits: Array, target: int) -> Array:
    """Open pass `p` in blocks of weight `target`, the last one of less; return their parities.

    `keys` are 5 uint32. Blocks that find no room are left out.
    """
    settle_levels(state)
    n = len(state.level)
    base = p * n
    ends = np.zeros(CERTAIN // _LEVELS_PER_CLASS + 2, np.int64)
    ends[0] = base
    _class_ends(state.level, ends)
    first = state.now[1]
    _draw_order(keys, state.level, bits, ends, state.order, state.where[base : base + n], state.bits)
    start, place, weight = base, base, 0
    for c in range(len(ends)):
        each = WEIGHTS[min(c * _LEVELS_PER_CLASS + _LEVELS_PER_CLASS // 2, CERTAIN - 1)]
        while place < ends[c]:
            more = min((target - weight + each - 1) // each, ends[c] - place)
            place += more
            weight += more * each
            if weight >= target and state.now[1] < len(state.segments):
                _add_block(state, p, start, place)
                start, weight = place, 0
    if start < place and state.now[1] < len(state.segments):
        _add_block(state, p, start, place)
    _raise_levels(state, p, target)
    return _block_parities(state, first)


@kernel
def _block_parities(state: Partition, first: int) -> Array:
    """Parities of the segments from `first` on."""
    out = np.empty(state.now[1] - first, np.uint8)
    for s in range(first, state.now[1]):
        x = np.uint8(0)
        for place in range(state.segments[s, START], state.segments[s, END]):
            x ^= state.bits[place]
        out[s - first] = x
    return out


@kernel
def total_weight(state: Partition) -> int:
    """Expected errors among all bits, as far as both ends know."""
    settle_levels(state)
    total = 0
    for level in state.level:
        total += WEIGHTS[max(level, 0)]
    return total


@kernel
def settle_levels(state: Partition) -> None:
    """End a wave: bring levels up to date with the segments made since the last one ended."""
    level, order = state.level, state.order
    for j in range(state.now[2]):
        row = state.segments[state.made[j]]
        start, live, old = row[START], row[LIVE], row[EVIDENCE]
        if old == SINGLE:
            level[order[start]] = CERTAIN
            continue
        weight = state.mass[start + live - 1] - row[BEFORE]
        evidence = _evidence(weight * (live - 1) // live) - state.opening[row[PASS]]
        if evidence != old:
            row[EVIDENCE] = evidence
            for place in range(start, start + live):
                i = order[place]
                if level[i] != CERTAIN:
                    level[i] += evidence - old
    state.now[0] += 1
    state.now[2] = 0


@kernel
def common_pass(state: Partition, asked: Array) -> Any:
    """The pass that all segments belong to, -1 if there are several, -2 if names do not rise or name nothing."""
    last = -1
    for s in asked:
        if s <= last or s >= state.now[1]:
            return -2
        last = s
    first = state.segments[asked[0], PASS]
    for s in asked:
        if state.segments[s, PASS] != first:
            return -1
    return first


@kernel
def _rank(level: Any) -> Any:
    """Standing of a level in a sorted segment, in steps of half an octave; certain bits come last of all."""
    return 63 if level == CERTAIN else min(max(level, 0) // 8, 62)


@kernel
def _sort(start: int, end: int, base: int, level: Array, order: Array, where: Array, values: Array) -> None:
    """Sort places [start, end) of the pass at `base` by rank, equal ones as they stand."""
    next_of = np.zeros(65, np.int32)
    old_order, old_values = order[start:end].copy(), values[start:end].copy()
    for i in old_order:
        next_of[_rank(level[i]) + 1] += 1
    for rank in range(64):
        next_of[rank + 1] += next_of[rank]
    for j in range(end - start):
        i = old_order[j]
        rank = _rank(level[i])
        place = start + next_of[rank]
        next_of[rank] += 1
        order[place] = i
        values[place] = old_values[j]
        where[base + i] = place


@inlined
def _prepare(
    s: Any, level: Array, order: Array, where: Array, bits: Array, mass: Array, segments: Array, now: Array
) -> None:
    """Sort a segment by rank, likeliest wrong first and certain bits last, and sum up its expected errors."""
    start, end, old = segments[s, START], segments[s, END], segments[s, EVIDENCE]
    previous = 0
    for place in range(start, end):
        rank = _rank(level[order[place]])
        if rank < previous:
            base = segments[s, PASS] * len(level)
            _sort(start, end, base, level, order, where, bits)
            break
        previous = rank
    weight, live = 0, 0
    for place in range(start, end):
        found = level[order[place]]
        if found == CERTAIN:
            break
        weight += WEIGHTS[max(found - old, 0)]
        mass[place] = weight
        live += 1
    segments[s, LIVE], segments[s, BEFORE], segments[s, WAVE] = live, 0, now[0]


@inlined
def _divide(
    s: Any,
    level: Array,
    order: Array,
    where: Array,
    bits: Array,
    owner: Array,
    mass: Array,
    segments: Array,
    made: Array,
    now: Array,
) -> Any:
    """Divide a segment where half of its expected errors lie on either side.

    Return the first place of the right part, which becomes the newest segment, or -1 and do nothing when fewer than two
    bits are uncertain. The parity of [start, middle) is the question that goes with it.
    """
    if segments[s, WAVE] != now[0]:
        _prepare(s, level, order, where, bits, mass, segments, now)
    start, live = segments[s, START], segments[s, LIVE]
    if live < 2:
        return -1
    before = segments[s, BEFORE]
    half = before + (mass[start + live - 1] - before) // 2
    low, high = start, start + live - 2
    while low < high:
        middle = (low + high) // 2
        if mass[middle] < half:
            low = middle + 1
        else:
            high = middle
    # mass[low] reaches half, or low is the last but one; the place before may be the closer.
    if low > start and half - mass[low - 1] < mass[low] - half:
        low -= 1
    middle = low + 1
    new = now[1]
    now[1] = new + 1
    segments[new, START], segments[new, END], segments[s, END] = middle, segments[s, END], middle
    segments[new, BEFORE] = mass[low]
    segments[new, WAVE] = now[0]
    segments[new, PASS] = segments[s, PASS]
    segments[new, LIVE], segments[s, LIVE] = live - (middle - start), middle - start
    segments[new, EVIDENCE] = segments[s, EVIDENCE]
    if segments[new, LIVE] == 1:
        segments[new, EVIDENCE] = SINGLE
    if segments[s, LIVE] == 1:
        segments[s, EVIDENCE] = SINGLE
    for place in range(middle, segments[new, END]):
        owner[place] = new
    length = now[2]
    made[length], made[length + 1] = s, new
    now[2] = length + 2
    return middle


@kernel
def divide_and_tell(state: Partition, asked: Array, levels: int) -> Array:
    """Alice: divide each segment `levels` times over and return the parity of every left part, in order."""
    out = np.empty(len(asked) * ((1 << levels) - 1), np.uint8)
    told = 0
    family = np.empty(1 << levels, np.int64)
    level, order, where, bits, owner = state.level, state.order, state.where, state.bits, state.owner
    mass, segments, made, now = state.mass, state.segments, state.made, state.now
    for j in range(len(asked)):
        family[0], size = asked[j], 1
        for _ in range(levels):
            grown = size
            for t in range(size):
                s = family[t]
                middle = _divide(s, level, order, where, bits, owner, mass, segments, made, now)
                if middle >= 0:
                    left = np.uint8(0)
                    for place in range(segments[s, START], middle):
                        left ^= bits[place]
                    out[told] = left
                    told += 1
                    family[grown] = now[1] - 1
                    grown += 1
            size = grown
    return out[:told]


@kernel
def divide_and_compare(
    state: Partition, odd: Array, asked: Array, levels: int, told: Array, stack: Array
) -> tuple[int, int]:
    """Bob: the same divisions; note which parts are odd. Return answers used (-1: too few) and segments on `stack`."""
    used, top = 0, 0
    family = np.empty(1 << levels, np.int64)
    level, order, where, bits, owner = state.level, state.order, state.where, state.bits, state.owner
    mass, segments, made, now = state.mass, state.segments, state.made, state.now
    for j in range(len(asked)):
        family[0], size = asked[j], 1
        for _ in range(levels):
            grown = size
            for t in range(size):
                s = family[t]
                middle = _divide(s, level, order, where, bits, owner, mass, segments, made, now)
                if middle >= 0:
                    if used == len(told):
                        return -1, 0
                    left = told[used]
                    for place in range(segments[s, START], middle):
                        left ^= bits[place]
                    used += 1
                    new = now[1] - 1
                    odd[new] = odd[s] ^ left
                    odd[s] = left
                    family[grown] = new
                    grown += 1
            size = grown
        for t in range(size):
            stack[top] = family[t]
            top += 1
    return used, top
