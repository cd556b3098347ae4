"""The heart rate is a mean over recent intervals: right in bigeminy, steady against one wrong beat."""

import pytest

from qepa_board.signals.quality import HeartRate

FS_HZ = 360


def _after(intervals: list[int]) -> tuple[HeartRate, int]:
    rate, now = HeartRate(FS_HZ), 0
    rate.beat(now)
    for interval in intervals:
        now += interval
        rate.beat(now)
    return rate, now


def test_bigeminy_shows_the_rate_of_both_intervals() -> None:
    short, long = 180, 504
    shown = []
    for phase in range(2):
        rate, now = _after(([short, long] * 8)[phase:])
        shown.append(rate.bpm_x10(now))
    true_bpm_x10 = 600 * FS_HZ * 2 / (short + long)
    assert all(value == pytest.approx(true_bpm_x10, rel=0.08) for value in shown)


def test_one_missed_beat_hardly_moves_it() -> None:
    rate, now = _after([300] * 5 + [600] + [300] * 3)
    assert rate.bpm_x10(now) == 720


def test_unknown_before_three_intervals_and_after_three_seconds() -> None:
    rate, now = _after([300, 300])
    assert rate.bpm_x10(now) is None
    rate, now = _after([300, 300, 300])
    assert rate.bpm_x10(now) == 720
    assert rate.bpm_x10(now + 3 * FS_HZ + 1) is None
