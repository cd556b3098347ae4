"""Skin temperature: only what a sensor that sits on skin can have measured is a number."""

from array import array

import pytest

from qepa_board.signals.temperature import SkinTemperature
from qepa_wire.measures import LEAD_OFF, NO_DATA, POOR_SIGNAL, SENSOR_FAULT, SETTLING, TEMPERATURE, UNKNOWN


def push(board: SkinTemperature, *centi: int) -> None:
    board.push(array("i", centi), len(centi))


def told(board: SkinTemperature) -> tuple[int, int]:
    """(quality or reason, value)"""
    out: list[tuple[int, int, int]] = []
    board.measures(out)
    ((code, quality, value),) = out
    assert code == TEMPERATURE
    return quality, value


def wobble(centre: int, seconds: int) -> list[int]:
    """The last bits of a converter on a steady skin."""
    return [centre + (-1, 0, 1, 1, 0)[k % 5] for k in range(seconds)]


def test_a_steady_skin_is_told_after_a_minute() -> None:
    board = SkinTemperature()
    assert told(board) == (NO_DATA, UNKNOWN)
    push(board, *wobble(3350, 59))
    assert told(board) == (SETTLING, UNKNOWN)
    push(board, *wobble(3350, 5))
    quality, value = told(board)
    assert quality == 100
    assert value == pytest.approx(3350, abs=1)


def test_it_follows_a_fever() -> None:
    board = SkinTemperature()
    push(board, *wobble(3350, 70))
    push(board, *[3350 + k // 2 for k in range(600)])
    assert told(board)[1] == pytest.approx(3650, abs=3)


def test_a_jump_settles_anew() -> None:
    board = SkinTemperature()
    push(board, *wobble(3350, 70))
    push(board, 3000)
    assert told(board) == (POOR_SIGNAL, UNKNOWN)
    push(board, *wobble(3000, 30))
    assert told(board) == (SETTLING, UNKNOWN)
    push(board, *wobble(3000, 40))
    assert told(board)[1] == pytest.approx(3000, abs=1)


@pytest.mark.parametrize("centi", [-25600, 0, 1499, 4501, 25599])
def test_what_no_skin_has_is_a_fault(centi: int) -> None:
    board = SkinTemperature()
    push(board, *wobble(3350, 70))
    push(board, centi)
    assert told(board) == (SENSOR_FAULT, UNKNOWN)
    push(board, *wobble(3350, 30))
    assert told(board) == (SETTLING, UNKNOWN)


def test_one_and_the_same_word_for_half_an_hour_is_a_stuck_sensor() -> None:
    board = SkinTemperature()
    push(board, *[3350] * 1700)
    assert told(board) == (100, 3350)
    push(board, *[3350] * 200)
    assert told(board) == (SENSOR_FAULT, UNKNOWN)
    push(board, 3351)
    assert told(board)[0] == 100


def test_a_gap_settles_and_a_fault_lasts() -> None:
    board = SkinTemperature()
    push(board, *wobble(3350, 70))
    board.gap(0)
    assert told(board)[0] == 100
    board.gap(1)
    assert told(board) == (SETTLING, UNKNOWN)
    board.fault(LEAD_OFF)
    assert told(board) == (LEAD_OFF, UNKNOWN)


def test_a_slow_sensor_may_change_more_from_sample_to_sample() -> None:
    board = SkinTemperature(period_s=10)
    push(board, 3300, 3400, 3500, 3550, 3560, 3565, 3566)
    assert told(board)[0] == 100
