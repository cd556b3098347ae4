"""Respiration: known breaths are counted, irregular signals give no rate, a chest that stands still is told."""

import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_board.signals.dsp import EcgFilter
from qepa_board.signals.respiration import DerivedRespiration, ThoracicRespiration, qrs_height
from qepa_tools.recordings.bidmc import FS_HZ, load_bidmc
from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.respiration_tables import reference_rate
from qepa_wire.measures import LEAD_OFF, MEASURES, NO_DATA, POOR_SIGNAL, REASONS, RESP_RATE, SETTLING, UNKNOWN


def breathing(seconds: float, per_minute: float, size: float = 20_000, fs_hz: int = FS_HZ) -> np.ndarray:
    """Impedance counts with some heart beat in them."""
    t_s = np.arange(round(seconds * fs_hz)) / fs_hz
    heart = 0.15 * np.sin(2 * math.pi * 1.3 * t_s)
    return np.asarray(3_000_000 + size * (np.sin(2 * math.pi * per_minute / 60 * t_s) + heart))


def push(board: ThoracicRespiration, signal: np.ndarray) -> None:
    words = array("i", np.rint(signal).astype(np.int32).tobytes())
    for start in range(0, len(words), 50):
        board.push(words[start : start + 50], len(words[start : start + 50]))


def told(board: "ThoracicRespiration | DerivedRespiration") -> tuple[int, int]:
    """(quality or reason, value)"""
    out: list[tuple[int, int, int]] = []
    board.measures(out)
    ((_, quality, value),) = out
    return quality, value


@pytest.mark.parametrize("fs_hz", [50, 125, 250, 500])
@pytest.mark.parametrize("per_minute", [7, 12, 18, 30, 42])
def test_breaths_are_counted(per_minute: int, fs_hz: int) -> None:
    board = ThoracicRespiration(fs_hz)
    push(board, breathing(45, per_minute, fs_hz=fs_hz))
    quality, rate = told(board)
    assert rate == pytest.approx(10 * per_minute, abs=3)
    assert quality > 85


def test_it_settles_in_twenty_seconds_and_says_so() -> None:
    board = ThoracicRespiration(FS_HZ)
    assert told(board) == (NO_DATA, UNKNOWN)
    push(board, breathing(19, 15))
    assert told(board) == (SETTLING, UNKNOWN)
    push(board, breathing(24, 15)[19 * FS_HZ :])
    assert told(board)[1] == pytest.approx(150, abs=5)


def test_a_gap_is_never_bridged_and_a_fault_lasts() -> None:
    board = ThoracicRespiration(FS_HZ)
    push(board, breathing(40, 15))
    board.gap(0)
    assert told(board)[1] == pytest.approx(150, abs=3)
    board.gap(1)
    assert told(board) == (SETTLING, UNKNOWN)
    board.fault(LEAD_OFF)
    assert told(board) == (LEAD_OFF, UNKNOWN)


def test_noise_hardly_ever_passes_for_breaths() -> None:
    told_of = shown = 0
    for seed in range(8):
        board = ThoracicRespiration(FS_HZ)
        noise = np.random.default_rng(seed).normal(0, 300, 96 * FS_HZ)
        signal = 3_000_000 + (np.cumsum(noise) if seed % 2 else 100 * noise)
        push(board, signal[: 32 * FS_HZ])
        for start in range(32, 96, 8):
            push(board, signal[start * FS_HZ : (start + 8) * FS_HZ])
            told_of += 1
            shown += told(board)[1] != UNKNOWN
    assert shown <= told_of // 10


def test_two_rates_in_one_window_are_no_rate() -> None:
    board = ThoracicRespiration(FS_HZ)
    push(board, breathing(40, 10))
    push(board, breathing(16, 30))
    assert told(board) == (POOR_SIGNAL, UNKNOWN)


def test_a_chest_that_stands_still_is_told_and_breathing_ends_it() -> None:
    board = ThoracicRespiration(FS_HZ)
    still = breathing(40, 15)[-1]
    push(board, breathing(40, 15))
    told(board)
    assert not board.apnoea()
    push(board, np.full(12 * FS_HZ, still))
    told(board)
    assert not board.apnoea()
    push(board, np.full(14 * FS_HZ, still))
    told(board)
    assert board.apnoea()
    push(board, breathing(6, 15))
    told(board)
    assert not board.apnoea()


