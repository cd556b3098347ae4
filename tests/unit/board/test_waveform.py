"""What of a channel is sent: each sample once, in order, none that waited over two seconds, R peaks where they are."""

import random
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_board.signals.vitals import Vitals
from qepa_board.signals.waveform import Waveform
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_wire.payloads import MAX_WAVE_PEAKS, WAVE_ECG, Wave, decode_wave, encode_wave

FS_HZ = 40
RING = 128


@given(st.integers(0, 9), st.lists(st.integers(0, 70), min_size=1, max_size=40))
def test_each_sample_goes_once_at_its_number(delay, arrivals):
    ring = array("h", bytes(2 * RING))
    waveform = Waveform()
    n = sent_to = 0
    for count in arrivals:
        for _ in range(count):
            ring[n % RING] = n
            n += 1
        fields = waveform.take((WAVE_ECG, 1, FS_HZ, 1), ring, n - delay, delay, ())
        if fields is None:
            assert n - delay <= sent_to
            continue
        wave = Wave(*fields)
        samples = array("h", wave.samples)
        waiting = n - delay - sent_to
        assert wave.first == (sent_to if waiting <= 2 * FS_HZ else n - delay - FS_HZ)
        assert len(samples) == min(FS_HZ, n - delay - wave.first)
        assert list(samples) == list(range(wave.first + delay, wave.first + delay + len(samples)))
        sent_to = wave.first + len(samples)


@pytest.fixture(scope="module")
def heart():
    return counts_from_adc(synthetic_recording(3, 0, 30).samples).astype(np.int32)


def streamed(counts, fs_hz=360, chunk=36):
    """Waves of a board that takes ``counts``, each through the wire; chunks come unevenly, as polls do."""
    vitals = Vitals(fs_hz, 50)
    waves, at, due = [], 0, fs_hz
    sizes = random.Random(1)
    while at < len(counts):
        n = sizes.randint(1, chunk)
        block = array("i", counts[at : at + n].tolist())
        vitals.push(block, len(block))
        at += len(block)
        if at >= due:
            due += fs_hz
            wave = vitals.wave(1)
            if wave is not None:
                sealed = encode_wave(bytes(32), bytes(16), 1, 2, wave)
                waves.append(decode_wave(bytes(32), 1, 2, sealed))
    return vitals, waves


def test_the_lead_streams_without_a_hole_and_with_each_peak_once(heart):
    vitals, waves = streamed(heart)
    assert [wave.first for wave in waves[1:]] == [wave.first + len(wave.samples) // 2 for wave in waves[:-1]]
    peaks = [peak for wave in waves for peak in wave.peaks]
    assert max(len(wave.peaks) for wave in waves) <= MAX_WAVE_PEAKS
    latest = list(vitals.pipeline.beats.samples[: vitals.pipeline.n_beats])
    assert peaks[: len(latest) - 2] == latest[: len(peaks)][: len(latest) - 2]
    assert len(peaks) >= 20


def test_peaks_point_at_the_qrs_in_the_waveform(heart):
    """Shifted back by the filter's delay: within 20 ms of the largest deflection nearby, in the samples as sent."""
    _, waves = streamed(heart)
    sent = np.concatenate([np.frombuffer(wave.samples, "<i2") for wave in waves]).astype(int)
    peaks = [peak for wave in waves for peak in wave.peaks if 100 < peak < len(sent) - 100]
    for peak in peaks:
        near = sent[peak - 36 : peak + 36]
        assert abs(np.abs(near - np.median(near)).argmax() - 36) <= 7


def test_the_wave_is_the_signal_in_the_wires_units(heart):
    """800 units a millivolt of 400 counts: a count is two units, baseline and mains aside."""
    _, waves = streamed(heart)
    sent = np.concatenate([np.frombuffer(wave.samples, "<i2") for wave in waves]).astype(float)
    raw = heart[: len(sent)].astype(float)
    steady = slice(360 * 5, len(sent))
    sent, raw = sent[steady] - sent[steady].mean(), raw[steady] - raw[steady].mean()
    slope = float((sent * raw).sum() / (raw * raw).sum())
    assert 1.5 < slope < 2.1
    assert np.corrcoef(sent, raw)[0, 1] > 0.9
