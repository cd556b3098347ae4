"""What both ends of Cascade know: how each pass divides the bits into segments of known parity, and what follows.

After the first pass errors are not spread evenly any more: a bit in an even segment of 64 is far likelier wrong than
one in an even segment of 4. Both ends see the segments, so both can tell. Each bit carries the logarithm of its odds of
being wrong (`level`); every pass adds the evidence of the segment the bit lies in. Later passes lay bits of like odds
together, cut blocks of equal expected number of errors, and a search divides a segment where half of its expected
errors lie on either side, so that a question carries close to a whole bit. Bits that a parity and its certain
neighbours determine are certain and are never asked about again.

Everything is integer arithmetic on tables, so that two machines agree. Levels are -8 log2(odds): 0 is even odds, 45
is 2 %; they fit a byte, because they are read at random. With x errors expected among the other bits of an even
segment, independent and rare, their parity is odd with probability (1 - exp(-2x)) / 2 (Gallager 1962, lemma 4.1, in the
limit of small rates), so a bit's odds are multiplied by tanh(x). What all bits of a pass gain alike when it opens is
added at once; segments hold the difference to it.

Levels are brought up to date between waves: while one pass is searched, only its own segments change, and its own
evidence is the same for all bits that a question compares.
"""

from math import log2, tanh
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import inlined, kernel
from qepa_qkd.compiled import address_of, prefetch
from qepa_qkd.shuffling import CHUNK, mix, width_of
from qepa_qkd.workspace import Workspace

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

PER_OCTAVE: Final = 8
CERTAIN: Final = 255
"""Level of a bit whose value follows from parities."""
UNIT: Final = 1 << 22
"""Weight of one expected error."""
MOST_ERRORS: Final = 400
"""Expected in a block: sums of weights must fit 32 bits."""
SINGLE: Final = -4096
"""Evidence of a segment whose first bit was its last uncertain one: that bit is certain now."""

START, END, LIVE, BEFORE, WAVE, EVIDENCE, PASS, NEXT = range(8)
"""Columns of `Partition.segments`."""
WAVE_NOW, COUNT, PASSES_OPEN, PREPARED = range(4)
"""Parts of `Partition.now`: number of the wave, segments so far, passes so far, length of `prepared`."""
_LEVELS_PER_CLASS: Final = 2
_CERTAIN_RANK: Final = 64
_LEVELS_PER_RANK: Final = 4
_FETCHED_AHEAD: Final = 256
_LEFT_OUT: Final = 0xFFFF
"""Kind of a bit that is certain."""


def _weight_table() -> npt.NDArray[np.int32]:
    odds = [2.0 ** (-level / PER_OCTAVE) for level in range(CERTAIN)]
    return np.array([max(1, round(UNIT * o / (1 + o))) for o in odds] + [0], np.int32)


