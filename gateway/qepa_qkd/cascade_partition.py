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
from qepa_qkd.workspace import Workspace

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
_LEFT_OUT: Final = 0xFFFF
"""Kind of a bit that is certain."""


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
    """int32, (passes n,): place of bit i in pass p, at p n + i; -1 when the pass leaves it out. Empty for Alice."""
    bits: Array
    """uint8, (passes n,): this end's bit at a place."""
    owner: Array
    """int32, (passes n,): segment that a place lies in. Empty at Alice's end, who changes no bits."""
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
    kinds: Array
    """uint16, (n,): class and value of a bit while a pass is laid out."""
    scratch: Array
    """int64, (n,): level, value and number of the bits of a segment while it is prepared."""
    ranks: Array
    """int32, (65,): how many bits of a segment have a rank."""
    now: Array
    """int64, (4,): number of the wave, segments so far, length of `made`, passes so far."""

    @classmethod
    def of(
        cls, bit_count: int, passes: int, error_rate: float, capacity: int, memory: Workspace, *, traces: bool
    ) -> "Partition":
        """A partition without passes, for `capacity` segments at most; every bit is wrong with `error_rate`.

        `traces`: whether bits can be found in their segments, as who changes them must.
        """
        level = memory.array("level", bit_count, np.int16)
        level[:] = max(0, round(-PER_OCTAVE * log2(error_rate / (1 - error_rate))))
        places = passes * bit_count
        return cls(
            level=level,
            order=memory.array("order", places, np.int32),
            where=memory.array("where", places if traces else 0, np.int32),
            bits=memory.array("bits", places, np.uint8),
            owner=memory.array("owner", places if traces else 0, np.int32),
            mass=memory.array("mass", places, np.int64),
            segments=memory.array("segments", 7 * capacity, np.int64).reshape(capacity, 7),
            opening=np.zeros(passes, np.int64),
            made=memory.array("made", 2 * capacity, np.int32),
            kinds=memory.array("kinds", bit_count, np.uint16),
            scratch=memory.array("scratch", bit_count, np.int64),
            ranks=np.zeros(65, np.int32),
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
def _sort_out(level: Array, bits: Array, kinds: Array, ends: Array) -> None:
    """Note class and value of each bit and count classes, likeliest wrong first: ends[c + 1] is where c will end."""
    for i in range(len(level)):
        if level[i] == CERTAIN:
            kinds[i] = _LEFT_OUT
        else:
            c = max(level[i], 0) // _LEVELS_PER_CLASS
            kinds[i] = c << 1 | bits[i]
            ends[c + 1] += 1
    for c in range(1, len(ends)):
        ends[c] += ends[c - 1]


@kernel
def _draw_order(keys: Array, kinds: Array, ends: Array, order: Array, where: Array, values: Array) -> None:
    """Lay out a pass class by class, at random within one; `ends` comes with the starts of the classes."""
    n, traced = len(kinds), len(where) > 0
    width = width_of(n)
    images = np.empty(min(CHUNK, 1 << width), np.uint32)
    for first in range(0, 1 << width, len(images)):
        for j in range(mix(first, keys, width, n, images)):
            i = images[j]
            kind = kinds[i]
            if kind == _LEFT_OUT:
                if traced:
                    where[i] = -1
            else:
                place = ends[kind >> 1]
                ends[kind >> 1] = place + 1
                order[place] = i
                values[place] = kind & 1
                if traced:
                    where[i] = place


@inlined
def _add_block(p: Any, start: Any, end: Any, owner: Array, segments: Array, now: Array) -> None:
    s = now[1]
    now[1] = s + 1
    segments[s, START], segments[s, END], segments[s, PASS] = start, end, p
    segments[s, EVIDENCE], segments[s, WAVE] = 0, 0
    if len(owner):
        for place in range(start, end):
            owner[place] = s


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
    order, where, owner, segments, now = state.order, state.where, state.owner, state.segments, state.now
    for i in range(n):
        order[i] = i
    if len(where):
        for i in range(n):
            where[i] = i
    state.bits[:n] = bits
    for start in range(0, n, size):
        _add_block(0, start, min(n, start + size), owner, segments, now)
    _raise_levels(state, 0, WEIGHTS[state.level[0]] * (size - 1))
    return _block_parities(state, 0)


@kernel
def open_later(state: Partition, p: int, keys: Array, bits: Array, target: int) -> Array:
    """Open pass `p` in blocks of weight `target`, the last one of less; return their parities.

    `keys` are 5 uint32. Blocks that find no room are left out.
    """
    settle_levels(state)
    owner, segments, now = state.owner, state.segments, state.now
    n = len(state.level)
    base = p * n
    ends = np.zeros(CERTAIN // _LEVELS_PER_CLASS + 2, np.int64)
    ends[0] = base
    _sort_out(state.level, bits, state.kinds, ends)
    first = now[1]
    _draw_order(keys, state.kinds, ends, state.order, state.where[base : base + n], state.bits)
    start, place, weight = base, base, 0
    for c in range(len(ends)):
        each = WEIGHTS[min(c * _LEVELS_PER_CLASS + _LEVELS_PER_CLASS // 2, CERTAIN - 1)]
        while place < ends[c]:
            more = min((target - weight + each - 1) // each, ends[c] - place)
            place += more
            weight += more * each
            if weight >= target and now[1] < len(segments):
                _add_block(p, start, place, owner, segments, now)
                start, weight = place, 0
    if start < place and now[1] < len(segments):
        _add_block(p, start, place, owner, segments, now)
    _raise_levels(state, p, target)
    return _block_parities(state, first)


@kernel
def _block_parities(state: Partition, first: int) -> Array:
    """Parities of the segments from `first` on."""
    bits, segments, count = state.bits, state.segments, state.now[1]
    out = np.empty(count - first, np.uint8)
    for s in range(first, count):
        x = np.uint8(0)
        for place in range(np.uint64(segments[s, START]), np.uint64(segments[s, END])):
            x ^= bits[place]
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
    level, order, mass, made = state.level, state.order, state.mass, state.made
    segments, opening, now = state.segments, state.opening, state.now
    for j in range(now[2]):
        s = made[j]
        start, live, old = segments[s, START], segments[s, LIVE], segments[s, EVIDENCE]
        if old == SINGLE:
            level[order[start]] = CERTAIN
            continue
        weight = mass[start + live - 1] - segments[s, BEFORE]
        evidence = _evidence(weight * (live - 1) // live) - opening[segments[s, PASS]]
        if evidence != old:
            segments[s, EVIDENCE] = evidence
            for place in range(start, start + live):
                i = order[place]
                if level[i] != CERTAIN:
                    level[i] += evidence - old
    now[0] += 1
    now[2] = 0


@kernel
def _common_pass(state: Partition, asked: Array) -> Any:
    """The pass that all segments belong to, -1 if there are several, -2 if names do not rise or name nothing."""
    segments, count = state.segments, state.now[1]
    last = -1
    for s in asked:
        if s <= last or s >= count:
            return -2
        last = s
    first = segments[asked[0], PASS]
    for s in asked:
        if segments[s, PASS] != first:
            return -1
    return first


@kernel
def _prepare(state: Partition, asked: Array) -> None:
    """Sort each segment by rank, likeliest wrong first and certain bits last, and sum up its expected errors.

    Ranks are steps of half an octave of the level; bits of equal rank stay as they stand.
    """
    level, order, where, bits, mass = state.level, state.order, state.where, state.bits, state.mass
    scratch, ranks, segments, wave = state.scratch, state.ranks, state.segments, state.now[0]
    for s in asked:
        if segments[s, WAVE] == wave:
            continue
        start, old = segments[s, START], segments[s, EVIDENCE]
        size = segments[s, END] - start
        previous, live, in_order = 0, 0, True
        for j in range(size):
            i = order[start + j]
            found: Any = np.int64(level[i])
            rank: Any = 63
            if found != CERTAIN:
                rank = min(max(found, 0) >> 3, 62)
                live += 1
            in_order &= rank >= previous
            previous = rank
            scratch[j] = rank << 56 | max(found - old, 0) << 40 | np.int64(bits[start + j]) << 32 | i
        weight = 0
        if in_order:
            for j in range(live):
                weight += WEIGHTS[scratch[j] >> 40 & 0xFFFF]
                mass[start + j] = weight
        else:
            ranks[:] = 0
            for j in range(size):
                ranks[(scratch[j] >> 56) + 1] += 1
            for r in range(64):
                ranks[r + 1] += ranks[r]
            base = segments[s, PASS] * len(level)
            for j in range(size):
                packed = scratch[j]
                place = start + ranks[packed >> 56]
                ranks[packed >> 56] += 1
                order[place] = packed & 0xFFFFFFFF
                bits[place] = packed >> 32 & 1
                mass[place] = WEIGHTS[packed >> 40 & 0xFFFF]
                if len(where):
                    where[base + (packed & 0xFFFFFFFF)] = place
            for place in range(start, start + live):
                weight += mass[place]
                mass[place] = weight
        segments[s, LIVE], segments[s, BEFORE], segments[s, WAVE] = live, 0, wave


@kernel
def divide(state: Partition, asked: Array, levels: int, last_pass: int) -> tuple[Any, Array]:  # noqa: PLR0912 (one loop, compiled as one)
    """Divide each segment `levels` times over where half of its expected errors lie on either side.

    What has fewer than two uncertain bits is passed over. The right part becomes a new segment; `made` lists both.
    Unless this question and the one before, `last_pass`, are about one and the same pass, the wave ends first.

    Return the pass that all segments belong to (-1: several, -2: names do not rise or name nothing; nothing is done),
    and the parity of each left part, in order.
    """
    # One body, arrays taken out of the tuple once: numba counts references to each array of an inner call.
    common = _common_pass(state, asked)
    if common == -2:
        return common, np.empty(0, np.uint8)
    if common == -1 or common != last_pass:
        settle_levels(state)
    _prepare(state, asked)
    bits, owner, mass, segments, made, now = (
        state.bits,
        state.owner,
        state.mass,
        state.segments,
        state.made,
        state.now,
    )
    out = np.empty(len(asked) * ((1 << levels) - 1), np.uint8)
    told, new, length = 0, now[1], now[2]
    family = np.empty(1 << levels, np.int64)
    for asked_now in asked:
        family[0], grown = asked_now, 1
        for _ in range(levels):
            for t in range(grown):
                s = family[t]
                start, end, live = segments[s, START], segments[s, END], segments[s, LIVE]
                if live < 2:
                    continue
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
                segments[new, START], segments[new, END], segments[s, END] = middle, end, middle
                segments[new, BEFORE] = mass[low]
                segments[new, WAVE], segments[new, PASS] = now[0], segments[s, PASS]
                segments[new, LIVE], segments[s, LIVE] = live - (middle - start), middle - start
                segments[new, EVIDENCE] = segments[s, EVIDENCE]
                if segments[new, LIVE] == 1:
                    segments[new, EVIDENCE] = SINGLE
                if segments[s, LIVE] == 1:
                    segments[s, EVIDENCE] = SINGLE
                if len(owner):
                    for place in range(np.uint64(middle), np.uint64(end)):
                        owner[place] = new
                left = np.uint8(0)
                for place in range(np.uint64(start), np.uint64(middle)):
                    left ^= bits[place]
                out[told] = left
                told += 1
                made[length], made[length + 1] = s, new
                length += 2
                family[grown] = new
                grown += 1
                new += 1
    now[1], now[2] = new, length
    return common, out[:told]
