"""Integer mathematics that rounds alike on every interpreter and float width."""

from qepa_kernels import isqrt as _isqrt

_TWO_PI_Q28 = 1686629713


def isqrt(value):
    """Floor of the square root of a non-negative int (MicroPython's math has none)."""
    if value < 1 << 30:
        return _isqrt(value)
    root = isqrt(value >> 2) << 1
    return root + 1 if (root + 1) * (root + 1) <= value else root


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
