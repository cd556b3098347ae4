"""R-peak detection against cardiologists' annotations, EC57's 150 ms."""

from collections.abc import Callable

import numpy as np
import pytest

from qepa_board.signals.dsp import COUNTS_PER_MV
from qepa_board.signals.ecg import EcgPipeline
from qepa_tools.recordings import Recording, synthetic_cohort
from qepa_tools.recordings.board_beats import board_beats
from qepa_tools.recordings.synthetic import synthetic_recording

Push = Callable[..., list[int]]
Load = Callable[[str], Recording]
Counts = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    ("name", "minimum"),
    [("101", 0.99), ("108", 0.80), ("119", 0.99), ("203", 0.97), ("208", 0.99), ("209", 0.99), ("215", 0.99)],
)
def test_real_beats_are_found(name: str, minimum: float, real_recording: Load) -> None:
    beats = board_beats(real_recording(name), 120)
    assert beats.sensitivity() >= minimum
    assert beats.ppv() >= minimum


@pytest.mark.parametrize("fs_hz", [256, 360])
def test_synthetic_beats_are_found_at_their_sample(fs_hz: int) -> None:
    for recording in (synthetic_recording(5, k, 60, fs_hz) for k in range(4)):
        beats = board_beats(recording, 60)
        assert beats.sensitivity() == 1.0
        assert beats.ppv() == 1.0
        annotated = np.array([label.sample for label in recording.labels])
        away = np.abs(beats.samples[:, None] - annotated[None, :]).min(axis=1)
        assert away.max() <= 0.02 * fs_hz


def test_polarity_and_amplitude_do_not_matter(push: Push, counts_of: Counts) -> None:
    counts = counts_of(synthetic_cohort(2, 1, 40)[0])
    plain = push(EcgPipeline(360), counts)
    assert len(plain) > 20
    assert np.abs(np.array(push(EcgPipeline(360), -counts)) - np.array(plain)).max() <= 8
    assert np.abs(np.array(push(EcgPipeline(360), counts // 3)) - np.array(plain)).max() <= 3


def test_two_beats_are_never_within_the_refractory_period(push: Push) -> None:
    rng = np.random.default_rng(0)
    found = push(EcgPipeline(360), rng.normal(0, 0.5 * COUNTS_PER_MV, 360 * 60).clip(-2048, 2047))
    assert np.diff(found).min() > 0.1 * 360


def test_small_noise_and_silence_are_no_beats(push: Push) -> None:
    rng = np.random.default_rng(0)
    assert push(EcgPipeline(360), rng.normal(0, 3, 360 * 30)) == []
    assert push(EcgPipeline(360), np.zeros(360 * 30)) == []


def test_beats_come_back_after_a_pause(push: Push, counts_of: Counts) -> None:
    counts = counts_of(synthetic_recording(9, 0, 30))
    signal = np.concatenate([counts, np.zeros(20 * 360), counts])
    found = np.array(push(EcgPipeline(360), signal))
    assert ((found > 30 * 360 + 200) & (found < 50 * 360 - 200)).sum() == 0
    assert (found > 50 * 360).sum() >= (found < 30 * 360).sum() - 6
