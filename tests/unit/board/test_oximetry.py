"""Pulse oximetry: what goes in as a known pulse, ratio and amplitude comes out; what is no pulse gives no number."""

import math
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_board.signals.oximetry import Oximeter
from qepa_tools.recordings.bidmc import FS_HZ as BIDMC_HZ
from qepa_tools.recordings.bidmc import load_bidmc
from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.pulse_tables import follow
from qepa_wire.measures import (
    LEAD_OFF,
    MEASURES,
    MOTION,
    NO_DATA,
    PERFUSION,
    POOR_SIGNAL,
    PULSE_RATE,
    REASONS,
    SENSOR_FAULT,
    SETTLING,
    SPO2,
    UNKNOWN,
)

FS_HZ = 100
Light = tuple[np.ndarray, np.ndarray]


def light(
    seconds: float, bpm: float = 72, ratio: float = 0.6, modulation: float = 0.02, fs_hz: int = FS_HZ, noise: float = 5
) -> Light:
    """(red, infrared) counts of a pulse with a dicrotic wave; `modulation` of the infrared from foot to peak."""
    t_s = np.arange(round(seconds * fs_hz)) / fs_hz
    phase = t_s * bpm / 60 % 1
    wave = np.exp(-(((phase - 0.2) / 0.09) ** 2)) + 0.35 * np.exp(-(((phase - 0.5) / 0.12) ** 2))
    rng = np.random.default_rng(0)
    noises = rng.normal(0, noise, (2, len(t_s)))
    return 90_000 * (1 - ratio * modulation * wave) + noises[0], 120_000 * (1 - modulation * wave) + noises[1]


def push(board: Oximeter, signal: Light, fs_hz: int = FS_HZ) -> None:
    red, infrared = (array("i", np.rint(channel).astype(np.int32).tobytes()) for channel in signal)
    for start in range(0, len(red), fs_hz):
        part = slice(start, start + fs_hz)
        board.push(red[part], infrared[part], len(red[part]))


def told(board: Oximeter) -> dict[int, tuple[int, int]]:
    out: list[tuple[int, int, int]] = []
    board.measures(out)
    return {code: (quality, value) for code, quality, value in out}


def reason(board: Oximeter) -> int:
    """The one reason for which nothing is told."""
    measures = told(board)
    assert all(value == UNKNOWN for _, value in measures.values())
    assert len({why for why, _ in measures.values()}) == 1
    return measures[PULSE_RATE][0]


@pytest.mark.parametrize("fs_hz", [50, 100, 125, 256, 400])
@pytest.mark.parametrize("bpm", [36, 60, 95, 150, 190])
def test_the_pulse_is_counted(bpm: int, fs_hz: int) -> None:
    board = Oximeter(fs_hz)
    push(board, light(24, bpm, fs_hz=fs_hz), fs_hz)
    quality, rate = told(board)[PULSE_RATE]
    assert abs(rate - bpm) <= 1 + bpm // 75
    assert quality >= 90


@pytest.mark.parametrize("ratio", [0.4, 0.6, 0.8, 1.0, 1.4, 2.0])
def test_the_ratio_of_ratios_is_recovered(ratio: float) -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20, ratio=ratio))
    assert told(board)[SPO2][1] == pytest.approx(1100 - 250 * ratio, abs=4)


@pytest.mark.parametrize("modulation", [0.004, 0.02, 0.1])
def test_perfusion_is_the_share_of_light_that_pulses(modulation: float) -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20, bpm=60, modulation=modulation))
    # Smoothing over 100 ms and the high-pass cost a little of a pulse's height.
    assert told(board)[PERFUSION][1] == pytest.approx(10000 * modulation, rel=0.2)


def test_ratios_beyond_what_blood_does_are_no_saturation() -> None:
    for ratio in (0.15, 2.6):
        board = Oximeter(FS_HZ)
        push(board, light(20, ratio=ratio))
        assert told(board)[SPO2] == (POOR_SIGNAL, UNKNOWN)
        assert told(board)[PULSE_RATE][1] == 72


def test_settling_takes_less_than_ten_seconds_and_is_told() -> None:
    board = Oximeter(FS_HZ)
    assert reason(board) == NO_DATA
    push(board, light(3))
    assert reason(board) == SETTLING
    push(board, light(7))
    assert told(board)[PULSE_RATE][1] == 72


def test_a_gap_is_never_bridged() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20))
    before = board.pulses
    board.gap(30)
    assert reason(board) == SETTLING
    push(board, light(3))
    assert reason(board) == SETTLING
    push(board, light(10, bpm=100))
    assert told(board)[PULSE_RATE][1] == pytest.approx(100, abs=2)
    assert board.pulses > before


