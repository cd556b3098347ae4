# ruff: noqa: PLR1730  max() and min() are calls, in loops
"""The kernels in plain Python: the fallback where no native code loads, and what CPython runs.

Vectors of words go through long integers, of which MicroPython adds a whole vector in one call of C. Elsewhere values
stay below 2**30 in size as long as the arguments do, above which each would be put on the heap.
"""

import struct
from array import array

_MASK = 2047  # RING - 1
_SMALL = 2**30 - 1


def _wrap(value: int) -> int:
    """value mod 2^32 as a signed word."""
    if -_SMALL <= value <= _SMALL:  # the rest would go over the heap
        return value
    value &= 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


# Vectors of bytes and words


def _add32(a: int, b: int, n: int) -> int:
    """Sum mod 2^32 of n words each in a and b: those at even places, then those at odd ones, have room for carries."""
    even = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * ((n + 1) >> 1), "little")
    odd = even << 32
    return ((a & even) + (b & even)) & even | ((a & odd) + (b & odd)) & odd


def _integer(buffer: "bytes | bytearray | memoryview", n_bytes: int) -> int:
    return int.from_bytes(memoryview(buffer)[:n_bytes], "little")


def add32(total: bytearray, words: "bytes | bytearray", n: int) -> None:
    """total[k] += words[k] mod 2^32 for n words of 32 bits."""
    size = 4 * n
    total[:size] = _add32(_integer(total, size), _integer(words, size), n).to_bytes(size, "little")


def add64(total: bytearray, words: "bytes | bytearray", first: int, n: int) -> None:
    """total[k] += words[k] mod 2^64 for n words of 64 bits that begin at 32-bit word number first of both."""
    for at in range(4 * first, 4 * first + 8 * n, 8):
        both = struct.unpack_from("<Q", total, at)[0] + struct.unpack_from("<Q", words, at)[0]
        struct.pack_into("<Q", total, at, both & 0xFFFFFFFFFFFFFFFF)


def check_sums(coefficients: "bytes | bytearray", values: "array[int]", n: int, out: bytearray, first: int) -> None:
    """Sums of a_kj * values[j] mod 2^64, k = 1, 2, to out as two words of 64 bits at 32-bit word number first.

    coefficients: a_11 a_21 a_12 a_22 ... of 64 bits each; values: array('i').
    """
    one = two = at = 0
    for j in range(n):
        value = values[j]
        if value:
            a1, a2 = struct.unpack_from("<QQ", coefficients, at)
            one += a1 * value
            two += a2 * value
        at += 16
    struct.pack_into("<QQ", out, 4 * first, one & 0xFFFFFFFFFFFFFFFF, two & 0xFFFFFFFFFFFFFFFF)


def fill_counters(blocks: bytearray, prefix: bytes, n: int) -> None:
    """Fill n blocks of 16 bytes with the 12 bytes of prefix and the block's number in 32 bits."""
    blocks[: 16 * n] = bytes(prefix[:12] + b"\0\0\0\0") * n
    at = 12
    for k in range(min(n, 256)):
        blocks[at] = k
        at += 16
    for k in range(256, n):
        struct.pack_into("<I", blocks, at, k)
        at += 16


def xor(data: bytearray, pad: "bytes | bytearray", n: int) -> None:
    """data[k] ^= pad[k] for n bytes."""
    data[:n] = (_integer(data, n) ^ _integer(pad, n)).to_bytes(n, "little")


def pack32(out: bytearray, first: int, values: "array[int]", n: int) -> None:
    """Write n values of array('i') as words from 32-bit word number first of out on."""
    out[4 * first : 4 * (first + n)] = bytes(memoryview(values)[:n])


# Layers and roots


def dot32(words: "array[int]", first: int, x: "array[int]", n: int) -> int:
    """Sum of words[first + k] * x[k] over n words, words an array('i'), x an array('h')."""
    total = 0
    for k in range(n):
        total += words[first] * x[k]
        first += 1
    return _wrap(total)


def descend(
    words: "array[int]", first: int, errors: "array[int]", units: int, x: "array[int]", n: int, limit: int
) -> None:
    """One step of gradient descent for a layer: words[first + (n + 1) u + k] -= (errors[u] x[k] + 2^15) >> 16.

    For each of `units` units n words, one for each x, then that of its bias, whose x is 256; each word is then held
    within +-limit. words, errors: array('i'), x: array('h'); errors[u] * x[k] stays below 2^30 in size.
    """
    for u in range(units):
        error = errors[u]
        if error == 0:
            first += n + 1
            continue
        for k in range(n + 1):
            v = words[first] - ((error * (x[k] if k < n else 256) + 32768) >> 16)
            words[first] = limit if v > limit else -limit if v < -limit else v
            first += 1


