"""From pulses to clicks, one click at a time: the compiled part of the bench.

Only what may click is drawn. Photon numbers of a weak coherent pulse are Poissonian and stay so after loss, so the
photons that could be detected from all pulses are one Poisson process with the rate of the brightest pulse; each is
kept with the share that its own pulse has of that rate (thinning, Lewis and Shedler 1979), which is exact. A pulse
is a hash of its number, computed for those slots only. Noise is a second process, and afterpulses wait in line.

Photons are drawn ahead, a block at a time into a queue: that loop has next to no branch a processor cannot foresee.
"""

from collections.abc import Callable
from math import exp, log
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import inlined, kernel
from qepa_tools.bench import ziggurat

Slots = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

NEVER: Final = 1 << 62
PHOTON, NOISE = 0, 1
PHOTONS, OTHERS = 0, 1
"""The two streams of random numbers in `Memory.random`: when photons arrive, and everything else."""
UNDISTURBED, INTERCEPTED, SPLIT, BLINDED, SHIFTED = range(5)
LEAST_RATE: Final = 1e-15
"""Per slot; a process that is slower never happens."""
CLICKS_OF_A_SLOT: Final = 16
"""Room that `clicks` keeps free, so that it never stops inside a slot."""
NEXT, PENDING, LAST, HEAD, TAIL, TALLY = 0, 2, 6, 10, 11, 12
"""Parts of `Memory.slots`: next photon not yet queued and next noise click, afterpulse to come and last click by
detector, where the queue begins and ends, then counts."""
DEAD, DOUBLE = TALLY + 4, TALLY + 5
"""Counts of detections lost to dead time and of slots with several clicks; the clicks of each detector come before."""
_LAST_PS = 2
_BLOCK = 256
"""Slots with candidates that are drawn at a time."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_11, _27, _30, _31, _32, _48 = (np.uint64(n) for n in (11, 27, 30, 31, 32, 48))
_LAYER, _SIGN, _LOW_32 = np.uint64(255), np.uint64(256), np.uint64(0xFFFFFFFF)
_GAP_WIDTHS, _GAP_HEIGHTS = ziggurat.exponential_layers()
_JITTER_WIDTHS, _JITTER_HEIGHTS = ziggurat.normal_layers()
_GAP_TAIL, _JITTER_TAIL = ziggurat.EXPONENTIAL_TAIL, ziggurat.NORMAL_TAIL


def _kernel(function: _Function) -> _Function:
    """Compile `function` without counting references to arrays.

    Kernels here only borrow the caller's arrays. Counting is an atomic step each time one is passed on, and would take
    more than half of the time. Numba's switch for it has no public name.
    """
    return kernel(function, _nrt=False)


class Light(NamedTuple):
    """What stays the same for a while. Rates are per slot; times are picoseconds from the middle of a slot.

    Numbers only: numba counts references to every array in a tuple that is passed on, and looks a varying index into a
    tuple up by branching.
    """

    key: Any
    """uint64: makes slot numbers into states."""
    photons: float
    """Candidates: mean photons of the brightest pulse that reach the point where sampling begins."""
    passing: float
    """Probability that a candidate of an undisturbed pulse reaches the best detector and is seen."""
    noise: float
    """Dark counts and stray light, all detectors together."""
    period_ps: float
    gate_ps: float
    dead_ps: float
    afterpulse: float
    afterpulse_ps: float
    misalignment: float
    key_basis: float
    jitter_ps: float
    window_ps: float
    mismatch_ps: float
    attack: int
    fraction: float
    """Share of pulses that the attacker touches."""
    first_number: float
    second_number: float
    """Parameters of the attack, see `attackers`."""
    fading_slots: int
    """Slots for which one value of the beam's fading stands."""


class Memory(NamedTuple):
    """What goes on from one stretch to the next; the arrays change in place."""

    random: Words
    slots: Slots
    parts: Floats
    """Fractions of a slot that the next arrivals lie beyond theirs, then the offset of each detector's last click."""
    queue: Slots
    """Slots with photons, in order: slot, state, how many."""


