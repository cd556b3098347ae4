"""Integer mathematics that rounds alike on every interpreter and float width."""

_TWO_PI_Q28 = 1686629713


def isqrt(value):
    """Floor of the square root of a non-negative int, by Newton's method (MicroPython's math has none)."""
    if value < 2:
        return value
    bits = 0
    v = value
    while v:
        v >>= 1
        bits += 1
    root = 1 << ((bits + 1) >> 1)
    while True:
        better = (root + value // root) >> 1
        if better >= root:
            return root
        root = better


def cos_q12(numerator, denominator):
    """cos(2 pi numerator / denominator) in Q12, by its Taylor series in integers.

    Not math.cos: an ESP32 computes it in single precision and could round another way.
    """
    angle = (_TWO_PI_Q28 * numerator) // denominator
    square = (angle * angle) >> 28
    term = total = 1 << 28
    for k in range(1, 24):
        term = -((term * square) >> 28) // ((2 * k - 1) * (2 * k))
        total += term
    return (total + (1 << 15)) >> 16
