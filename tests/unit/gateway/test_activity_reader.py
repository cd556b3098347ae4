"""Activity from streamed motion: the same however a sensor is worn, unknown wherever motion is missing."""

from collections import Counter

import numpy as np
import pytest

from qepa_gateway.inference.activity import ActivityReader
from qepa_gateway.inference.motion_windows import LENGTH, RATE_HZ, needed, resample, window
from qepa_gateway.inference.runtime import InferenceError
from qepa_uplink.readings import ACTIVITIES, ACTIVITY_CLASS
from qepa_wire.measures import NO_DATA, POOR_SIGNAL, SENSOR_FAULT, SETTLING, UNKNOWN
from qepa_wire.payloads import WAVE_ACCEL, WAVE_ECG, Wave

FS_HZ = 104
WALKING = ACTIVITIES.index("walking")


def walk(seconds, fs_hz=FS_HZ):
    """Two steps a second, in mg."""
    t = np.arange(round(seconds * fs_hz)) / fs_hz
    beat = np.sin(2 * np.pi * 2 * t)
    return np.column_stack([120 * np.cos(2 * np.pi * t), 80 * beat, 1000 + 300 * beat]).astype(np.float32)


def turned(milli_g, seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return (milli_g @ matrix).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_turning_the_sensor_changes_nothing(seed):
    g = resample(walk(3), FS_HZ)[-LENGTH:]
    np.testing.assert_allclose(window(g), window(turned(g, seed)), atol=1e-4)


@pytest.mark.parametrize("fs_hz", [26, 50, 52, 100, 104, 200, 208])
def test_every_rate_of_a_board_gives_the_same_motion(fs_hz):
    g = resample(walk(4, fs_hz), fs_hz)
    assert len(g) == 4 * RATE_HZ
    assert len(resample(walk(4, fs_hz)[: needed(fs_hz)], fs_hz)) == LENGTH
    at = (np.arange(len(g)) + 0.5) / RATE_HZ  # a value is the mean around its middle
    middle = 1 + 0.3 * np.sin(2 * np.pi * 2 * (at - 0.5 / fs_hz))
    np.testing.assert_allclose(g[2:-2, 2], middle[2:-2], atol=0.03)


def test_a_missing_sample_is_missing_in_what_it_would_be_part_of_and_nowhere_else():
    samples = walk(4)
    samples[200] = np.nan
    g = resample(samples, FS_HZ)
    assert np.flatnonzero(np.isnan(g).any(axis=1)).tolist() == [200 * RATE_HZ // FS_HZ]
    assert window(g[:LENGTH]) is None


def test_what_is_not_on_earth_is_no_motion():
    assert window(np.zeros((LENGTH, 3), np.float32)) is None
    assert window(np.full((LENGTH, 3), 9.0, np.float32)) is None


class Shelf:
    """One model whose answer is given."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def get(self, _name):
        return self, {}

    def version(self, _name):
        return 7

    def run(self, motion):
        self.seen.append(motion)
        if self.answer is None:
            raise InferenceError("broken")
        return np.array([self.answer], np.float32)


class Waves:
    """Samples of each board from number 0 on."""

    def __init__(self):
        self.samples, self.silent = {}, False

    def on_wave(self, callback):
        self.tell = callback

    def window(self, board, channel, seconds):
        if channel != WAVE_ACCEL or board not in self.samples or self.silent:
            return None
        samples = self.samples[board][-round(seconds * FS_HZ) :]
        return samples, FS_HZ, len(self.samples[board]) - len(samples)

    def hear(self, board, milli_g, boots=1):
        before = self.samples.get(board, np.zeros((0, 3), np.float32))
        self.samples[board] = np.concatenate([before, milli_g])
        known = np.nan_to_num(milli_g).astype("<i2").tobytes()
        self.tell(board, Wave(WAVE_ACCEL, 3, FS_HZ, boots, len(before), (), known))


def answering(share, found=WALKING):
    answer = np.full(len(ACTIVITIES), (1 - share) / (len(ACTIVITIES) - 1))
    answer[found] = share
    return answer


def reading(shelf, *parts, boards=(5,)):
    """What is said of the first board after it streamed these parts."""
    waves, errors = Waves(), Counter()
    reader = ActivityReader(waves, shelf, errors)
    for part in parts:
        for board in boards:
            waves.hear(board, part)
        reader.work()
    return reader, waves, errors


def told(reader, board=5):
    (finding,) = reader.findings(board)
    (found,) = finding.readings
    return found


def test_the_class_and_its_probability_are_told_with_model_and_time():
    reader, _, _ = reading(Shelf(answering(0.9)), walk(4))
    (finding,) = reader.findings(5)
    assert (finding.model, finding.version, finding.boots, finding.t_ms) == ("activity", 7, 1, 4000)
    assert finding.readings == ((ACTIVITY_CLASS, 90, WALKING),)


def test_who_is_not_sure_says_so():
    assert told(reading(Shelf(answering(0.4)), walk(4))[0]) == (ACTIVITY_CLASS, POOR_SIGNAL, UNKNOWN)


def test_it_waits_for_a_whole_window_and_never_bridges_a_gap():
    shelf = Shelf(answering(0.9))
    assert told(reading(shelf, walk(2))[0]) == (ACTIVITY_CLASS, SETTLING, UNKNOWN)
    gap = np.full((FS_HZ // 2, 3), np.nan, np.float32)
    assert told(reading(shelf, walk(4), gap, walk(1))[0]) == (ACTIVITY_CLASS, NO_DATA, UNKNOWN)
    assert len(shelf.seen) == 1  # what was whole
    assert told(reading(shelf, np.zeros((4 * FS_HZ, 3), np.float32))[0]) == (ACTIVITY_CLASS, SENSOR_FAULT, UNKNOWN)


def test_what_is_not_heard_any_more_is_unknown_and_a_withdrawal_forgets():
    reader, waves, _ = reading(Shelf(answering(0.9)), walk(4))
    waves.silent = True
    assert told(reader) == (ACTIVITY_CLASS, NO_DATA, UNKNOWN)
    reader.forget(5)
    assert reader.findings(5) == ()
    reader.work()


def test_a_model_that_fails_is_counted():
    reader, _, errors = reading(Shelf(None), walk(4))
    assert errors == {"activity": 1}
    assert told(reader) == (ACTIVITY_CLASS, NO_DATA, UNKNOWN)


def test_work_is_bounded_and_boards_take_turns():
    shelf = Shelf(answering(0.9))
    reader, _, _ = reading(shelf, walk(4), boards=range(1, 7))
    assert len(shelf.seen) == 4
    reader.work()
    assert len(shelf.seen) == 6
    reader.work()
    assert len(shelf.seen) == 6


def test_a_boot_begins_anew_and_an_ecg_is_none_of_its_business():
    reader, waves, _ = reading(Shelf(answering(0.9)), walk(4))
    waves.tell(5, Wave(WAVE_ACCEL, 3, FS_HZ, 2, 0, (), walk(1).astype("<i2").tobytes()))
    assert told(reader) == (ACTIVITY_CLASS, SETTLING, UNKNOWN)
    waves.tell(6, Wave(WAVE_ECG, 1, 200, 1, 0, (), bytes(400)))
    assert reader.findings(6) == ()


@pytest.mark.parametrize("fs_hz", [1, 7, 24, 25, 333, 500])
def test_any_rate_on_the_wire_is_borne_and_too_slow_a_one_is_no_signal(fs_hz):
    waves = Waves()
    reader = ActivityReader(waves, Shelf(answering(0.9)), Counter())
    waves.window = lambda _board, _channel, seconds: (walk(4, fs_hz)[-round(seconds * fs_hz) :], fs_hz, 0)
    for second in range(4):
        waves.tell(5, Wave(WAVE_ACCEL, 3, fs_hz, 1, second * fs_hz, (), bytes(6 * fs_hz)))
        reader.work()
    assert told(reader)[2] == (UNKNOWN if fs_hz < RATE_HZ else WALKING)
