# ruff: noqa: F821, D103  viper's types; contracts are in kernels_bytecode.py; max() would make objects
# mypy: ignore-errors
# This is MicroPython.
"""The controllers' hot loops in viper: 32-bit words that wrap. kernels_bytecode.py does the same and has contracts."""

import micropython


@micropython.viper
def draw(random: ptr8, table: ptr8, states: ptr8, n: int):
    for slot in range(n):
        low: int = random[2 * slot]
        states[slot] = table[random[2 * slot + 1] << 4 | low >> 4] | (low & 1)


@micropython.viper
def translate(states: ptr8, table: ptr8, out: ptr8, n: int):
    for slot in range(n):
        out[slot] = table[states[slot]]


@micropython.viper
def store(states: ptr8, ring: ptr8, at: int, n: int):
    for i in range(n >> 1):
        ring[at + i] = states[2 * i] | states[2 * i + 1] << 4


@micropython.viper
def copy_ring(ring: ptr32, first: int, mask: int, out: ptr32, n: int):
    for i in range(n):
        out[i] = ring[(first + i) & mask]


@micropython.viper
def merge(tags: ptr32, state: ptr32, times: ptr32, channels: ptr8) -> int:
    base: int = state[10]
    room: int = state[12]
    n: int = 0
    state[14] = 0
    while n < room:
        first: int = state[11]
        channel: int = -1
        c: int = 0
        while c < 5:
            at: int = state[c]
            end: int = state[5 + c]
            if at < end:
                gap: int = tags[at] - base
                if gap < 0:
                    state[13] += 1
                    state[c] = at + 1
                    if at + 1 == end:
                        return n
                    continue
                if gap < first:
                    first = gap
                    channel = c
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


@micropython.viper
def take_clicks(times: ptr32, channels: ptr8, ticks: ptr32, detectors: ptr8, state: ptr32):
    at: int = state[3]
    offset: int = state[2]
    for i in range(int(state[0]), int(state[1])):
        ticks[at] = times[i] + offset
        detectors[at] = channels[i]
        at += 1
    state[3] = at


@micropython.viper
def to_slots(ticks: ptr32, detectors: ptr8, n: int, state: ptr32) -> int:
    slots: int = state[0]
    per: int = int(state[1]) // slots
    rest: int = int(state[1]) - per * slots
    kept: int = 0
    for i in range(n):
        tick: int = ticks[i]
        k: int = tick // per
        begins: int = k * per + (k * rest + slots - 1) // slots
        while begins > tick:
            k -= 1
            begins = k * per + (k * rest + slots - 1) // slots
        phase: int = tick - begins
        if phase >= int(state[2]) and phase < int(state[3]):
            ticks[kept] = k
            detectors[kept] = detectors[i]
            kept += 1
    return kept


@micropython.viper
def pack(values: ptr32, lows: ptr8, words: ptr8, state: ptr32) -> int:
    i: int = state[0]
    at: int = state[2]
    last: int = state[4]
    shift: int = state[7]
    skip: int = state[8]
    while i < int(state[1]):
        value: int = values[i]
        if value < int(state[5]):
            state[6] += 1
            i += 1
            continue
        gap: int = value - last
        need: int = 2
        left: int = gap
        while left >= skip:
            left -= skip
            need += 2
        if at + need > int(state[3]):
            break
        word: int = skip << shift
        while gap >= skip:
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
    state[2] = at
    state[4] = last
    return i


@micropython.viper
def stuff(data: ptr8, n: int, out: ptr8) -> int:
    code: int = 0
    at: int = 1
    for i in range(n):
        byte: int = data[i]
        if byte:
            out[at] = byte
            at += 1
        if byte == 0 or at - code == 255:
            out[code] = at - code
            code = at
            at += 1
    out[code] = at - code
    return at
