"""Sixteen made-up people of three minutes each; two of them have a second record."""

import numpy as np
import pytest

from qepa_board.learning.features import N_FEATURES
from qepa_tools.evaluation.cohort import Case, Cohort
from qepa_tools.recordings.board_beats import BoardBeats
from qepa_tools.recordings.recording import Recording

FS_HZ, SECONDS = 100, 180


@pytest.fixture(scope="session")
def cohort():
    rng = np.random.default_rng(1)
    means = rng.normal(0, 150, (4, N_FEATURES))
    cases = []
    for number in range(18):
        person = f"person-{number % 16:02}"
        classes = rng.choice(4, 240, p=rng.dirichlet((14, 2, 3, 1)))
        features = means[classes] + rng.normal(0, 60, N_FEATURES) + rng.normal(0, 200, (240, N_FEATURES))
        beats = BoardBeats(
            recording=f"record-{number:02}",
            samples=np.sort(rng.choice(FS_HZ * SECONDS, 240, replace=False)),
            features=np.clip(features, -1024, 1024).astype(np.int16),
            classes=classes.astype(np.int8),
            missed=np.zeros(0, np.int8),
        )
        samples = np.zeros(FS_HZ * SECONDS, np.uint16)
        recording = Recording(
            id=beats.recording, person=person, fs_hz=FS_HZ, samples=samples, labels=(), synthetic=True
        )
        cases.append(Case(recording, beats))
    return Cohort(tuple(cases), {})