def test_no_apnoea_without_breaths_before_or_after_a_gap() -> None:
    board = ThoracicRespiration(FS_HZ)
    push(board, np.full(60 * FS_HZ, 3_000_000.0))
    told(board)
    assert not board.apnoea()
    push(board, breathing(40, 15))
    told(board)
    board.gap(100)
    push(board, np.full(30 * FS_HZ, 3_000_000.0))
    told(board)
    assert not board.apnoea()


def beats(board: DerivedRespiration, seconds: float, per_minute: float, level: bool, fs_hz: int = 100) -> None:
    """Heart beats of 75 a minute whose height, distance and level breathe."""
    t_s, last = 0.0, 0.0
    while t_s < seconds:
        phase = math.sin(2 * math.pi * per_minute / 60 * t_s)
        board.beat(round(t_s * fs_hz), round(2000 + 150 * phase), round(100_000 + 400 * phase) if level else None)
        last = t_s
        t_s = last + 0.8 + 0.05 * phase


@pytest.mark.parametrize("level", [True, False])
@pytest.mark.parametrize("per_minute", [8, 15, 24])
def test_breathing_is_derived_from_beats(per_minute: int, level: bool) -> None:
    board = DerivedRespiration(100)
    assert told(board) == (NO_DATA, UNKNOWN)
    beats(board, 15, per_minute, level)
    assert told(board) == (SETTLING, UNKNOWN)
    board = DerivedRespiration(100)
    beats(board, 60, per_minute, level)
    assert told(board)[1] == pytest.approx(10 * per_minute, abs=6)


def test_a_pause_or_a_gap_in_the_beats_begins_anew() -> None:
    board = DerivedRespiration(100)
    beats(board, 60, 15, True)
    board.beat(64_00, 2000, 100_000)
    assert told(board) == (SETTLING, UNKNOWN)
    board = DerivedRespiration(100)
    beats(board, 60, 15, True)
    board.gap(5)
    assert told(board) == (SETTLING, UNKNOWN)


@pytest.mark.parametrize("seed", range(5))
def test_beats_without_breathing_give_no_rate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    board = DerivedRespiration(100)
    at = 0
    for _ in range(90):
        at += int(rng.integers(60, 110))
        board.beat(at, int(rng.integers(1800, 2200)), int(rng.integers(99_000, 101_000)))
    assert told(board) == (POOR_SIGNAL, UNKNOWN)


def test_a_qrs_complex_is_as_high_whichever_way_it_points() -> None:
    heights = []
    for sign in (1, -1):
        ecg_filter = EcgFilter(250)
        counts = np.zeros(750)
        counts[498:503] = sign * np.array([100, 300, 500, 300, 100])
        ecg_filter.run(array("h", counts.astype(np.int16).tobytes()), 750, array("i", bytes(4 * 750)))
        heights.append(qrs_height(ecg_filter, 500))
        assert qrs_height(ecg_filter, 400) < heights[0] // 20
    assert heights[0] == pytest.approx(heights[1], rel=0.02)
    assert heights[0] > 300


@pytest.mark.parametrize("number", [2, 16, 22])
def test_recorded_breaths_agree_with_the_annotators(number: int) -> None:
    data = find_data()
    if data is None or not (data.parent / "bidmc").is_dir():
        pytest.skip("the BIDMC set is not here")
    record = load_bidmc(data.parent / "bidmc", number)
    board = ThoracicRespiration(FS_HZ)
    words = array("i", record.impedance_counts().tobytes())
    errors = []
    for second in range(120):
        board.push(words[second * FS_HZ : (second + 1) * FS_HZ], FS_HZ)
        truth = reference_rate(record.breaths, second)
        if second > 40 and truth is not None and told(board)[1] != UNKNOWN:
            errors.append(told(board)[1] / 10 - truth)
    assert len(errors) > 20
    assert np.abs(errors).mean() < 0.5


@given(st.lists(st.integers(-(1 << 23), (1 << 23) - 1), min_size=1, max_size=60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_values_stay_in_their_bounds(words: list[int], repeat: int) -> None:
    board = ThoracicRespiration(50)
    for _ in range(4):
        signal = array("i", words * repeat)
        board.push(signal, len(signal))
        quality, value = told(board)
        limits = MEASURES[RESP_RATE]
        assert (value == UNKNOWN and quality in REASONS) or limits.low <= value <= limits.high
        assert board.apnoea() in (True, False, None)
