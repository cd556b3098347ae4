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

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

PER_OCTAVE: Final = 16
CERTAIN: Final = 4095
"""Level of a bit whose value follows from parities."""
UNIT: Final = 1 << 30
"""Weight of one expected error."""
SINGLE: Final = -4096
"""Evidence of a segment whose first bit was its last uncertain one: that bit is certain now."""
_LEVELS_PER_CLASS: Final = 4
_CHUNK: Final = 4096


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
EVIDENCE: Final = _evidence_table()


class Partition(NamedTuple):
    """Segments of all passes. Rows are passes, `n` is the number of bits; unused entries are never read."""

    level: Array
    """int16, (n,): -16 log2 of the odds that the bit is wrong; CERTAIN for bits that are known."""
    order: Array
    """int32, (passes, n): bit at a position. A pass leaves out bits that were certain when it was opened."""
    where: Array
    """int32, (passes, n): position of a bit, -1 when the pass leaves it out."""
    bits: Array
    """uint8, (passes, n): this end's bits in the order of the pass."""
    segment: Array
    """int32, (passes, n): segment that a position lies in."""
    mass: Array
    """int64, (passes, n): expected errors up to and with a position, counted from where its segment was prepared."""
    start: Array
    end: Array
    """int32, (passes, n): the segment's positions, [start, end)."""
    before: Array
    """int64, (passes, n): `mass` ahead of the segment."""
    live: Array
    """int32, (passes, n): uncertain bits of the segment when it was prepared; they come first."""
    wave: Array
    """int32, (passes, n): wave in which the segment was prepared for searching."""
    evidence: Array
    """int16, (passes, n): what the segment has added to the level of its bits."""
    count: Array
    """int64, (passes,): segments so far; a segment that is divided keeps its number for the left part."""
    opening: Array
    """int64, (passes,): what opening the pass has added to the level of all bits."""
    now: Array
    """int64, (2,): number of the wave; length of `changed`."""
    changed: Array
    """int32, (2 n, 2): passes and segments made in this wave."""

    @classmethod
    def of(cls, bit_count: int, passes: int, error_rate: float) -> "Partition":
        """A partition without passes; every bit is wrong with `error_rate`."""
        level = round(-PER_OCTAVE * log2(error_rate / (1 - error_rate)))

        def table(kind: type) -> Array:
            return np.empty((passes, bit_count), kind)

        word = np.int32
        return cls(
            level=np.full(bit_count, max(0, level), np.int16),
            order=table(word),
            where=table(word),
            bits=table(np.uint8),
            segment=table(word),
            mass=table(np.int64),
            start=table(word),
            end=table(word),
            before=table(np.int64),
            live=table(word),
            wave=table(word),
            evidence=table(np.int16),
            count=np.zeros(passes, np.int64),
            opening=np.zeros(passes, np.int64),
            now=np.array([1, 0]),
            changed=np.empty((2 * bit_count, 2), word),
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
    return EVIDENCE[8 * exponent + (fraction & 7)]


@kernel
def _mix(first: int, keys: Array, width: int, out: Array) -> None:
    """Fill `out` with images of first, first + 1, ... under a bijection of `width`-bit numbers drawn by `keys`."""
    mask = np.uint32((1 << width) - 1)
    shift = np.uint32((width + 1) // 2)
    k0, k1, k2, k3 = keys[0], keys[1] | np.uint32(1), keys[2] | np.uint32(1), keys[3] | np.uint32(1)
    k4 = keys[4]
    for j in range(len(out)):
        y = np.uint32(np.uint32(first + j) * k1 + k0) & mask
        y ^= y >> shift
        y = np.uint32(y * k2 + k4) & mask
        y ^= y >> shift
        y = np.uint32(y * k3) & mask
        out[j] = y ^ (y >> shift)


@kernel
def _width(n: int) -> int:
    """Bits that number n things."""
    width = 1
    while 1 << width < n:
        width += 1
    return width


@kernel
def shuffle(keys: Array, bits: Array, out: Array, back: bool) -> None:
    """Write `bits` to `out` in the random order of `keys` (5 uint32), or from that order `back` to the original.

    The order is a bijection of the next power of two, made of multiplications and shifts, without numbers that are no
    bits.
    """
    n, j = len(bits), 0
    width = _width(n)
    images = np.empty(min(_CHUNK, 1 << width), np.uint32)
    for first in range(0, 1 << width, len(images)):
        _mix(first, keys, width, images)
        for i in images:
            if i < n:
                if back:
                    out[i] = bits[j]
                else:
                    out[j] = bits[i]
                j += 1


@kernel
def _draw_order(keys: Array, state: Partition, p: int, bits: Array, classes: Array) -> None:
    """Lay out pass `p`: uncertain bits, likeliest wrong first, at random among those alike.

    On return classes[c] is the end of the bits of class c.
    """
    level, order, where, values = state.level, state.order[p], state.where[p], state.bits[p]
    n = len(level)
    for i in range(n):
        where[i] = -1
        if level[i] != CERTAIN:
            classes[max(level[i], 0) // _LEVELS_PER_CLASS + 1] += 1
    for c in range(1, len(classes)):
        classes[c] += classes[c - 1]
    width = _width(n)
    images = np.empty(min(_CHUNK, 1 << width), np.uint32)
    for first in range(0, 1 << width, len(images)):
        _mix(first, keys, width, images)
        for i in images:
            if i < n and level[i] != CERTAIN:
                c = max(level[i], 0) // _LEVELS_PER_CLASS
                position = classes[c]
                classes[c] = position + 1
                order[position] = i
                values[position] = bits[i]
                where[i] = position


@inlined
def _add_block(state: Partition, p: int, start: int, end: int) -> None:
    s = state.count[p]
    state.count[p] = s + 1
    state.start[p, s], state.end[p, s] = start, end
    state.evidence[p, s], state.wave[p, s] = 0, 0
    for position in range(start, end):
        state.segment[p, position] = s


@kernel
def _raise_levels(state: Partition, p: int, weight: int) -> None:
    """Add the evidence of even blocks of `weight` to all bits."""
    evidence = _evidence(weight)
    state.opening[p] = evidence
    for i in range(len(state.level)):
        if state.level[i] != CERTAIN:
            state.level[i] += evidence


@kernel
def open_first(state: Partition, bits: Array, size: int) -> None:
    """Open pass 0 in the order the bits have, in blocks of `size`."""
    n = len(bits)
    for i in range(n):
        state.order[0, i] = i
        state.where[0, i] = i
        state.bits[0, i] = bits[i]
    for start in range(0, n, size):
        _add_block(state, 0, start, min(n, start + size))
    _raise_levels(state, 0, WEIGHTS[state.level[0]] * (size - 1))


@kernel
def open_later(state: Partition, p: int, keys: Array, bits: Array, target: int) -> None:
    """Open pass `p` in blocks of weight `target`, the last one of less; `keys` are 5 uint32."""
    settle_levels(state)
    classes = np.zeros(CERTAIN // _LEVELS_PER_CLASS + 2, np.int64)
    _draw_order(keys, state, p, bits, classes)
    start, position, weight = 0, 0, 0
    for c in range(len(classes)):
        each = WEIGHTS[min(c * _LEVELS_PER_CLASS + _LEVELS_PER_CLASS // 2, CERTAIN - 1)]
        while position < classes[c]:
            more = min((target - weight + each - 1) // each, classes[c] - position)
            position += more
            weight += more * each
            if weight >= target:
                _add_block(state, p, start, position)
                start, weight = position, 0
    if start < position:
        _add_block(state, p, start, position)
    _raise_levels(state, p, target)


@kernel
def parity(values: Array, start: int, end: int) -> int:
    """Parity of positions [start, end)."""
    x = np.uint8(0)
    for i in range(start, end):
        x ^= values[i]
    return x


@kernel
def block_parities(state: Partition, p: int) -> Array:
    """Parities of the segments of pass `p`."""
    out = np.empty(state.count[p], np.uint8)
    for block in range(len(out)):
        out[block] = parity(state.bits[p], state.start[p, block], state.end[p, block])
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
    level = state.level
    for j in range(state.now[1]):
        p, s = state.changed[j, 0], state.changed[j, 1]
        a, live, old = state.start[p, s], state.live[p, s], state.evidence[p, s]
        if old == SINGLE:
            level[state.order[p, a]] = CERTAIN
            continue
        weight = state.mass[p, a + live - 1] - state.before[p, s]
        evidence = _evidence(weight * (live - 1) // live) - state.opening[p]
        if evidence == old:
            continue
        state.evidence[p, s] = evidence
        for position in range(a, a + live):
            i = state.order[p, position]
            if level[i] != CERTAIN:
                level[i] += evidence - old
    state.now[0] += 1
    state.now[1] = 0


@inlined
def _prepare(state: Partition, p: int, s: int) -> None:
    """Sort a segment by level, likeliest wrong first and certain bits last, and sum up its expected errors."""
    order, mass, level = state.order[p], state.mass[p], state.level
    a, b, old = state.start[p, s], state.end[p, s], state.evidence[p, s]
    previous = 0
    for position in range(a, b):
        rank = _rank(level[order[position]])
        if rank < previous:
            _sort(state, p, a, b)
            break
        previous = rank
    weight, live = 0, 0
    for position in range(a, b):
        found = level[order[position]]
        if found == CERTAIN:
            break
        weight += WEIGHTS[max(found - old, 0)]
        mass[position] = weight
        live += 1
    state.before[p, s] = 0
    state.live[p, s] = live
    state.wave[p, s] = state.now[0]


@kernel
def _rank(level: int) -> int:
    """Place of a level in a sorted segment, in steps of half an octave; certain bits come last of all."""
    return 63 if level == CERTAIN else min(max(level, 0) // 8, 62)


@kernel
def _sort(state: Partition, p: int, a: int, b: int) -> None:
    """Sort positions [a, b) by rank, equal ones as they stand."""
    order, where, values, level = state.order[p], state.where[p], state.bits[p], state.level
    next_of = np.zeros(65, np.int32)
    old_order, old_values = order[a:b].copy(), values[a:b].copy()
    for i in old_order:
        next_of[_rank(level[i]) + 1] += 1
    for rank in range(64):
        next_of[rank + 1] += next_of[rank]
    for j in range(b - a):
        i = old_order[j]
        rank = _rank(level[i])
        position = a + next_of[rank]
        next_of[rank] += 1
        order[position] = i
        values[position] = old_values[j]
        where[i] = position


@inlined
def divide(state: Partition, p: int, s: int) -> int:
    """Divide a segment where half of its expected errors lie on either side.

    Return the first position of the right part, which becomes the newest segment, or -1 and do nothing when fewer than
    two bits are uncertain. The parity of [start, middle) is the question that goes with it.
    """
    if state.wave[p, s] != state.now[0]:
        _prepare(state, p, s)
    live = state.live[p, s]
    if live < 2:
        return -1
    a, mass, before = state.start[p, s], state.mass[p], state.before[p, s]
    half = before + (mass[a + live - 1] - before) // 2
    low, high = a, a + live - 2
    while low < high:
        middle = (low + high) // 2
        if mass[middle] < half:
            low = middle + 1
        else:
            high = middle
    # mass[low] reaches half, or low is the last but one; the position before may be the closer.
    if low > a and half - mass[low - 1] < mass[low] - half:
        low -= 1
    _cut(state, p, s, low + 1)
    return low + 1


@inlined
def _cut(state: Partition, p: int, s: int, middle: int) -> None:
    """Make [middle, end) of segment `s` a segment of its own."""
    new = state.count[p]
    state.count[p] = new + 1
    a, live = state.start[p, s], state.live[p, s]
    state.start[p, new], state.end[p, new], state.end[p, s] = middle, state.end[p, s], middle
    state.before[p, new] = state.mass[p, middle - 1]
    state.wave[p, new] = state.now[0]
    state.live[p, s], state.live[p, new] = middle - a, live - (middle - a)
    state.evidence[p, new] = state.evidence[p, s]
    for position in range(middle, state.end[p, new]):
        state.segment[p, position] = new
    for part in (s, new):
        if state.live[p, part] == 1:
            state.evidence[p, part] = SINGLE
        state.changed[state.now[1], 0] = p
        state.changed[state.now[1], 1] = part
        state.now[1] += 1


@kernel
def divide_and_tell(state: Partition, passes: Array, segments: Array, levels: int) -> Array:
    """Alice: divide each segment `levels` times over and return the parity of every left part, in order."""
    out = np.empty(len(segments) * ((1 << levels) - 1), np.uint8)
    told = 0
    family = np.empty(1 << levels, np.int64)
    for j in range(len(segments)):
        p = passes[j]
        family[0], size = segments[j], 1
        for _ in range(levels):
            grown = size
            for t in range(size):
                s = family[t]
                middle = divide(state, p, s)
                if middle >= 0:
                    out[told] = parity(state.bits[p], state.start[p, s], middle)
                    told += 1
                    family[grown] = state.count[p] - 1
                    grown += 1
            size = grown
    return out[:told]


@kernel
def divide_and_compare(
    state: Partition, odd: Array, passes: Array, segments: Array, levels: int, told: Array, stack: Array
) -> tuple[int, int]:
    """Bob: the same divisions; note which parts are odd. Return answers used (-1: too few) and segments on `stack`."""
    used, top = 0, 0
    family = np.empty(1 << levels, np.int64)
    for j in range(len(segments)):
        p = passes[j]
        family[0], size = segments[j], 1
        for _ in range(levels):
            grown = size
            for t in range(size):
                s = family[t]
                middle = divide(state, p, s)
                if middle >= 0:
                    if used == len(told):
                        return -1, 0
                    left = told[used] ^ parity(state.bits[p], state.start[p, s], middle)
                    used += 1
                    new = state.count[p] - 1
                    odd[p, new] = odd[p, s] ^ left
                    odd[p, s] = left
                    family[grown] = new
                    grown += 1
            size = grown
        for t in range(size):
            stack[top, 0], stack[top, 1] = p, family[t]
            top += 1
    return used, top