def isqrt(value: int) -> int:
    """Floor of the square root of 0 <= value < 2^31; 0 for what is below 0."""
    if value < 2:
        return value if value > 0 else 0
    bits = 0
    v = value
    while v:
        v >>= 2
        bits += 1
    root = 1 << bits
    while True:  # Newton's method from above
        better = (root + value // root) >> 1
        if better >= root:
            return root
        root = better


# ECG: filter, peaks, QRS shapes


def ecg_filter(  # noqa: PLR0915  one loop with local state: a call a stage would cost more than the stages
    counts: "array[int]",
    first: int,
    n: int,
    envelope: "array[int]",
    clean: "array[int]",
    band: "array[int]",
    state: "array[int]",
) -> None:
    """Filter counts[first : first + n] into the rings clean and band and write n words of slope envelope.

    counts: array('h'). state: array('i') of place in the rings, baseline, notch (4), sums (5), rails, residual, places
    in the lines (2), b0, b1, a2, smooth, short, slope, window; then two lines of smooth words and one of window.
    What they mean is said where they are made, in qepa_board/signals/dsp.py.
    """
    # Word by word: a slice would be put on the heap.
    at = state[0]
    base = state[1]
    u1 = state[2]
    u2 = state[3]
    v1 = state[4]
    v2 = state[5]
    sum1 = state[6]
    sum2 = state[7]
    sum_short = state[8]
    sum_long = state[9]
    height = state[10]
    rails = residual = 0
    j = state[13]
    s = state[14]
    b0 = state[15]
    b1 = state[16]
    a2 = state[17]
    smooth = state[18]
    short = state[19]
    slope = state[20]
    window = state[21]
    line2 = 22 + smooth
    slopes = line2 + smooth
    gain = 4096 // (smooth * smooth)
    enter = 2 * short
    leave = 3 * short
    long = 5 * short
    for k in range(n):
        x = counts[first + k]
        if not -2040 < x < 2040:
            rails += 1
            x = -2048 if x < -2048 else 2047 if x > 2047 else x
        x = (x << 1) - (base >> 7)
        base += x
        # |x| <= 8190 and the notch's impulse response sums to less than 3, so v fits 16 bits.
        v = (b0 * (x + u2) + b1 * (u1 - v1) - a2 * v2 + 2048) >> 12
        u2 = u1
        u1 = x
        v2 = v1
        v1 = v
        old = state[22 + j]
        state[22 + j] = v
        sum1 += v - old
        sum2 += sum1 - state[line2 + j]
        state[line2 + j] = sum1
        j += 1
        if j == smooth:
            j = 0
        c = (sum2 * gain) >> 12
        clean[at] = c
        old -= c
        residual += old if old > 0 else -old
        sum_short += clean[(at - enter) & _MASK] - clean[(at - leave) & _MASK]
        sum_long += c - clean[(at - long) & _MASK]
        c = (5 * sum_short - sum_long) >> 6
        band[at] = c
        c -= band[(at - slope) & _MASK]
        if c < 0:
            c = -c
        height += c - state[slopes + s]
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
    state[11] += rails
    state[12] += residual
    state[13] = j
    state[14] = s


def scan_peaks(envelope: "array[int]", k: int, n: int, state: "array[int]") -> int:
    """Look for the next event in envelope[k:n]; returns its place, n if there is none.

    state: array('i') of highest word of the present peak, last word, place of the highest, words after which a peak
    has faded, place from which on every word is an event. state[5] becomes the height of a peak that has ended at the
    event (its place is state[2]), 0 if none has. Places count from envelope's first word and may be negative.
    """
    top = state[0]
    last = state[1]
    top_at = state[2]
    fade = state[3]
    due = state[4]
    ended = 0
    while k < n:
        v = envelope[k]
        if v > last and v > top:
            top = v
            top_at = k
        elif top and (v < top >> 1 or k > top_at + fade):
            ended = top
            top = 0
        last = v
        if ended or k >= due:
            break
        k += 1
    state[0] = top
    state[1] = last
    state[2] = top_at
    state[5] = ended
    return k


def ring_span(ring: "array[int]", first: int, n: int) -> int:
    """Largest less smallest of the n samples of a ring from number first on."""
    high = low = ring[first & _MASK]
    for k in range(first + 1, first + n):
        v = ring[k & _MASK]
        if v > high:
            high = v
        elif v < low:
            low = v
    return high - low


def ring_steepest(ring: "array[int]", first: int, n: int, step: int) -> int:
    """Largest difference in size between one of the n samples from number first on and the one step samples earlier."""
    best = 0
    for k in range(first, first + n):
        d = ring[k & _MASK] - ring[(k - step) & _MASK]
        if d < 0:
            d = -d
        if d > best:
            best = d
    return best


def ring_peak(ring: "array[int]", first: int, n: int) -> int:
    """Place, counted from sample number first, of the largest of n samples in size; the first of equals."""
    best = -1
    best_at = 0
    for k in range(n):
        v = ring[(first + k) & _MASK]
        if v < 0:
            v = -v
        if v > best:
            best = v
            best_at = k
    return best_at


def qrs_window(
    ring: "array[int]",
    first: int,
    offsets: "array[int]",
    x: "array[int]",
    points: int,
    norms: "array[int]",
    n_lags: int,
) -> int:
    """Copy the samples at first + offsets[k] to x[k], halved until none exceeds 4095; returns how often.

    offsets: array('h') of points + n_lags - 1, x: array('i') of as many. norms[lag] receives the norm of
    x[lag : lag + points] less its mean, at least 1. With 41 points no sum of squares reaches 2**30.
    """
    span = points + n_lags - 1
    high = 0
    for k in range(span):
        v = ring[(first + offsets[k]) & _MASK]
        x[k] = v
        if v < 0:
            v = -v
        if v > high:
            high = v
    shift = 0
    while high >> shift > 4095:
        shift += 1
    total = 0
    square = 0
    for k in range(span):
        v = x[k] >> shift
        x[k] = v
        if k < points:
            total += v
            square += v * v
    for lag in range(n_lags):
        if lag:
            gone = x[lag - 1]
            new = x[lag + points - 1]
            total += new - gone
            square += new * new - gone * gone
        mean = total // points
        # total * total // points, without a product beyond 2**30
        norms[lag] = isqrt(square - total * mean - (total - mean * points) * total // points) or 1
    return shift


def correlate(
    x: "array[int]",
    shape: "array[int]",
    points: int,  # noqa: ARG001  native code can't see how long shape is
    norms: "array[int]",
    n_lags: int,
) -> int:
    """Highest correlation of x with shape (zero mean, norm 1024) over n_lags <= 16 lags: (at most 1024) << 4 | lag."""
    best = -2048
    best_lag = 0
    for lag in range(n_lags):
        dot = 0
        k = lag
        for s in shape:
            dot += s * x[k]
            k += 1
        rho = dot // norms[lag]
        if rho > best:
            best = rho
            best_lag = lag
    return (min(best, 1024) << 4) + best_lag


def qrs_shape(x: "array[int]", lag: int, points: int, out: "array[int]") -> int:
    """Write highest, lowest, first level, sum of |slope| of x[lag : lag + points] to out; returns that of slope^2."""
    high = low = level = (x[lag] + x[lag + 1] + x[lag + 2] + x[lag + 3]) >> 2
    slopes = 0
    squares = 0
    last = x[lag]
    for k in range(lag + 1, lag + points):
        v = x[k]
        if v > high:
            high = v
        elif v < low:
            low = v
        d = v - last
        last = v
        squares += d * d
        slopes += d if d > 0 else -d
    out[0] = high
    out[1] = low
    out[2] = level
    out[3] = slopes
    return squares


def qrs_adapt(x: "array[int]", lag: int, points: int, norm: int, shape: "array[int]", first: int) -> None:
    """Move shape an eighth of the way towards x[lag : lag + points], or set it if first; then norm 1024, mean zero.

    norm is that of the part of x.
    """
    total = 0
    for k in range(lag, lag + points):
        total += x[k]
    mean = total // points
    total = 0
    for k in range(points):
        v = ((x[lag + k] - mean) << 10) // norm
        if not first:
            old = shape[k]
            v = old + ((v - old) >> 3)
        shape[k] = v
        total += v
    mean = total // points
    square = 0
    for k in range(points):
        v = shape[k] - mean
        shape[k] = v
        square += v * v
    norm = isqrt(square) or 1
    for k in range(points):
        shape[k] = (shape[k] << 10) // norm
