"""MIT-BIH Noise Stress Test Database: record 118 with electrode motion from the fifth minute on, two minutes in four.

Moody, Muldrow, Mark, Computers in Cardiology 1984; DOI 10.13026/C2HS3T. The loudest records drift by more than a
12-bit converter's range, so they pass the front end's high-pass first, as on a board.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray
from scipy.signal import lfilter

from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import Recording, adc_from_millivolt

RECORDS = {"118e24": 24, "118e12": 12, "118e00": 0, "118e_6": -6}  # signal to noise ratio in dB
FRONT_END_HZ = 0.5  # AD8232 heart-rate monitor circuit, MAX30003 DHPF: both 0.5 Hz

_CLEAN_S = 300
_SEGMENT_S = 120


def load_noise_stress(directory: Path, name: str) -> Recording:
    """One of RECORDS behind a first-order high-pass; its labels are those of the noise-free record."""
    recording = load_wfdb(directory, name)
    signal_mv = wfdb.rdrecord(str(directory / name), channels=[0]).p_signal[:, 0]
    return replace(recording, samples=adc_from_millivolt(front_end(signal_mv, recording.fs_hz)))


def is_noisy(sample: int, fs_hz: int) -> bool:
    """Whether noise is added at this sample: two minutes of every four from 5 min on (nst's protocol)."""
    after = sample - _CLEAN_S * fs_hz
    return after >= 0 and after // (_SEGMENT_S * fs_hz) % 2 == 0


def front_end(signal_mv: NDArray[np.float64], fs_hz: int) -> NDArray[np.float64]:
    """Return the signal behind a chip's own high-pass, first order at FRONT_END_HZ."""
    pole = float(np.exp(-2 * np.pi * FRONT_END_HZ / fs_hz))
    start = signal_mv - signal_mv[0]
    return np.asarray(lfilter([1.0, -1.0], [1.0, -pole], start), dtype=np.float64)
