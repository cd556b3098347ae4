"""The controllers' hot loops in plain Python: what kernels_viper.py does, where there is no viper, and its contract.

Times are 32-bit words. Buffers are written where the arguments say; nothing is checked.
"""

from qepa_wire import cobs

_WRAP = 0xFFFFFFFF
_SIGN = 1 << 31


def draw(random, table, states, n):
    """Fill n `states`, one a byte, from 2 bytes of `random` each: 12 bits choose from the table, one is the value."""
    for slot in range(n):
        low = random[2 * slot]
        states[slot] = table[random[2 * slot + 1] << 4 | low >> 4] | (low & 1)


def translate(states, table, out, n):
    """out[i] = table[states[i]] for n bytes."""
    for slot in range(n):
        out[slot] = table[states[slot]]


def store(states, ring, at, n):
    """Put n states, an even number, into the ring from byte `at`, two a byte."""
    for i in range(n >> 1):
        ring[at + i] = states[2 * i] | states[2 * i + 1] << 4


def copy_ring(ring, first, mask, out, n):
    """out[i] = little-endian word (first + i) & mask of the bytes `ring`."""
    for i in range(n):
        at = 4 * ((first + i) & mask)
        out[i] = ring[at] | ring[at + 1] << 8 | ring[at + 2] << 16 | ring[at + 3] << 24


def merge(tags, state, times, channels):
    """Merge five queues of tags by time; returns how many events are in `times` (since the base) and `channels`.

    `state`: 0-4 where each queue goes on in `tags`, 5-9 where it ends, 10 base, 11 horizon since the base, 12 room in
    the output, 13 counts tags older than the base, 14 is 1 when all that is older than the horizon has been merged.
    Where a queue ends it returns, for the caller to fill it.
    """
    base, n = state[10], 0
    state[14] = 0
    while n < state[12]:
        first, channel, c = state[11], -1, 0
        while c < 5:
            at = state[c]
            if at < state[5 + c]:
                gap = (tags[at] - base) & _WRAP
                if gap >= _SIGN:
                    state[13] += 1
                    state[c] = at + 1
                    if at + 1 == state[5 + c]:
                        return n
                    continue
                if gap < first:
                    first, channel = gap, c
            c += 1
        if channel < 0:
            state[14] = 1
            return n
        times[n] = first
        channels[n] = channel
        n += 1
        state[channel] += 1
        if state[channel] == state[5 + channel]:
            return n
    return n


def take_clicks(times, channels, ticks, detectors, state):
    """Append events state[0] to state[1] at state[3] of ticks and detectors, state[2] added to each time."""
    at, offset = state[3], state[2]
    for i in range(state[0], state[1]):
        ticks[at] = times[i] + offset & _WRAP
        detectors[at] = channels[i]
        at += 1
    state[3] = at


def to_slots(ticks, detectors, n, state):
    """Turn n ticks since a sync pulse into slots since then, in place; returns how many are in the gate.

    `state`: slots and ticks to the next sync pulse, the gate's begin and end in ticks since the slot began. Slot k
    begins at k * ticks / slots, rounded up, here without a product beyond 32 bits: slots are at most 46,340.
    """
    slots = state[0]
    per = state[1] // slots
    rest = state[1] - per * slots
    kept = 0
    for i in range(n):
        tick = ticks[i]
        k = tick // per
        begins = k * per + (k * rest + slots - 1) // slots
        while begins > tick:
            k -= 1
            begins = k * per + (k * rest + slots - 1) // slots
        if state[2] <= tick - begins < state[3]:
            ticks[kept] = k
            detectors[kept] = detectors[i]
            kept += 1
    return kept


def pack(values, lows, words, state):
    """Write events as words `gap << shift | low`, long gaps as words `skip << shift` before; returns where it stopped.

    `state`: 0 first event, 1 the one after the last, 2 where in `words`, 3 its length, 4 value before, 5 least value
    (smaller ones are dropped), 6 counts those, 7 shift, 8 skip. It stops before an event that does not fit.
    """
    i, at, last, shift, skip = state[0], state[2], state[4], state[7], state[8]
    while i < state[1]:
        value = values[i]
        if value < state[5]:
            state[6] += 1
            i += 1
            continue
        gap = value - last
        if at + 2 * (gap // skip + 1) > state[3]:
            break
        while gap >= skip:
            word = skip << shift
            words[at] = word & 0xFF
            words[at + 1] = word >> 8
            at += 2
            gap -= skip
        word = gap << shift | lows[i]
        words[at] = word & 0xFF
        words[at + 1] = word >> 8
        at += 2
        last = value
        i += 1
    state[2], state[4] = at, last
    return i


def stuff(data, n, out):
    """COBS: write n bytes of `data` without zeros to `out`, which has n // 254 + 1 bytes more; returns the length."""
    encoded = cobs.encode(bytes(memoryview(data)[:n]))
    out[: len(encoded)] = encoded
    return len(encoded)
