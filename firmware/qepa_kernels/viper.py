# ruff: noqa: F821, D103, PLR0915, PLR1730  viper's types; contracts are in bytecode.py; max() would make objects
# mypy: ignore-errors
# This is MicroPython, built to native.mpy and never imported as a source.
"""The kernels in viper, for `mpy-cross -march`: contracts in bytecode.py, which does the same in plain Python.

Viper's words are the processor's 32 bits and wrap. ptr16 reads unsigned words; `(v ^ 32768) - 32768` gives
them their sign. A 64-bit build of MicroPython would compute other words.
"""

import micropython
from micropython import const

_MASK = const(2047)  # RING - 1


@micropython.viper
def add32(total: ptr32, words: ptr32, n: int):
    for k in range(n):
        total[k] += words[k]


@micropython.viper
def add64(total: ptr32, words: ptr32, first: int, n: int):
    k: int = first
    end: int = first + 2 * n
    while k < end:
        low: uint = uint(total[k]) + uint(words[k])
        carry: int = 1 if low < uint(words[k]) else 0
        total[k] = int(low)
        total[k + 1] = int(total[k + 1]) + int(words[k + 1]) + carry
        k += 2


@micropython.viper
def check_sums(coefficients: ptr32, values: ptr32, n: int, out: ptr32, first: int):
    c: int = 0
    for half in range(2):
        low: uint = uint(0)
        high: int = 0
        c = 2 * half
        for k in range(n):
            value: int = int(values[k])
            if value:
                a: int = int(coefficients[c])
                # Unsigned a times unsigned value in 64 bits from halves of 16, then what the sign of value takes back.
                al: int = a & 0xFFFF
                ah: int = (a >> 16) & 0xFFFF
                vl: int = value & 0xFFFF
                vh: int = (value >> 16) & 0xFFFF
                middle: uint = uint(ah * vl) + (uint(al * vl) >> 16)
                rest: uint = uint(al * vh) + (middle & 0xFFFF)
                high += ah * vh + int(middle >> 16) + int(rest >> 16) + int(coefficients[c + 1]) * value
                if value < 0:
                    high -= a
                part: uint = uint(a * value)
                low += part
                if low < part:
                    high += 1
            c += 4
        out[first + 2 * half] = int(low)
        out[first + 2 * half + 1] = high


@micropython.viper
def fill_counters(blocks: ptr32, prefix: ptr32, n: int):
    first: int = int(prefix[0])
    second: int = int(prefix[1])
    third: int = int(prefix[2])
    at: int = 0
    for k in range(n):
        blocks[at] = first
        blocks[at + 1] = second
        blocks[at + 2] = third
        blocks[at + 3] = k
        at += 4


@micropython.viper
def xor(data: ptr8, pad: ptr8, n: int):
    for k in range(n):
        data[k] ^= pad[k]


@micropython.viper
def pack32(out: ptr32, first: int, values: ptr32, n: int):
    for k in range(n):
        out[first + k] = values[k]


@micropython.viper
def dot32(words: ptr32, first: int, x: ptr16, n: int) -> int:
    total: int = 0
    for k in range(n):
        total += int(words[first + k]) * ((int(x[k]) ^ 32768) - 32768)
    return total


@micropython.viper
def descend(words: ptr32, first: int, errors: ptr32, units: int, x: ptr16, n: int, limit: int):
    for u in range(units):
        error: int = int(errors[u])
        if error != 0:
            for k in range(n + 1):
                by: int = 256
                if k < n:
                    by = (int(x[k]) ^ 32768) - 32768
                v: int = int(words[first + k]) - ((error * by + 32768) >> 16)
                if v > limit:
                    v = limit
                if v < 0 - limit:
                    v = 0 - limit
                words[first + k] = v
        first += n + 1


@micropython.viper
def isqrt(value: int) -> int:
    if value <= 0:
        return 0
    root: int = 0
    bit: int = 1
    bit <<= 30  # as a constant it would be an object
    while bit > value:
        bit >>= 2
    while bit:
        if value >= root + bit:
            value -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root