def new_memory(*seeds: int) -> Memory:
    """Return the memory of a bench at rest, of two seeds. `arrive` must set the first arrivals."""
    slots = np.zeros(TALLY + 6, np.int64)
    slots[PENDING:LAST], slots[LAST:HEAD] = NEVER, -(1 << 40)
    return Memory(np.array(seeds, np.uint64), slots, np.zeros(6), np.zeros((_BLOCK, 3), np.int64))


def _inlined(function: _Function) -> _Function:
    """Make `function` part of the kernel that calls it: it is called for every photon, with a tuple of many numbers."""
    return inlined(function, _nrt=False)


@_kernel
def _mix(z: Any) -> Any:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


@_kernel
def _state(key: Any, table: Bytes, slot: int) -> int:
    return int(table[_mix(key + np.uint64(slot) * _GOLDEN) >> _48])


@_kernel
def slot_states(key: Any, table: Bytes, slots: Slots, states: Bytes) -> None:
    """Write the state of each of `slots` into `states`: SplitMix64 by counter, its upper 16 bits look up the table."""
    for i in range(len(slots)):
        states[i] = _state(key, table, slots[i])


@_kernel
def _upper(word: Any) -> float:
    """Make a fraction of the upper 53 bits; signed integers convert faster."""
    return float(np.int64(word >> _11)) * 2.0**-53


@_kernel
def _fraction(counter: Any) -> float:
    return _upper(_mix(counter))


@_kernel
def _word(random: Words) -> Any:
    random[OTHERS] += _GOLDEN
    return _mix(random[OTHERS])


@_kernel
def _uniform(random: Words) -> float:
    return _upper(_word(random))


@_kernel
def _gap(counter: Any) -> tuple[float, Any]:
    """Return an exponential variate of mean 1, by ziggurat, and the counter after it."""
    while True:
        counter += _GOLDEN
        word = _mix(counter)
        layer = np.int64(word & _LAYER)
        x = _upper(word) * _GAP_WIDTHS[layer]
        if x < _GAP_WIDTHS[layer + 1]:
            return x, counter
        counter += _GOLDEN
        u = _fraction(counter)
        if layer == 0:
            return _GAP_TAIL - log(1.0 - u), counter
        if _GAP_HEIGHTS[layer] + u * (_GAP_HEIGHTS[layer + 1] - _GAP_HEIGHTS[layer]) < exp(-x):
            return x, counter


@_kernel
def arrive(random: Words, memory: Slots, parts: Floats, kind: int, rate: float) -> None:
    """Move on to the next arrival of a process of `rate` per slot."""
    if rate < LEAST_RATE:
        memory[NEXT + kind] = NEVER
        return
    gap = parts[kind] - log(1.0 - _uniform(random)) / rate
    whole = int(gap)
    memory[NEXT + kind] += whole
    parts[kind] = gap - whole


@_kernel
def _jitter_tail(random: Words) -> float:
    """Return a standard normal variate beyond the lowest layer (Marsaglia 1964)."""
    while True:
        x = -log(1.0 - _uniform(random)) / _JITTER_TAIL
        if -2.0 * log(1.0 - _uniform(random)) > x * x:
            return _JITTER_TAIL + x


@_kernel
def _jitter(light: Light, random: Words) -> float:
    """Return a normal variate of `light.jitter_ps`, by ziggurat."""
    if light.jitter_ps == 0.0:
        return 0.0
    while True:
        word = _word(random)
        layer = np.int64(word & _LAYER)
        scale = light.jitter_ps if word & _SIGN else -light.jitter_ps
        x: float = _upper(word) * _JITTER_WIDTHS[layer]
        if x < _JITTER_WIDTHS[layer + 1]:
            return scale * x
        if layer == 0:
            return scale * _jitter_tail(random)
        u = _uniform(random)
        if _JITTER_HEIGHTS[layer] + u * (_JITTER_HEIGHTS[layer + 1] - _JITTER_HEIGHTS[layer]) < exp(-0.5 * x * x):
            return scale * x


