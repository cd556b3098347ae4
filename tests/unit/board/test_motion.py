"""Steps are counted in walks only, posture follows gravity whichever way the sensor is worn."""

import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_board.signals.motion import STEPS_MOD, Motion
from qepa_wire.measures import (
    ACTIVITY,
    MEASURES,
    NO_DATA,
    POSTURE,
    POSTURES,
    REASONS,
    SENSOR_FAULT,
    SETTLING,
    STEPS,
    UNKNOWN,
)

FS_HZ = 104


def still(seconds: float, gravity: tuple[float, float, float] = (0, 1000, 0), fs_hz: int = FS_HZ) -> np.ndarray:
    """Milli-g of three axes at rest."""
    rng = np.random.default_rng(1)
    return np.array(gravity)[:, None] + rng.normal(0, 5, (3, round(seconds * fs_hz)))


def walking(seconds: float, cadence_hz: float, fs_hz: int = FS_HZ, size: float = 350) -> np.ndarray:
    """A blow each step, along gravity."""
    t_s = np.arange(round(seconds * fs_hz)) / fs_hz
    signal = still(seconds, fs_hz=fs_hz)
    signal[1] += size * np.maximum(0, np.sin(2 * math.pi * cadence_hz * t_s)) - size / math.pi
    return signal


def push(board: Motion, signal: np.ndarray) -> None:
    x, y, z = (array("i", np.rint(axis).astype(np.int32).tobytes()) for axis in signal)
    for start in range(0, len(x), 26):
        part = slice(start, start + 26)
        board.push(x[part], y[part], z[part], len(x[part]))


def told(board: Motion) -> dict[int, tuple[int, int]]:
    out: list[tuple[int, int, int]] = []
    board.measures(out)
    return {code: (quality, value) for code, quality, value in out}


@pytest.mark.parametrize("fs_hz", [26, 52, 104, 256])
@pytest.mark.parametrize("cadence_hz", [1.2, 1.8, 2.6])
def test_steps_are_counted(cadence_hz: float, fs_hz: int) -> None:
    board = Motion(fs_hz)
    push(board, still(3, fs_hz=fs_hz))
    push(board, walking(30, cadence_hz, fs_hz))
    push(board, still(3, fs_hz=fs_hz))
    assert told(board)[STEPS][1] == pytest.approx(30 * cadence_hz, abs=2)


def test_two_blows_are_no_walk() -> None:
    board = Motion(FS_HZ)
    for _ in range(5):
        push(board, walking(1, 1.8)[:, : round(2 * FS_HZ / 1.8)])
        push(board, still(4))
    assert board.steps == 0


def test_shaking_faster_than_anyone_walks_is_no_walk() -> None:
    board = Motion(FS_HZ)
    push(board, walking(20, 6))
    assert board.steps < 10


def test_a_walk_does_not_go_on_over_a_gap() -> None:
    board = Motion(FS_HZ)
    push(board, still(3))
    for _ in range(6):
        push(board, walking(1, 1.8))
        board.gap(10)
    assert told(board)[STEPS] == (SETTLING, UNKNOWN)
    assert board.steps == 0


def test_steps_survive_a_fault_and_wrap() -> None:
    board = Motion(FS_HZ)
    push(board, walking(20, 2))
    counted = board.steps
    assert counted > 30
    board.fault(SENSOR_FAULT)
    assert told(board) == dict.fromkeys((STEPS, POSTURE, ACTIVITY), (SENSOR_FAULT, UNKNOWN))
    push(board, still(4))
    assert told(board)[STEPS] == (100, counted)
    board._counter.steps = STEPS_MOD - 3
    push(board, walking(10, 2))
    assert 10 < board.steps < 25


@pytest.mark.parametrize(
    ("gravity", "posture"),
    [
        ((0, 1000, 0), "upright"),
        ((0, 0, 1000), "supine"),
        ((0, 0, -1000), "prone"),
        ((1000, 0, 0), "right"),
        ((-1000, 0, 0), "left"),
        ((150, 900, 350), "upright"),
        ((100, 500, 850), "supine"),
    ],
)
def test_posture_is_where_up_is(gravity: tuple[float, float, float], posture: str) -> None:
    """Sensor on the chest, its y to the head and z forward, so x to the left: lying on the right side, left is up."""
    board = Motion(FS_HZ, up=(0, 1, 0), front=(0, 0, 1))
    push(board, still(6, gravity))
    quality, value = told(board)[POSTURE]
    assert POSTURES[value] == posture
    assert quality == pytest.approx(max(map(abs, gravity)) / 10, abs=2)


def test_left_and_right_follow_anatomy() -> None:
    """Head up y, chest forward z: the left hand points along y x z = x. Lying on the left side, x points down."""
    board = Motion(FS_HZ)
    push(board, still(6, (-1000, 0, 0)))
    assert POSTURES[told(board)[POSTURE][1]] == "left"


@pytest.mark.parametrize("up", [(1, 0, 0), (0, 0, -1), (300, 400, 0)])
def test_mounting_says_how_it_is_worn(up: tuple[int, int, int]) -> None:
    front = (0, 1, 0) if not up[1] else (-400, 300, 0)
    board = Motion(FS_HZ, up=up, front=front)
    length = math.hypot(*up)
    push(board, still(6, tuple(1000 * v / length for v in up)))  # type: ignore[arg-type]
    assert POSTURES[told(board)[POSTURE][1]] == "upright"
    lying = Motion(FS_HZ, up=up, front=front)
    length = math.hypot(*front)
    push(lying, still(6, tuple(1000 * v / length for v in front)))  # type: ignore[arg-type]
    assert POSTURES[told(lying)[POSTURE][1]] == "supine"


@pytest.mark.parametrize("axes", [((0, 1, 0), (0, 1, 1)), ((0, 0, 0), (0, 0, 1)), ((0, 1, 0), (0, 2, 0))])
def test_axes_that_are_no_axes_are_refused(axes: tuple[tuple[int, int, int], tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError, match="right angles"):
        Motion(FS_HZ, *axes)


def test_movement_is_moving_and_activity_is_its_size() -> None:
    board = Motion(FS_HZ)
    assert told(board)[POSTURE] == (NO_DATA, UNKNOWN)
    push(board, still(1))
    assert told(board)[POSTURE] == (SETTLING, UNKNOWN)
    push(board, still(5))
    assert told(board)[ACTIVITY][1] < 20
    assert not board.moving
    push(board, walking(8, 2))
    assert board.moving
    assert POSTURES[told(board)[POSTURE][1]] == "moving"
    assert 80 < told(board)[ACTIVITY][1] < 200


@pytest.mark.parametrize("gravity", [(0, 0, 0), (0, 2900, 0)])
def test_a_sensor_that_cannot_be_on_earth_is_broken(gravity: tuple[float, float, float]) -> None:
    board = Motion(FS_HZ)
    push(board, still(6, gravity))
    assert told(board)[ACTIVITY] == (SENSOR_FAULT, UNKNOWN)


@given(st.lists(st.tuples(*[st.integers(-40000, 40000)] * 3), min_size=1, max_size=40), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_values_stay_in_their_bounds(rows: list[tuple[int, int, int]], repeat: int) -> None:
    board = Motion(25)
    x, y, z = (array("i", [row[k] for row in rows] * repeat) for k in range(3))
    for _ in range(3):
        board.push(x, y, z, len(x))
        for code, (quality, value) in told(board).items():
            assert (value == UNKNOWN and quality in REASONS) or MEASURES[code].low <= value <= MEASURES[code].high