@micropython.viper
def ecg_filter(counts: ptr16, first: int, n: int, envelope: ptr32, clean: ptr16, band: ptr16, state: ptr32):
    at: int = int(state[0])
    base: int = int(state[1])
    u1: int = int(state[2])
    u2: int = int(state[3])
    v1: int = int(state[4])
    v2: int = int(state[5])
    sum1: int = int(state[6])
    sum2: int = int(state[7])
    sum_short: int = int(state[8])
    sum_long: int = int(state[9])
    height: int = int(state[10])
    rails: int = 0
    residual: int = 0
    j: int = int(state[13])
    s: int = int(state[14])
    b0: int = int(state[15])
    b1: int = int(state[16])
    a2: int = int(state[17])
    smooth: int = int(state[18])
    short: int = int(state[19])
    slope: int = int(state[20])
    window: int = int(state[21])
    line1: int = 22
    line2: int = 22 + smooth
    slopes: int = 22 + 2 * smooth
    gain: int = 4096 // (smooth * smooth)
    for k in range(n):
        x: int = (int(counts[first + k]) ^ 32768) - 32768
        if x <= -2040 or x >= 2040:
            rails += 1
            if x < -2048:
                x = -2048
            elif x > 2047:
                x = 2047
        x = (x << 1) - (base >> 7)
        base += x
        v: int = (b0 * (x + u2) + b1 * (u1 - v1) - a2 * v2 + 2048) >> 12
        u2 = u1
        u1 = x
        v2 = v1
        v1 = v
        old: int = int(state[line1 + j])
        state[line1 + j] = v
        sum1 += v - old
        sum2 += sum1 - int(state[line2 + j])
        state[line2 + j] = sum1
        j += 1
        if j == smooth:
            j = 0
        c: int = (sum2 * gain) >> 12
        clean[at] = c
        c = ((c & 65535) ^ 32768) - 32768
        old -= c
        residual += old if old > 0 else 0 - old
        sum_short += (int(clean[(at - 2 * short) & _MASK]) ^ 32768) - (int(clean[(at - 3 * short) & _MASK]) ^ 32768)
        sum_long += c - ((int(clean[(at - 5 * short) & _MASK]) ^ 32768) - 32768)
        c = (5 * sum_short - sum_long) >> 6
        band[at] = c
        c -= (int(band[(at - slope) & _MASK]) ^ 32768) - 32768
        if c < 0:
            c = 0 - c
        height += c - int(state[slopes + s])
        state[slopes + s] = c
        s += 1
        if s == window:
            s = 0
        envelope[k] = height
        at = (at + 1) & _MASK
    state[0] = at
    state[1] = base
    state[2] = u1
    state[3] = u2
    state[4] = v1
    state[5] = v2
    state[6] = sum1
    state[7] = sum2
    state[8] = sum_short
    state[9] = sum_long
    state[10] = height
    state[11] = int(state[11]) + rails
    state[12] = int(state[12]) + residual
    state[13] = j
    state[14] = s


@micropython.viper
def scan_peaks(envelope: ptr32, k: int, n: int, state: ptr32) -> int:
    top: int = int(state[0])
    last: int = int(state[1])
    top_at: int = int(state[2])
    fade: int = int(state[3])
    due: int = int(state[4])
    state[5] = 0
    while k < n:
        v: int = int(envelope[k])
        if v > last and v > top:
            top = v
            top_at = k
        elif top and (v < top >> 1 or k > top_at + fade):
            state[5] = top
            top = 0
        last = v
        if int(state[5]) or k >= due:
            break
        k += 1
    state[0] = top
    state[1] = last
    state[2] = top_at
    return k


@micropython.viper
def ring_span(ring: ptr16, first: int, n: int) -> int:
    high: int = -32768
    low: int = 32767
    for k in range(n):
        v: int = (int(ring[(first + k) & _MASK]) ^ 32768) - 32768
        if v > high:
            high = v
        if v < low:
            low = v
    return high - low


