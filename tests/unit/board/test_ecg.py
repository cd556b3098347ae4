"""The pipeline as the board's application sees it: rate, quality, asystole, labels, statistics."""

from collections.abc import Callable

import numpy as np
import pytest

from qepa_board.learning.features import NAMES as FEATURES
from qepa_board.learning.learn import UNLABELLED
from qepa_board.signals.ecg import BEATS, MAX_BLOCK, EcgPipeline
from qepa_board.signals.quality import FLATLINE, GOOD, NOISY, SATURATED
from qepa_board.signals.vital_statistics import RoundStatistics
from qepa_tools.recordings import Recording
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_wire.statistics import BOUNDS, NAMES, WORDS

Push = Callable[..., list[int]]
Load = Callable[[str], Recording]
Counts = Callable[..., np.ndarray]


@pytest.fixture
def synthetic(counts_of: Counts) -> np.ndarray:
    return counts_of(synthetic_recording(4, 0, 40))


def test_heart_rate_follows_the_annotated_one(synthetic: np.ndarray, push: Push) -> None:
    recording = synthetic_recording(4, 0, 40)
    pipeline = EcgPipeline(360)
    assert pipeline.hr_bpm() is None
    push(pipeline, synthetic)
    rr_s = np.diff([label.sample for label in recording.labels][-10:]) / 360
    assert pipeline.hr_bpm() == pytest.approx(60 / np.median(rr_s), abs=2)
    assert pipeline.hr_bpm_x10() == pytest.approx(600 / np.median(rr_s), abs=15)
    assert pipeline.quality() == GOOD


def test_asystole_after_four_seconds_without_a_beat(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    push(pipeline, synthetic)
    assert not pipeline.asystole()
    push(pipeline, np.zeros(3 * 360))
    assert not pipeline.asystole()
    push(pipeline, np.zeros(2 * 360))
    assert pipeline.asystole()
    assert pipeline.hr_bpm() is None
    assert pipeline.quality() == FLATLINE


def test_a_lost_electrode_is_no_asystole(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    push(pipeline, synthetic)
    push(pipeline, np.full(8 * 360, 2047))
    assert pipeline.quality() == SATURATED
    assert not pipeline.asystole()
    assert pipeline.hr_bpm() is None
    push(pipeline, synthetic[: 12 * 360])
    assert pipeline.quality() == GOOD
    assert not pipeline.asystole()
    assert pipeline.hr_bpm() is not None


def test_muscle_noise_is_reported_and_gives_no_rate(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    noise = np.random.default_rng(1).normal(0, 300, len(synthetic))
    push(pipeline, (synthetic + noise).clip(-2048, 2047))
    assert pipeline.quality() == NOISY
    assert pipeline.hr_bpm() is None


def test_a_label_attaches_to_the_nearest_beat_within_150_ms(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    found = push(pipeline, synthetic)
    assert pipeline.label(found[5] + 54, 2)
    assert not pipeline.label(found[6] + 60, 2)
    assert not pipeline.label(10**6, 2)
    assert [pipeline.beats[k].label for k in range(8)] == [UNLABELLED] * 5 + [2] + [UNLABELLED] * 2


def test_training_set_holds_each_labelled_beat_once_and_rehearses_rare_ones(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    found = push(pipeline, synthetic)
    for k in range(12):
        pipeline.label(found[k], 2 if k == 3 else 0)
    features, labels = pipeline.training_set()
    assert labels == [0, 0, 0, 2] + [0] * 8
    assert list(features[3]) == list(pipeline.beats[3].features)
    assert pipeline.training_set()[1] == [2]
    for k in range(12, 24):
        pipeline.label(found[k], 2)
    assert pipeline.training_set()[1] == [2] * 13
    assert pipeline.training_set()[1] == [2] * 8


def test_labels_of_beats_long_gone_are_refused(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    found = []
    while pipeline.n_beats <= BEATS + 10:
        found += push(pipeline, synthetic)
    assert not pipeline.label(found[2], 0)
    assert pipeline.label(found[-1], 0)


def test_a_block_too_long_is_refused(push: Push) -> None:
    with pytest.raises(ValueError, match="at most"):
        EcgPipeline(360).push([0] * (MAX_BLOCK + 1), MAX_BLOCK + 1)


def test_statistics_of_a_window(synthetic: np.ndarray, push: Push) -> None:
    pipeline = EcgPipeline(360)
    push(pipeline, synthetic)
    named = dict(zip(NAMES, pipeline.take_statistics(), strict=True))
    rr_ms = np.diff([label.sample for label in synthetic_recording(4, 0, 40).labels]) / 0.36
    assert named["valid"] == 1
    assert named["hr_bpm"] == pytest.approx(60000 / rr_ms.mean(), abs=2)
    assert named["hr_squared_bpm2"] == named["hr_bpm"] ** 2
    assert named["sdnn_ms"] == pytest.approx(rr_ms.std(), abs=6)
    assert named["beats"] == pytest.approx(len(rr_ms), abs=4)
    assert sum(value for name, value in named.items() if name.startswith("hr_") and "bpm" not in name) == 1
    assert list(pipeline.take_statistics()) == [0] * WORDS


@pytest.mark.parametrize("rr", [1, 72, 100, 300, 1080, 10**6])
def test_statistics_stay_within_their_bounds(rr: int) -> None:
    statistics = RoundStatistics(360)
    for k in range(3000):
        statistics.interval(rr + k % 2 * 300)
    words = statistics.take()
    assert all(0 <= word <= bound for word, bound in zip(words, BOUNDS, strict=True))


def test_ventricular_beats_stand_out(push: Push, counts_of: Counts, real_recording: Load) -> None:
    """Record 119: ventricular beats are wide, turned and early, and so is their shape."""
    recording = real_recording("119")
    pipeline = EcgPipeline(360, mains_hz=60)
    push(pipeline, counts_of(recording, 60))
    rows: dict[int, list[list[int]]] = {0: [], 2: []}
    for label in recording.labels:
        if label.aami in rows and pipeline.label(label.sample, label.aami):
            beat = min(pipeline.beats, key=lambda b: abs(b.sample_index - label.sample))
            rows[label.aami].append(list(beat.features))
    normal, ventricular = np.array(rows[0][8:]).T, np.array(rows[2]).T
    assert ventricular.shape[1] >= 5
    for name, usual, odd in (("width_ratio", 50, 100), ("turned", 30, 60), ("premature_unlike", 30, 120)):
        k = FEATURES.index(name)
        assert np.median(normal[k]) < usual
        assert np.median(ventricular[k]) > odd
    shape_early = FEATURES.index("shape_early")
    assert np.median(normal[shape_early]) > -20
    assert np.median(ventricular[shape_early]) < -30
