"""Training for the bedside on slices: windows from the board's own signal, noise of known size, int8 beside float."""

from dataclasses import replace

import numpy as np
import pytest

from qepa_gateway.inference.runtime import Int8Model
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import TrainSettings, answers, fit_classes
from qepa_server.training.bedside.networks import beats_network
from qepa_tools.evaluation.cohort import Case
from qepa_tools.recordings.board_beats import board_beats
from qepa_tools.recordings.recording import DataError, adc_from_millivolt
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_tools.training.beat_set import beat_set, stacked
from qepa_tools.training.cleaned_leads import cleaned
from qepa_tools.training.ecg_beats import altered, outputs
from qepa_tools.training.ecg_quality import Windows, figures, intervals
from qepa_tools.training.quality_set import BETWEEN, POOR, USABLE, Noise, QualitySet, made_noise, quality_set
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS, NUMBERS

SECONDS = 60
SECOND = NUMBERS.index("second_lead")


def case_of(number: int) -> Case:
    recording = synthetic_recording(1, number, SECONDS)
    return Case(recording, board_beats(recording, SECONDS))


def test_the_cleaned_lead_is_in_step_with_the_board_s_peaks():
    case = case_of(1)
    signal = cleaned(case.recording.samples, 360)
    assert len(signal) == len(case.recording.samples)
    away = [int(np.abs(signal[p - 20 : p + 21]).argmax()) - 20 for p in case.beats.samples[5:-5]]
    assert np.abs(away).max() <= 8


def test_every_beat_with_signal_around_it_has_a_window_and_its_class():
    case = case_of(2)
    lead = cleaned(case.recording.samples, 360)
    found = beat_set(case, np.column_stack([lead, -lead]))
    assert len(found.index) >= len(case.beats.samples) - 2
    np.testing.assert_array_equal(found.classes, case.beats.classes[found.index])
    assert (found.numbers[:, SECOND] == 1).all()
    leads, rhythm, classes, persons = stacked([found])
    assert len(leads) == len(rhythm) == len(classes) == len(persons) == found.case.beats.labelled[found.index].sum()


def test_altered_beats_lose_their_second_lead_half_of_the_time_and_keep_their_shape():
    rng = np.random.default_rng(1)
    leads = rng.standard_normal((400, *CONTRACTS[ECG_BEATS].inputs[0].shape[1:])).astype(np.float32)
    rhythm = np.ones((400, len(NUMBERS)), np.float32)
    before = leads.copy()
    changed, numbers = altered([leads, rhythm], rng)
    np.testing.assert_array_equal(leads, before)  # what is trained on stays as it is
    gone = ~changed[:, :, 2:].any(axis=(1, 2))
    assert 0.4 < gone.mean() < 0.6
    np.testing.assert_array_equal(numbers[:, SECOND] == 0, gone)


def test_int8_is_within_a_few_steps_of_float_and_the_same_seed_gives_the_same_file():
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 4, 300)
    first, second = CONTRACTS[ECG_BEATS].inputs
    leads = rng.standard_normal((300, *first.shape[1:])).astype(np.float32) * 0.3
    leads[np.arange(300), 20 + 20 * classes, 0] += 3
    rhythm = rng.standard_normal((300, *second.shape[1:])).astype(np.float32) * 0.1
    settings = TrainSettings(epochs=2, draw=300, batch=50)
    flat = np.zeros((4, len(NUMBERS) + 1))

    def make():
        network = fit_classes(
            lambda: beats_network(first.shape[1:], second.shape[1], flat), [leads, rhythm], classes,
            np.ones(300, np.float32), settings,
        )  # fmt: skip
        return network, to_int8(network, [leads, rhythm])

    network, blob = make()
    assert make()[1] == blob
    model = Int8Model(blob)
    assert model.input_shapes == CONTRACTS[ECG_BEATS].input_shapes
    exact, whole = answers(network, [leads, rhythm]), outputs(model, [leads, rhythm])
    steps = np.abs(exact - whole) / model.output_step
    # Rounding of every layer adds up where probabilities are steep, so it is the bulk that is within few steps; and
    # where two classes are as likely as each other, which one is the answer says nothing.
    assert np.median(steps) <= 2
    top = np.sort(exact, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.1
    assert (whole.argmax(axis=1) == exact.argmax(axis=1))[clear].all()


def test_noise_is_measured_by_what_the_filters_leave():
    case = case_of(3)
    minutes = np.arange(120 * 360) / 360
    wander = Noise("wander", np.sin(2 * np.pi * 0.05 * minutes))  # far below what the board's filters pass
    loud = made_noise(1, pieces=10)
    gone, left = quality_set(case, [wander], 1), quality_set(case, [loud], 1)
    assert (gone.classes == USABLE).all()
    assert (left.classes == POOR).any()
    assert left.left_db.max() > 40  # of a stretch without noise nothing is left but the filters' own settling
    assert left.windows.shape[1:] == (512, 1)
    assert left.errors[left.classes == POOR].sum() > left.errors[left.classes == USABLE].sum()


def test_noise_of_another_rate_is_refused():
    case = case_of(3)
    with pytest.raises(DataError, match="360"):
        quality_set(Case(replace(case.recording, fs_hz=250), case.beats), [made_noise(1, pieces=2)], 1)


def test_figures_of_quality_count_windows_by_class_and_beats_by_verdict():
    of = QualitySet(
        person="a",
        windows=np.zeros((5, 512, 1), np.float16),
        left_db=np.array([np.inf, 20, 8, 0, -5], np.float32),
        board_good=np.ones(5, bool),
        errors=np.array([0, 0, 1, 3, 4]),
        beats=np.array([5, 5, 5, 5, 5]),
    )
    assert of.classes.tolist() == [USABLE, USABLE, BETWEEN, POOR, POOR]
    windows = [Windows(of=of, poor=np.array([False, True, False, True, False]))]
    found = figures(windows, [windows[0].poor])
    assert (found.poor_found, found.usable_kept) == (0.5, 0.5)
    assert (found.wrong_before, found.wrong_in_usable, found.wrong_in_poor) == (8 / 25, 5 / 15, 3 / 10)
    assert intervals(windows)["poor_found"] == (0.5, 0.5)
    silent = adc_from_millivolt(np.zeros(36_000))
    assert not cleaned(silent, 360).any()
