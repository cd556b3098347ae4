"""Models and beats with known answers, and records for the command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from qepa_board.learning.features import NAMES, ONE
from qepa_server.explain.network import Network
from qepa_tools.evaluation.cohort import Case
from qepa_tools.recordings.board_beats import BoardBeats
from qepa_tools.recordings.recording import ADC_MID, ADC_UNITS_PER_MV, Recording
from qepa_tools.recordings.synthetic import synthetic_recording


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def linear(rng: np.random.Generator) -> Network:
    """Softmax regression of 4 classes and 17 features."""
    return Network(rng.normal(size=(4, 18)))


@pytest.fixture
def layered(rng: np.random.Generator) -> Network:
    """6 hidden units that are clipped at either end now and then, 9 features, 4 classes."""
    return Network(rng.normal(size=(4, 7)), 2 * rng.normal(size=(6, 10)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six records r0 to r5 of 30 s, and their symbols in turn; of a synthetic ECG that is the same for every symbol."""
    directory = tmp_path_factory.mktemp("records")
    for k, symbols in enumerate(("NNNV", "NNNNA", "NVVVN", "N", "NNF", "NNNNNV")):
        recording = synthetic_recording(1, k, 30)
        signal = (recording.samples.astype(float) - ADC_MID) / ADC_UNITS_PER_MV
        marks = np.array([label.sample for label in recording.labels])
        wfdb.wrsamp(
            f"r{k}", fs=360, units=["mV"], sig_name=["MLII"], p_signal=signal[:, None], fmt=["16"],
            adc_gain=[1000 / np.abs(signal).max()], baseline=[0], write_dir=str(directory),
        )  # fmt: skip
        written = [symbols[n % len(symbols)] for n in range(len(marks))]
        wfdb.wrann(f"r{k}", "atr", sample=marks, symbol=written, write_dir=str(directory))
    return directory


@pytest.fixture(scope="session")
def person() -> Callable[[str, int], Case]:
    """Makes a person of a name and a seed."""
    return made_person


def made_person(name: str, seed: int) -> Case:
    """Half an hour, a beat a second; early ones are S, early and wide ones V; all people are of one kind."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([0, 1, 2], size=1799, p=[0.8, 0.1, 0.1]).astype(np.int8)
    features = rng.normal(0, 30, size=(len(classes), len(NAMES)))
    features[:, NAMES.index("premature")] += ONE * (classes > 0)
    features[:, NAMES.index("width_ratio")] += ONE * (classes == 2)
    recording = Recording(id=name, person=name, fs_hz=360, samples=np.zeros(1800 * 360, np.uint16), labels=())
    beats = BoardBeats(
        recording=name, samples=360 * np.arange(1, 1800), features=features.astype(np.int16), classes=classes,
        missed=np.zeros(0, np.int8),
    )  # fmt: skip
    return Case(recording, beats)
