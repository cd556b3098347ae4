"""Pace: exchanges are bought with leak only where correction cannot keep up with the blocks that fill."""

import pytest

from qepa_qkd.reconciliation import Pace


def cost_after(correction_s: float, filling_s: float, blocks: int) -> float:
    pace, now = Pace(), 0.0
    for _ in range(blocks):
        pace.begin(now, 1_000_000)
        pace.end(now + correction_s)
        now += filling_s
    return pace.begin(now, 1_000_000)


def test_correction_that_keeps_up_leaks_least() -> None:
    assert cost_after(1.0, 100.0, 20) == pytest.approx(20.0)


def test_correction_that_falls_behind_saves_exchanges_up_to_a_bound() -> None:
    assert cost_after(80.0, 100.0, 5) == pytest.approx(20.0 * 2**4)
    assert cost_after(80.0, 100.0, 50) == pytest.approx(10_000.0)


def test_it_returns_to_least_leak_when_the_channel_is_fast_again() -> None:
    pace = Pace()
    now = 0.0
    for correction_s in [80.0] * 10 + [1.0] * 20:
        pace.begin(now, 1_000_000)
        pace.end(now + correction_s)
        now += 100.0
    assert pace.begin(now, 1_000_000) == pytest.approx(20.0)