def test_a_fault_lasts_until_samples_come_again() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20))
    board.fault(SENSOR_FAULT)
    assert reason(board) == SENSOR_FAULT
    push(board, light(1))
    assert reason(board) == SETTLING


def test_without_a_finger_nothing_is_told() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20))
    push(board, (np.full(500, 300.0), np.full(500, 300.0)))
    assert reason(board) == LEAD_OFF


def test_a_pulse_that_stops_is_not_told_on() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20))
    push(board, (np.full(400, 90_000.0), np.full(400, 120_000.0)))
    assert reason(board) in (POOR_SIGNAL, SETTLING)


def test_light_beyond_the_converter_is_poor() -> None:
    board = Oximeter(FS_HZ)
    red, infrared = light(20)
    infrared[1500:] = (1 << 18) - 1
    push(board, (red, infrared))
    assert reason(board) == POOR_SIGNAL


def test_movement_closes_the_gate_and_four_seconds_more() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20))
    board.moving = True
    push(board, light(2))
    assert reason(board) == MOTION
    board.moving = False
    push(board, light(3))
    assert reason(board) == MOTION
    push(board, light(2))
    assert told(board)[PULSE_RATE][0] != MOTION


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_pulse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 40, 60 * FS_HZ))
    signal = np.clip(120_000 + walk + rng.normal(0, 300, 60 * FS_HZ), 5_000, 250_000)
    rate, saturation = follow(Oximeter(FS_HZ), signal.astype(np.int32), signal[::-1].astype(np.int32), FS_HZ)
    assert np.isfinite(rate).mean() < 0.05
    assert np.isfinite(saturation).mean() < 0.05


def test_pulses_say_when_and_how_high() -> None:
    board = Oximeter(FS_HZ)
    push(board, light(20, bpm=60))
    at = [board.pulse_at[k % 8] for k in range(board.pulses - 7, board.pulses)]
    assert np.diff(at) == pytest.approx([FS_HZ] * 6, abs=4)
    assert np.ptp(board.pulse_height) < 0.1 * max(board.pulse_height)
    assert list(board.pulse_level) == pytest.approx([120_000 * (1 - 0.02 * 0.234)] * 8, rel=0.002)


@pytest.mark.parametrize("number", [2, 12, 32])
def test_recorded_pulses_agree_with_the_monitor(number: int) -> None:
    data = find_data()
    if data is None or not (data.parent / "bidmc").is_dir():
        pytest.skip("the BIDMC set is not here")
    record = load_bidmc(data.parent / "bidmc", number)
    infrared = record.infrared_counts()[: 90 * BIDMC_HZ]
    rate, saturation = follow(Oximeter(BIDMC_HZ), record.red_counts(0.8)[: 90 * BIDMC_HZ], infrared, BIDMC_HZ)
    shown = np.isfinite(rate[10:])
    assert shown.mean() >= 0.9
    assert np.nanmean(np.abs(rate[10:] - record.hr_bpm[10:90])) < 1.5
    assert np.nanmax(np.abs(saturation[10:] - 90)) < 0.5  # red is synthetic: R = 0.8


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1, max_size=40), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_values_stay_in_their_bounds(words: list[int], repeat: int) -> None:
    board = Oximeter(50)
    signal = array("i", [abs(word) >> 13 for word in words] * repeat)
    for _ in range(4):
        board.push(signal, signal, len(signal))
        for code, (quality, value) in told(board).items():
            assert (value == UNKNOWN and quality in REASONS) or MEASURES[code].low <= value <= MEASURES[code].high


@pytest.mark.parametrize("fs_hz", [49, 401])
def test_rates_it_was_not_made_for_are_refused(fs_hz: int) -> None:
    with pytest.raises(ValueError, match="50 to 400"):
        Oximeter(fs_hz)


def test_a_slow_pulse_with_a_high_dicrotic_wave_is_not_counted_twice() -> None:
    shape: Callable[[np.ndarray], np.ndarray] = lambda p: (  # noqa: E731
        np.exp(-(((p - 0.15) / 0.07) ** 2)) + 0.6 * np.exp(-(((p - 0.45) / 0.1) ** 2))
    )
    t_s = np.arange(30 * FS_HZ) / FS_HZ
    infrared = 120_000 * (1 - 0.02 * shape(t_s * 48 / 60 % 1)) + 60 * np.sin(2 * math.pi * t_s / 5)
    rate, _ = follow(Oximeter(FS_HZ), infrared.astype(np.int32), infrared.astype(np.int32), FS_HZ)
    assert np.nanmax(np.abs(rate[10:] - 48)) <= 2