@_kernel
def _see(
    light: Light, random: Words, memory: Slots, parts: Floats, slot: int, detector: int, ps: float, out: Slots, n: int
) -> int:
    """Enter a detection that may meet a dead detector; return the number of clicks so far."""
    last = memory[LAST + detector]
    if last == slot or (slot - last) * light.period_ps + ps - parts[_LAST_PS + detector] <= light.dead_ps:
        memory[DEAD] += 1
        return n
    memory[LAST + detector], parts[_LAST_PS + detector] = slot, ps
    memory[TALLY + detector] += 1
    if light.attack != BLINDED and _uniform(random) < light.afterpulse:
        delay_ps = light.dead_ps - light.afterpulse_ps * log(1.0 - _uniform(random))
        memory[PENDING + detector] = slot + 1 + int(delay_ps / light.period_ps)
    if n > 0 and out[n - 1, 0] == slot and (n < 2 or out[n - 2, 0] != slot):
        memory[DOUBLE] += 1
    i = n
    while i > 0 and out[i - 1, 0] == slot and out[i - 1, 2] > ps:
        out[i, 0], out[i, 1], out[i, 2] = slot, out[i - 1, 1], out[i - 1, 2]
        i -= 1
    out[i, 0], out[i, 1], out[i, 2] = slot, detector, int(ps)
    return n + 1


@_kernel
def _fake_state(
    light: Light, random: Words, memory: Slots, parts: Floats, slot: int, state: int, out: Slots, n: int
) -> int:
    """Eve measured this pulse and sends a bright one: a detector clicks if more than its threshold reaches it."""
    basis = 0 if _uniform(random) < light.key_basis else 1
    value = state & 1 if basis == (state >> 1 & 1) else int(_uniform(random) < 0.5)
    own = light.key_basis if basis == 0 else 1.0 - light.key_basis
    power = light.first_number / own
    ps = _jitter(light, random)
    if abs(ps) > light.gate_ps / 2:
        return n
    for detector in range(4):
        if detector >> 1 == basis:
            light_here = power * own if detector & 1 == value else 0.0
        else:
            light_here = power * (1.0 - own) / 2
        if light_here > 1.0:
            n = _see(light, random, memory, parts, slot, detector, ps, out, n)
    return n


@_inlined
def _photons(
    light: Light,
    efficiencies: Floats,
    fading: float,
    random: Words,
    memory: Slots,
    parts: Floats,
    slot: int,
    state: int,
    number: int,
    out: Slots,
    n: int,
) -> int:
    """`number` candidates of one pulse on their way from the transmitter into the detectors."""
    value, basis = state & 1, state >> 1 & 1
    passing, shift_ps = light.passing, 0.0
    if light.attack != UNDISTURBED and _uniform(random) < light.fraction:
        if light.attack == INTERCEPTED:
            eve_basis = int(_uniform(random) < 0.5)
            if eve_basis != basis:
                value, basis = int(_uniform(random) < 0.5), eve_basis
        elif light.attack == SHIFTED:
            shift_ps = -light.first_number if _uniform(random) < light.second_number else light.first_number
        elif number > 1:
            number, passing = number - 1, light.second_number
        elif _uniform(random) < light.first_number:
            return n
        else:
            passing = light.second_number
    passing *= fading
    for _ in range(number):
        if passing < 1.0 and _uniform(random) >= passing:
            continue
        # One word decides both: their probabilities are rounded to 2^-32.
        word = _word(random)
        receiver_basis = int(float(np.int64(word & _LOW_32)) * 2.0**-32 >= light.key_basis)
        wrong = light.misalignment if receiver_basis == basis else 0.5
        detector = receiver_basis << 1 | (value ^ int(float(np.int64(word >> _32)) * 2.0**-32 < wrong))
        # A detector that is dead whatever the jitter needs none drawn.
        if (slot - memory[LAST + detector]) * light.period_ps + light.gate_ps <= light.dead_ps:
            memory[DEAD] += 1
            continue
        ps = shift_ps + _jitter(light, random)
        seen = efficiencies[detector]
        if light.window_ps > 0.0:
            late = ps - (light.mismatch_ps / 2 if detector & 1 else -light.mismatch_ps / 2)
            seen *= exp(-0.5 * (late / light.window_ps) ** 2)
        if abs(ps) <= light.gate_ps / 2 and (seen >= 1.0 or _uniform(random) < seen):
            n = _see(light, random, memory, parts, slot, detector, ps, out, n)
    return n


