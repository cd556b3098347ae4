# ruff: noqa: F401  what is imported here is the package's interface
"""The hot loops of a board, as native code where that loads and as bytecode where not: the same words from both.

`native.mpy` is viper.py built for one processor (tools: `build_kernels`). MicroPython refuses one for another; where
it is missing, refused, older than this list or too big for executable memory, bytecode.py takes its place.
IMPLEMENTATION says which. Contracts of all kernels:

- A buffer of bytes holds little-endian words and begins at a multiple of four bytes, as bytearray, bytes and array do:
  never a memoryview into one. Nothing is checked: native code writes where its arguments point.
- Arithmetic is that of signed 32-bit words that wrap, `>>` and `//` round down. Where no word reaches 2**30 in size the
  fallback allocates nothing either.
- array('h') is read as signed. A ring is an array('h') of RING samples, sample i at i & (RING - 1).
"""

RING = 2048  # samples of history: 5.7 s at 360 Hz

# Named twice: the first import fails as a whole where one is missing, and a bundle drops by name what it does not use.
try:
    from .native import (
        add32,
        add64,
        check_sums,
        correlate,
        descend,
        dot32,
        ecg_filter,
        fill_counters,
        isqrt,
        pack32,
        qrs_adapt,
        qrs_shape,
        qrs_window,
        ring_peak,
        ring_span,
        ring_steepest,
        scan_peaks,
        xor,
    )

    IMPLEMENTATION = "native"
except (ImportError, ValueError, MemoryError):
    from .bytecode import (
        add32,
        add64,
        check_sums,
        correlate,
        descend,
        dot32,
        ecg_filter,
        fill_counters,
        isqrt,
        pack32,
        qrs_adapt,
        qrs_shape,
        qrs_window,
        ring_peak,
        ring_span,
        ring_steepest,
        scan_peaks,
        xor,
    )

    IMPLEMENTATION = "bytecode"
