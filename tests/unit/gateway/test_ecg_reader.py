"""Beats by class and signal quality from streamed ECG: unknown stays unknown, work is bounded, consent is the end."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ecg_windows import heart

from qepa_gateway.domain.wave_ring import WaveRing
from qepa_gateway.inference.ecg import BEATS_AT_ONCE, EcgReader
from qepa_gateway.inference.runtime import InferenceError
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS, ECG_QUALITY
from qepa_uplink.readings import BEATS_N, BEATS_V
from qepa_wire.measures import NO_DATA, POOR_SIGNAL, SETTLING, UNKNOWN
from qepa_wire.payloads import WAVE_ACCEL, WAVE_ECG, Wave

FS_HZ = 250
USABLE = CONTRACTS[ECG_QUALITY].outputs.index("usable")


class FakeModel:
    """Answers one class, or what ``answer`` makes of the input."""

    def __init__(self, classes, answer):
        self.classes, self.answer, self.calls = classes, answer, 0

    def run(self, *inputs):
        self.calls += 1
        answer = self.answer(*inputs) if callable(self.answer) else self.answer
        if answer is None:
            raise InferenceError("broken")
        return np.eye(self.classes, dtype=np.float32)[answer][None]


class FakeShelf:
    def __init__(self, beats=0, quality=USABLE):
        self.models = {ECG_BEATS: FakeModel(4, beats), ECG_QUALITY: FakeModel(2, quality)}

    def get(self, name):
        return self.models[name], {"version": 3}

    def version(self, name):
        return self.get(name)[1]["version"]


class FakeWaves:
    """Keeps 12 s of each board, as WaveStreams does."""

    def __init__(self):
        self.callbacks, self.samples, self.first, self.silent = [], {}, {}, False

    def on_wave(self, callback):
        self.callbacks.append(callback)

    def window(self, board, channel, seconds):
        if channel != WAVE_ECG or board not in self.samples or self.silent:
            return None
        n = min(len(self.samples[board]), int(seconds * FS_HZ))
        first = self.first[board] + len(self.samples[board]) - n
        return self.samples[board][-n:], FS_HZ, first

    def hear(self, board, wave):
        new = np.frombuffer(wave.samples, "<i2").reshape(-1, wave.axes).astype(np.float32)
        old = self.samples.get(board, np.zeros((0, 1), np.float32))
        end = self.first.get(board, wave.first) + len(old)
        gap = np.full((wave.first - end, 1), np.nan, np.float32)
        whole = np.concatenate([old, gap, new])[-12 * FS_HZ :]
        self.samples[board], self.first[board] = whole, wave.first + len(new) - len(whole)
        for callback in self.callbacks:
            callback(board, wave)


def seconds_of(samples, peaks, *, boots=1):
    for start in range(0, len(samples), FS_HZ):
        part = samples[start : start + FS_HZ]
        found = tuple(p for p in peaks if start <= p < start + FS_HZ)
        yield Wave(WAVE_ECG, 1, FS_HZ, boots, start, found, part.astype("<i2").tobytes())


@pytest.fixture
def rhythm():
    return heart(FS_HZ, [0.8], seconds=40)


def play(rhythm, shelf, *, skip=(), board=7, boots=1, waves=None, reader=None):
    waves = waves or FakeWaves()
    reader = reader or EcgReader(waves, shelf, Counter())
    for number, wave in enumerate(seconds_of(*rhythm, boots=boots)):
        if number not in skip:
            waves.hear(board, wave)
            reader.work()
    return waves, reader


def readings(reader, board=7):
    return {finding.model: finding.readings for finding in reader.findings(board)}


def test_beats_of_a_good_signal_are_counted_by_class(rhythm):
    shelf = FakeShelf(beats=lambda leads, _: 2 if leads[0, :, 0].min() < -0.4 else 0)
    samples, peaks = rhythm
    for peak in peaks[20:25]:  # five beats that look otherwise
        samples[peak - 10 : peak + 30] *= -1
    _, reader = play(rhythm, shelf)
    counts = {code: value for code, _, value in readings(reader)[ECG_BEATS]}
    assert counts[BEATS_V] == 5
    assert 35 <= counts[BEATS_N] <= len(peaks) - 5
    assert [f.version for f in reader.findings(7)] == [3, 3]
    ((_, _, quality),) = readings(reader)[ECG_QUALITY]
    assert quality == 100


def test_poor_signal_gives_no_classes(rhythm):
    shelf = FakeShelf(quality=1 - USABLE)
    _, reader = play(rhythm, shelf)
    assert {(q, v) for _, q, v in readings(reader)[ECG_BEATS]} == {(POOR_SIGNAL, UNKNOWN)}
    assert readings(reader)[ECG_QUALITY][0][2] == 0
    assert shelf.models[ECG_BEATS].calls == 0


def test_a_flat_or_young_signal_is_unknown(rhythm):
    flat = np.zeros_like(rhythm[0]), []
    _, reader = play(flat, FakeShelf())
    assert {(q, v) for _, q, v in readings(reader)[ECG_QUALITY]} == {(SETTLING, UNKNOWN)}
    assert {(q, v) for _, q, v in readings(reader)[ECG_BEATS]} == {(SETTLING, UNKNOWN)}


def test_silence_is_unknown_at_once(rhythm):
    waves, reader = play(rhythm, FakeShelf())
    waves.silent = True
    assert {(q, v) for model in readings(reader).values() for _, q, v in model} == {(NO_DATA, UNKNOWN)}


def test_beats_beside_a_gap_get_no_class_and_lower_the_quality(rhythm):
    _, whole = play(rhythm, FakeShelf())
    _, holed = play(rhythm, FakeShelf(), skip={20, 21, 30})
    (all_of_them,), (fewer,) = ({q for _, q, _ in readings(r)[ECG_BEATS]} for r in (whole, holed))
    assert fewer < all_of_them
    assert {v for _, _, v in readings(holed)[ECG_BEATS]} != {UNKNOWN}


def test_work_is_bounded_and_catches_up(rhythm):
    shelf = FakeShelf()
    waves = FakeWaves()
    reader = EcgReader(waves, shelf, Counter())
    for number, wave in enumerate(seconds_of(*rhythm)):
        for board in range(1, 21):
            waves.hear(board, wave)
        if number == 10:
            break
    before = -1
    while shelf.models[ECG_BEATS].calls > before:
        before = shelf.models[ECG_BEATS].calls
        reader.work()
        assert shelf.models[ECG_BEATS].calls - before <= BEATS_AT_ONCE
        reader.work()
    assert shelf.models[ECG_QUALITY].calls == 20  # each board had its turn


def test_a_model_that_fails_is_counted_and_finds_nothing(rhythm):
    waves, errors = FakeWaves(), Counter()
    reader = EcgReader(waves, FakeShelf(beats=lambda *_: None), errors)
    play(rhythm, None, waves=waves, reader=reader)
    assert errors[ECG_BEATS] > 10
    assert {v for _, _, v in readings(reader)[ECG_BEATS]} == {UNKNOWN}


def test_a_new_boot_and_an_ended_consent_begin_with_nothing(rhythm):
    waves, reader = play(rhythm, FakeShelf())
    waves.samples.clear()
    waves.first.clear()
    play((rhythm[0][: 3 * FS_HZ], []), None, waves=waves, reader=reader, boots=2)
    assert {f.boots for f in reader.findings(7)} == {2}
    assert {v for _, _, v in readings(reader)[ECG_BEATS]} == {UNKNOWN}
    reader.forget(7)
    reader.forget(7)
    assert reader.findings(7) == ()
    reader.work()


def test_motion_is_none_of_its_business():
    waves = FakeWaves()
    reader = EcgReader(waves, FakeShelf(), Counter())
    waves.callbacks[0](7, Wave(WAVE_ACCEL, 3, 104, 1, 0, (), bytes(6)))
    assert reader.findings(7) == ()


class RingWaves:
    """The gateway's own rings, without the gateway."""

    def __init__(self):
        self.callbacks, self.ring = [], None

    def on_wave(self, callback):
        self.callbacks.append(callback)

    def window(self, _board, _channel, seconds):
        return None if self.ring is None else self.ring.window(seconds)

    def hear(self, wave):
        if self.ring is None or not self.ring.fits(wave):
            self.ring = WaveRing(wave, seconds=12)
        self.ring.push(wave)
        for callback in self.callbacks:
            callback(7, wave)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_an_authentic_board_sends_nothing_is_raised(data):
    waves, errors = RingWaves(), Counter()
    reader = EcgReader(waves, FakeShelf(), errors)
    axes, fs_hz = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([1, 2, 10, 125, 200, 500]))
    at = data.draw(st.sampled_from([0, 5, 2**32 - 3000]))
    for _ in range(data.draw(st.integers(1, 12))):
        n = data.draw(st.integers(1, fs_hz))
        samples = np.random.default_rng(n).integers(-(2**15), 2**15, n * axes) * data.draw(st.sampled_from([0, 1]))
        found = data.draw(st.lists(st.integers(max(0, at - 3000), at + n - 1), max_size=4, unique=True))
        waves.hear(Wave(WAVE_ECG, axes, fs_hz, 1, at, tuple(sorted(found)), samples.astype("<i2").tobytes()))
        at += n + data.draw(st.sampled_from([0, 0, 0, 1, 3 * fs_hz, 40 * fs_hz]))
        reader.work()
        assert all(0 <= f.t_ms < 2**32 for f in reader.findings(7))
    assert not errors