def _evidence_table() -> npt.NDArray[np.int32]:
    """Levels that an even segment adds, by the position of the highest bit of the weight and the three bits below."""
    table = np.zeros(64 * 8, np.int32)
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
    """uint8, (n,): -8 log2 of the odds that the bit is wrong, in [0, 254]; CERTAIN for bits that are known."""
    order: Array
    """int32, (passes n,): bit at a place. A pass leaves out bits that were certain when it was opened."""
    where: Array
    """int32, (passes n,): place of bit i in pass p, at p n + i; -1 when the pass leaves it out. Empty for Alice."""
    bits: Array
    """uint8, (passes n,): this end's bit at a place."""
    owner: Array
    """int32, (passes n,): segment that a place lies in. Empty at Alice's end, who changes no bits."""
    mass: Array
    """int32, (passes n,): expected errors up to and with a place, counted from where its segment was prepared."""
    segments: Array
    """int32, (capacity, 8): a row a segment, in the order they were made; one that is divided keeps its left part.

    START, END: its places. LIVE: uncertain bits when it was prepared for searching; they come first. BEFORE: `mass`
    ahead of it. WAVE: when it was prepared. EVIDENCE: what it has added to the level of its bits. PASS.
    NEXT: in this wave, the
    segment that begins where it ends, -1 if that is no part of what was asked about. A row is half a cache line.
    """
    opening: Array
    """int64, (passes,): what opening a pass has added to the level of all bits."""
    made: Array
    """int32, (2 capacity,): left and right part of each division of the last question."""
    prepared: Array
    """int32, (capacity,): segments that were prepared in this wave; `NEXT` leads to what was cut off them."""
    kinds: Array
    """uint16, (n,): class and value of a bit while a pass is laid out."""
    scratch: Array
    """int64, (n,): level, value and number of the bits of a segment while it is prepared."""
    ranks: Array
    """int32, (66,): how many bits of a segment have a rank."""
    now: Array
    """int64, (4,): `WAVE_NOW` and so on."""

    @classmethod
    def of(
        cls, bit_count: int, passes: int, error_rate: float, capacity: int, memory: Workspace, *, traces: bool
    ) -> "Partition":
        """A partition without passes, for `capacity` segments at most; every bit is wrong with `error_rate`.

        `traces`: whether bits can be found in their segments, as who changes them must.
        """
        level = memory.array("level", bit_count, np.uint8)
        level[:] = min(CERTAIN - 1, max(0, round(-PER_OCTAVE * log2(error_rate / (1 - error_rate)))))
        places = passes * bit_count
        return cls(
            level=level,
            order=memory.array("order", places, np.int32),
            where=memory.array("where", places if traces else 0, np.int32),
            bits=memory.array("bits", places, np.uint8),
            owner=memory.array("owner", places if traces else 0, np.int32),
            mass=memory.array("mass", places, np.int32),
            segments=memory.array("segments", 8 * capacity, np.int32).reshape(capacity, 8),
            opening=np.zeros(passes, np.int64),
            made=memory.array("made", 2 * capacity, np.int32),
            prepared=memory.array("prepared", capacity, np.int32),
            kinds=memory.array("kinds", bit_count, np.uint16),
            scratch=memory.array("scratch", bit_count, np.int64),
            ranks=np.zeros(66, np.int32),
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
            c = level[i] // _LEVELS_PER_CLASS
            kinds[i] = c << 1 | bits[i]
            ends[c + 1] += 1
    for c in range(1, len(ends)):
        ends[c] += ends[c - 1]


@kernel
def _draw_order(keys: Array, kinds: Array, ends: Array, order: Array, where: Array, values: Array) -> None:
    """Lay out a pass class by class, at random within one; `ends` comes with the starts of the classes."""
    n, traced = len(kinds), len(where) > 0
    width = width_of(n)
    images, where_at = np.empty(min(CHUNK, 1 << width), np.uint32), address_of(where)
    for first in range(0, 1 << width, len(images)):
        count = mix(first, keys, width, n, images)
        for j in range(count):
            i = images[j]
            if traced:
                prefetch(where_at + 4 * np.int64(images[min(j + 16, count - 1)]))
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
    s = now[COUNT]
    now[COUNT] = s + 1
    segments[s, START], segments[s, END], segments[s, PASS] = start, end, p
    segments[s, EVIDENCE], segments[s, WAVE] = 0, 0
    if len(owner):
        for place in range(start, end):
            owner[place] = s


@inlined
def _raised(level: Any, more: Any) -> Any:
    sum_: Any = np.int32(level) + np.int32(more)
    return np.uint8(CERTAIN if level == CERTAIN else min(max(sum_, 0), CERTAIN - 1))


@kernel
def _raise_levels(state: Partition, p: int, weight: int) -> None:
    """Add the evidence of even blocks of `weight` to all bits."""
    evidence = _evidence(weight)
    state.opening[p] = evidence
    state.now[PASSES_OPEN] = p + 1
    level = state.level
    for i in range(len(level)):
        level[i] = _raised(level[i], evidence)


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
    first = now[COUNT]
    _draw_order(keys, state.kinds, ends, state.order, state.where[base : base + n], state.bits)
    start, place, weight = base, base, 0
    for c in range(len(ends)):
        each = WEIGHTS[min(c * _LEVELS_PER_CLASS + _LEVELS_PER_CLASS // 2, CERTAIN - 1)]
        while place < ends[c]:
            more = min((target - weight + each - 1) // each, ends[c] - place)
            place += more
            weight += more * each
            if weight >= target and now[COUNT] < len(segments):
                _add_block(p, start, place, owner, segments, now)
                start, weight = place, 0
    if start < place and now[COUNT] < len(segments):
        _add_block(p, start, place, owner, segments, now)
    _raise_levels(state, p, target)
    return _block_parities(state, first)


@kernel
def _block_parities(state: Partition, first: int) -> Array:
    """Parities of the segments from `first` on."""
    bits, segments, count = state.bits, state.segments, state.now[COUNT]
    out = np.empty(count - first, np.uint8)
    for s in range(first, count):
        x = np.uint8(0)
        for place in range(np.uint64(segments[s, START]), np.uint64(segments[s, END])):
            x ^= bits[place]
        out[s - first] = x
    return out


@kernel
def total_weight(state: Partition, enough: int) -> int:
    """Expected errors among all bits, as far as both ends know; not counted further than `enough`."""
    settle_levels(state)
    total = 0
    for level in state.level:
        total += WEIGHTS[level]
        if total >= enough:
            break
    return total


@kernel
def settle_levels(state: Partition) -> None:
    """End a wave: bring levels up to date with the segments divided and made since the last one ended."""
    level, order, mass, prepared = state.level, state.order, state.mass, state.prepared
    segments, opening, now = state.segments, state.opening, state.now
    level_at, order_at, mass_at = address_of(level), address_of(order), address_of(mass)
    for j in range(now[PREPARED]):
        if j + 2 < now[PREPARED]:
            start = segments[prepared[j + 2], START]
            for place in range(start, start + _FETCHED_AHEAD // 4, 16):
                prefetch(order_at + 4 * place)
                prefetch(mass_at + 4 * place)
        if j + 1 < now[PREPARED]:
            start = segments[prepared[j + 1], START]
            for place in range(start, min(start + _FETCHED_AHEAD // 4, len(order))):
                prefetch(level_at + order[place])
        s = prepared[j]
        if segments[s, NEXT] < 0:
            continue
        # From part to part by place: what is read lies side by side.
        while s >= 0:
            start, live, old = segments[s, START], segments[s, LIVE], segments[s, EVIDENCE]
            if old == SINGLE:
                level[order[start]] = CERTAIN
            else:
                weight = np.int64(mass[start + live - 1] - segments[s, BEFORE])
                evidence = _evidence(weight - weight // live) - opening[segments[s, PASS]]
                segments[s, EVIDENCE] = evidence
                more = evidence - old
                for place in range(np.uint64(start), np.uint64(start + live)):
                    i = order[place]
                    level[i] = _raised(level[i], more)
            s = segments[s, NEXT]
    now[WAVE_NOW] += 1
    now[PREPARED] = 0


@kernel
def _common_pass(state: Partition, asked: Array) -> Any:
    """The pass that all segments belong to, -1 if there are several, -2 if names do not rise or name nothing."""
    segments, count = state.segments, state.now[COUNT]
    last, common = -1, np.int32(-3)
    for s in asked:
        if s <= last or s >= count:
            return -2
        last = s
        p = segments[s, PASS]
        if p != common:
            common = p if common == -3 else np.int32(-1)
    return np.int64(common)


@kernel
def _prepare(state: Partition, asked: Array) -> None:  # noqa: PLR0912, PLR0915 (one loop, compiled as one)
    """Sort each segment by rank, likeliest wrong first and certain bits last, and sum up its expected errors.

    Ranks are steps of half an octave of the level; bits of equal rank stay as they stand.
    """
    level, order, where, bits, mass = state.level, state.order, state.where, state.bits, state.mass
    scratch, ranks, segments, wave = state.scratch, state.ranks, state.segments, state.now[WAVE_NOW]
    level_at, order_at, where_at = address_of(level), address_of(order), address_of(where)
    bits_at, mass_at = address_of(bits), address_of(mass)
    for j in range(len(asked)):
        # Segments asked about lie far apart: what comes next is fetched meanwhile.
        if j + 2 < len(asked) and segments[asked[j + 2], WAVE] != wave:
            s = asked[j + 2]
            start = segments[s, START]
            end = min(segments[s, END], start + _FETCHED_AHEAD)
            for place in range(start, end, 16):
                prefetch(order_at + 4 * place)
                prefetch(mass_at + 4 * place)
            for place in range(start, end, 64):
                prefetch(bits_at + place)
        if j + 1 < len(asked) and segments[asked[j + 1], WAVE] != wave:
            s = asked[j + 1]
            start = segments[s, START]
            base = segments[s, PASS] * len(level)
            for place in range(start, min(segments[s, END], start + _FETCHED_AHEAD)):
                prefetch(level_at + order[place])
                if len(where):
                    prefetch(where_at + 4 * (base + order[place]))
        s = asked[j]
        if segments[s, WAVE] == wave:
            continue
        start, old = segments[s, START], segments[s, EVIDENCE]
        size = segments[s, END] - start
        previous, live, in_order = 0, 0, True
        first, last = _CERTAIN_RANK, 0
        for k in range(size):
            i = order[start + k]
            found: Any = np.int64(level[i])
            certain = found == CERTAIN
            rank: Any = _CERTAIN_RANK if certain else found // _LEVELS_PER_RANK
            live += not certain
            in_order &= rank >= previous
            previous = rank
            first, last = min(first, rank), max(last, rank)
            scratch[k] = rank << 56 | max(found - old, 0) << 40 | np.int64(bits[start + k]) << 32 | i
        weight = 0
        if in_order:
            for k in range(live):
                weight += WEIGHTS[scratch[k] >> 40 & 0xFFFF]
                mass[start + k] = weight
        else:
            ranks[first : last + 2] = 0
            for k in range(size):
                ranks[(scratch[k] >> 56) + 1] += 1
            for rank in range(first, last):
                ranks[rank + 1] += ranks[rank]
            base = segments[s, PASS] * len(level)
            for k in range(size):
                packed = scratch[k]
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
        segments[s, LIVE], segments[s, BEFORE], segments[s, WAVE], segments[s, NEXT] = live, 0, wave, -1
        state.prepared[state.now[PREPARED]] = s
        state.now[PREPARED] += 1


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
    bits, owner, mass, segments, made = state.bits, state.owner, state.mass, state.segments, state.made
    now = state.now
    out = np.empty(len(asked) * ((1 << levels) - 1), np.uint8)
    told, new, wave = 0, now[COUNT], now[WAVE_NOW]
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
                segments[new, WAVE], segments[new, PASS] = wave, segments[s, PASS]
                segments[new, NEXT], segments[s, NEXT] = segments[s, NEXT], new
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
                made[2 * told], made[2 * told + 1] = s, new
                told += 1
                family[grown] = new
                grown += 1
                new += 1
    now[COUNT] = new
    return common, out[:told]
