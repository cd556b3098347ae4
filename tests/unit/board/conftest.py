"""How the tests of the board's signal processing get at records and run them through the pipeline."""

from array import array
from collections.abc import Callable

import numpy as np
import pytest

from qepa_board.signals.ecg import BEATS, EcgPipeline
from qepa_tools.recordings import Recording, find_data
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import counts_from_adc

Push = Callable[..., list[int]]


@pytest.fixture
def real_recording() -> Callable[[str], Recording]:
    """A record of the MIT-BIH Arrhythmia Database; the test is skipped where it is not."""

    def load(name: str) -> Recording:
        directory = find_data()
        if directory is None or not (directory / f"{name}.hea").is_file():
            pytest.skip(f"record {name} of the MIT-BIH Arrhythmia Database is not here")
        return load_wfdb(directory, name)

    return load


@pytest.fixture
def push() -> Push:
    """Push signed counts block by block; returns the R peaks of the beats measured meanwhile."""

    def feed(pipeline: EcgPipeline, counts: np.ndarray, block: int = 90) -> list[int]:
        words = array("h", counts.astype(np.int16).tobytes())
        found = []
        for start in range(0, len(words), block):
            part = words[start : start + block]
            before = pipeline.n_beats
            pipeline.push(part, len(part))
            found += [pipeline.beats[k % BEATS].sample_index for k in range(before, pipeline.n_beats)]
        return found

    return feed


@pytest.fixture
def counts_of() -> Callable[..., np.ndarray]:
    """The signed counts of a recording's first seconds, or all."""

    def counts(recording: Recording, seconds: float | None = None) -> np.ndarray:
        end = None if seconds is None else round(seconds * recording.fs_hz)
        return counts_from_adc(recording.samples[:end])

    return counts
