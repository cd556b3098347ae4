"""The compiled kernels give the board's own words: on recordings, on noise, on whatever an ADC may deliver."""

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qepa_kernels
from qepa_board.signals import ecg
from qepa_board.signals.beats import BEATS
from qepa_tools.recordings import find_data
from qepa_tools.recordings.compiled_board import COMPILED, compiled_kernels, compiled_pipeline
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording

BLOCK = 180


def beats(pipeline, counts) -> list[tuple[int, tuple[int, ...]]]:
    """Sample number and features of each measured beat."""
    words = array("h", np.asarray(counts, dtype=np.int16).tobytes())
    found = []
    for start in range(0, len(words), BLOCK):
        block = words[start : start + BLOCK]
        new = pipeline.push(block, len(block))
        for number in range(pipeline.n_beats - new, pipeline.n_beats):
            beat = pipeline.beats[number % BEATS]
            found.append((beat.sample_index, tuple(beat.features)))
    return found


def same(counts, fs_hz: int = 360, mains_hz: int = 60) -> int:
    """How many beats both found; they and the states of both filters must agree."""
    plain, compiled = ecg.EcgPipeline(fs_hz, mains_hz), compiled_pipeline(fs_hz, mains_hz)
    expected = beats(plain, counts)
    assert beats(compiled, counts) == expected
    assert compiled.filter.state == plain.filter.state
    assert compiled.filter.clean == plain.filter.clean
    assert (compiled.quality(), compiled.hr_bpm_x10()) == (plain.quality(), plain.hr_bpm_x10())
    return len(expected)


@pytest.mark.parametrize("name", ["106", "119", "201", "203", "208"])
@pytest.mark.parametrize("start_s", [0, 700])
def test_the_same_features_on_pieces_of_recordings(name: str, start_s: int) -> None:
    found = find_data()
    if found is None:
        pytest.skip("no recordings here")
    counts = counts_from_adc(load_wfdb(found, name).samples)[start_s * 360 : (start_s + 40) * 360]
    assert same(counts) > 25


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    fs_hz=st.integers(200, 500),
    mains_hz=st.sampled_from([50, 60]),
    gain=st.floats(0.1, 12),
    noise=st.floats(0, 900),
)
def test_the_same_features_on_synthetic_signals(
    seed: int, fs_hz: int, mains_hz: int, gain: float, noise: float
) -> None:
    counts = counts_from_adc(synthetic_recording(seed, 0, 12).samples) * gain
    counts = counts + np.random.default_rng(seed).normal(0, noise, len(counts))
    same(np.clip(counts, -2048, 2047), fs_hz, mains_hz)


@settings(max_examples=8, deadline=None)
@given(levels=st.lists(st.integers(-32768, 32767), min_size=1, max_size=30), hold=st.integers(1, 400))
def test_the_same_words_from_rails_and_steps(levels: list[int], hold: int) -> None:
    same(np.repeat(levels, hold)[:4000])


def test_the_boards_own_modules_keep_their_kernels() -> None:
    compiled_pipeline(360, 60)
    assert qepa_kernels.IMPLEMENTATION == "bytecode"
    assert ecg.EcgPipeline is not type(compiled_pipeline(360, 60))
    kernels = compiled_kernels()
    assert all(hasattr(getattr(kernels, name), "py_func") for name in COMPILED)