@micropython.viper
def ring_steepest(ring: ptr16, first: int, n: int, step: int) -> int:
    best: int = 0
    for k in range(n):
        d: int = (int(ring[(first + k) & _MASK]) ^ 32768) - (int(ring[(first + k - step) & _MASK]) ^ 32768)
        if d < 0:
            d = 0 - d
        if d > best:
            best = d
    return best


@micropython.viper
def ring_peak(ring: ptr16, first: int, n: int) -> int:
    best: int = -1
    best_at: int = 0
    for k in range(n):
        v: int = (int(ring[(first + k) & _MASK]) ^ 32768) - 32768
        if v < 0:
            v = 0 - v
        if v > best:
            best = v
            best_at = k
    return best_at


@micropython.viper
def qrs_window(ring: ptr16, first: int, offsets: ptr16, x: ptr32, points: int, norms: ptr32, n_lags: int) -> int:
    span: int = points + n_lags - 1
    high: int = 0
    for k in range(span):
        v: int = (int(ring[(first + int(offsets[k])) & _MASK]) ^ 32768) - 32768
        x[k] = v
        if v < 0:
            v = 0 - v
        if v > high:
            high = v
    shift: int = 0
    while high >> shift > 4095:
        shift += 1
    total: int = 0
    square: int = 0
    for k in range(span):
        v: int = int(x[k]) >> shift
        x[k] = v
        if k < points:
            total += v
            square += v * v
    for lag in range(n_lags):
        if lag:
            gone: int = int(x[lag - 1])
            new: int = int(x[lag + points - 1])
            total += new - gone
            square += new * new - gone * gone
        mean: int = total // points
        norm: int = int(isqrt(square - total * mean - (total - mean * points) * total // points))
        norms[lag] = norm if norm else 1
    return shift


@micropython.viper
def correlate(x: ptr32, shape: ptr32, points: int, norms: ptr32, n_lags: int) -> int:
    best: int = -2048
    best_lag: int = 0
    for lag in range(n_lags):
        dot: int = 0
        for k in range(points):
            dot += int(shape[k]) * int(x[lag + k])
        rho: int = dot // int(norms[lag])
        if rho > best:
            best = rho
            best_lag = lag
    if best > 1024:
        best = 1024
    return (best << 4) + best_lag


@micropython.viper
def qrs_shape(x: ptr32, lag: int, points: int, out: ptr32) -> uint:
    level: int = (int(x[lag]) + int(x[lag + 1]) + int(x[lag + 2]) + int(x[lag + 3])) >> 2
    high: int = level
    low: int = level
    slopes: int = 0
    squares: uint = uint(0)
    last: int = int(x[lag])
    for k in range(lag + 1, lag + points):
        v: int = int(x[k])
        if v > high:
            high = v
        if v < low:
            low = v
        d: int = v - last
        last = v
        squares += uint(d * d)
        slopes += d if d > 0 else 0 - d
    out[0] = high
    out[1] = low
    out[2] = level
    out[3] = slopes
    return squares


@micropython.viper
def qrs_adapt(x: ptr32, lag: int, points: int, norm: int, shape: ptr32, first: int):
    total: int = 0
    for k in range(points):
        total += int(x[lag + k])
    mean: int = total // points
    total = 0
    for k in range(points):
        v: int = ((int(x[lag + k]) - mean) << 10) // norm
        if first == 0:
            old: int = int(shape[k])
            v = old + ((v - old) >> 3)
        shape[k] = v
        total += v
    mean = total // points
    square: int = 0
    for k in range(points):
        v: int = int(shape[k]) - mean
        shape[k] = v
        square += v * v
    norm = int(isqrt(square))
    if norm == 0:
        norm = 1
    for k in range(points):
        shape[k] = (int(shape[k]) << 10) // norm