@_kernel
def _next_other(memory: Slots) -> int:
    """The slot of the next noise click or afterpulse."""
    afterpulse = min(memory[PENDING], memory[PENDING + 1], memory[PENDING + 2], memory[PENDING + 3])
    return int(min(memory[NEXT + NOISE], afterpulse))


@_kernel
def _others(light: Light, random: Words, memory: Slots, parts: Floats, slot: int, out: Slots, n: int) -> int:
    """Noise clicks and afterpulses of `slot`."""
    for detector in range(4):
        if memory[PENDING + detector] == slot:
            memory[PENDING + detector] = NEVER
            ps = (_uniform(random) - 0.5) * light.gate_ps
            n = _see(light, random, memory, parts, slot, detector, ps, out, n)
    while memory[NEXT + NOISE] == slot:
        ps = (_uniform(random) - 0.5) * light.gate_ps
        n = _see(light, random, memory, parts, slot, int(4 * _uniform(random)), ps, out, n)
        arrive(random, memory, parts, NOISE, light.noise)
    return n


@_inlined
def _draw_photons(
    light: Light, table: Bytes, shares: Floats, random: Words, memory: Slots, parts: Floats, queue: Slots
) -> int:
    """Fill `queue` anew, from the next photon on; return how many slots it holds now, none if all candidates fell."""
    tail, counter, spacing = 0, random[PHOTONS], 1.0 / light.photons
    # Counted from a base, so that a slot number waits for one addition only.
    base, position = memory[NEXT + PHOTON], parts[PHOTON]
    slot = base
    for _ in range(_BLOCK):
        here, number = slot, 0
        state = _state(light.key, table, here)
        share = shares[state >> 2]
        while slot == here:
            counter += _GOLDEN
            number += int(_fraction(counter) < share)
            gap, counter = _gap(counter)
            position += gap * spacing
            slot = base + int(position)
        queue[tail, 0], queue[tail, 1], queue[tail, 2] = here, state, number
        tail += int(number > 0)
    memory[NEXT + PHOTON], parts[PHOTON], random[PHOTONS] = slot, position - int(position), counter
    return tail


@_kernel
def clicks(
    light: Light,
    table: Bytes,
    shares: Floats,
    efficiencies: Floats,
    fading: Floats,
    fading_first: int,
    random: Words,
    memory: Slots,
    parts: Floats,
    queue: Slots,
    stop_slot: int,
    out: Slots,
) -> int:
    """Go on to `stop_slot` or until `out` is full; return the number of rows (slot, detector, offset in ps) written.

    Slots are those of the pulses, offsets count from their middle; rows are sorted. `shares` are the intensities, by
    the two bits of a state, relative to the brightest; `efficiencies` those of the four detectors, relative to the
    best. `fading` begins at step `fading_first` of `light.fading_slots`. The light of one slot is never split between
    calls, and how often this is called changes nothing.
    """
    n = 0
    head, tail, other = memory[HEAD], memory[TAIL], _next_other(memory)
    transmitted, faded_until = 1.0, -1
    while n < len(out) - CLICKS_OF_A_SLOT:
        while head == tail and memory[NEXT + PHOTON] < stop_slot:
            head, tail = 0, _draw_photons(light, table, shares, random, memory, parts, queue)
        photon_slot = queue[head, 0] if head < tail else memory[NEXT + PHOTON]
        slot = min(photon_slot, other)
        if slot >= stop_slot:
            break
        if slot != photon_slot:
            n = _others(light, random, memory, parts, slot, out, n)
            other = _next_other(memory)
            continue
        state, number, before = queue[head, 1], queue[head, 2], n
        head += 1
        if light.attack == BLINDED:
            n = _fake_state(light, random, memory, parts, slot, state, out, n)
        else:
            if slot >= faded_until:
                step = slot // light.fading_slots
                transmitted, faded_until = fading[step - fading_first], (step + 1) * light.fading_slots
            n = _photons(light, efficiencies, transmitted, random, memory, parts, slot, state, number, out, n)
        if n != before:
            other = _next_other(memory)
    memory[HEAD], memory[TAIL] = head, tail
    return n
