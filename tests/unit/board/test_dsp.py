"""Integer filters: what they pass, what they stop, and that no word outgrows its place."""

import math
from array import array

import numpy as np
import pytest

from qepa_board.fixed_point import cos_q12, isqrt
from qepa_board.signals.dsp import COUNTS_PER_MV, RING, UNITS_PER_MV, EcgFilter


def settled_amplitude(fs_hz: int, mains_hz: int, tone_hz: float) -> float:
    """Amplitude of `clean` for a tone of 1 mV, in mV, once the filters have settled."""
    ecg = EcgFilter(fs_hz, mains_hz)
    t_s = np.arange(12 * fs_hz) / fs_hz
    counts = array("h", np.rint(COUNTS_PER_MV * np.sin(2 * np.pi * tone_hz * t_s)).astype(np.int16).tobytes())
    ecg.run(counts, len(counts), array("i", bytes(4 * len(counts))))
    tail = [ecg.clean[i % RING] for i in range(ecg.n - 2 * fs_hz if 2 * fs_hz < RING else ecg.n - RING, ecg.n)]
    return (max(tail) - min(tail)) / 2 / UNITS_PER_MV


@pytest.mark.parametrize("fs_hz", [256, 360])
@pytest.mark.parametrize("mains_hz", [50, 60])
def test_mains_is_suppressed_by_40_db_and_the_qrs_passes(fs_hz: int, mains_hz: int) -> None:
    assert settled_amplitude(fs_hz, mains_hz, mains_hz) < 0.01
    assert settled_amplitude(fs_hz, mains_hz, 10.0) == pytest.approx(1.0, abs=0.12)


def test_baseline_wander_is_reduced() -> None:
    assert settled_amplitude(360, 50, 0.15) < 0.4


def test_a_constant_offset_vanishes() -> None:
    ecg = EcgFilter(360)
    ecg.run(array("h", [1500] * 3600), 3600, array("i", bytes(4 * 3600)))
    assert max(map(abs, ecg.clean)) <= 2


@pytest.mark.parametrize("fs_hz", [200, 256, 360, 500])
def test_words_fit_for_any_input(fs_hz: int) -> None:
    """CPython's array raises where a word would not fit 16 bits; MicroPython would wrap without a word."""
    rng = np.random.default_rng(3)
    ecg = EcgFilter(fs_hz, 50)
    envelope = array("i", bytes(4 * 1000))
    worst = [
        rng.choice([-32768, 32767], 4000),
        np.where(np.arange(4000) // (fs_hz // 100) % 2 == 0, 32767, -32768),
        np.where(np.sin(2 * np.pi * 50 * np.arange(4000) / fs_hz) > 0, 2047, -2048),
    ]
    for signal in worst:
        for start in range(0, 4000, 1000):
            block = array("h", signal[start : start + 1000].astype(np.int16).tobytes())
            ecg.run(block, 1000, envelope)
            assert min(envelope) >= 0
            assert max(envelope) < 1 << 30
    assert ecg.take_rails() > 8000
    assert ecg.take_rails() == 0


def test_blocks_of_any_size_give_the_same_words() -> None:
    rng = np.random.default_rng(1)
    signal = array("h", rng.integers(-500, 500, 1500).astype(np.int16).tobytes())
    whole, pieces = EcgFilter(360), EcgFilter(360)
    at_once = array("i", bytes(4 * 1500))
    whole.run(signal, 1500, at_once)
    collected: list[int] = []
    start = 0
    while start < 1500:
        n = min(int(rng.integers(1, 97)), 1500 - start)
        part = array("i", bytes(4 * n))
        pieces.run(signal[start : start + n], n, part)
        collected += part
        start += n
    assert collected == list(at_once)
    assert pieces.clean == whole.clean
    assert pieces.band == whole.band


@pytest.mark.parametrize(("fs_hz", "mains_hz"), [(100, 50), (1000, 50), (360, 55)])
def test_unusable_settings_are_refused(fs_hz: int, mains_hz: int) -> None:
    with pytest.raises(ValueError):
        EcgFilter(fs_hz, mains_hz)


def test_integer_mathematics() -> None:
    assert all(isqrt(n) == math.isqrt(n) for n in [*range(5000), 2**30 - 1, 2**30, 2**40 + 7])
    for fs_hz in (200, 256, 360, 500):
        for f_hz in (1, 50, 60):
            assert abs(cos_q12(f_hz, fs_hz) - 4096 * math.cos(2 * math.pi * f_hz / fs_hz)) <= 0.51
