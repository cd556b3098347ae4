"""WFDB records for tests, written by wfdb itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from qepa_tools.recordings.recording import ADC_MID, ADC_UNITS_PER_MV
from qepa_tools.recordings.synthetic import synthetic_recording


def write_ecg(
    folder: Path, name: str, *, symbols: str = "N", seconds: float = 20, unit: str = "mV", fs: int = 360,
    lead: str = "MLII", gap: slice | None = None, shift: int = 0, seed: int = 1,
) -> None:  # fmt: skip
    """A synthetic ECG whose beats bear `symbols` in turn; fs other than 360 resamples it, shift moves the marks."""
    recording = synthetic_recording(seed, int.from_bytes(name.encode(), "big") % 97, seconds)
    signal = (recording.samples.astype(float) - ADC_MID) / ADC_UNITS_PER_MV
    marks = np.array([label.sample for label in recording.labels])
    marks = marks[marks + shift >= 0]
    if fs != 360:
        t = np.arange(round(len(signal) * fs / 360)) / fs
        signal = np.interp(t, np.arange(len(signal)) / 360, signal)
        marks = np.round(marks * fs / 360).astype(int)
    signal *= {"mV": 1, "uV": 1000, "V": 1e-3}.get(unit, 1)
    if gap is not None:
        signal[gap] = np.nan
    wfdb.wrsamp(
        name, fs=fs, units=[unit], sig_name=[lead], p_signal=signal[:, None], fmt=["16"],
        adc_gain=[1000 / np.nanmax(np.abs(signal))], baseline=[0], write_dir=str(folder),
    )  # fmt: skip
    if symbols:
        written = [symbols[k % len(symbols)] for k in range(len(marks))]
        wfdb.wrann(name, "atr", sample=marks + shift, symbol=written, write_dir=str(folder))


@pytest.fixture
def write_record() -> Callable[..., None]:
    """`write_ecg`, see there."""
    return write_ecg
