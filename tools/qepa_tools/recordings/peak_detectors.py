"""R-peak detectors side by side on what the board's ADC sees: the board's own, wfdb's xqrs and gqrs, neurokit2's.

All get the same 12-bit counts (400 to a millivolt); the others may look ahead, the board's may not.
"""

import hashlib
import os
import zipfile
from array import array
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import wfdb.processing
from numpy.typing import NDArray

from qepa_board.signals.beats import BEATS
from qepa_board.signals.dsp import COUNTS_PER_MV
from qepa_board.signals.ecg import EcgPipeline
from qepa_tools.recordings.board_beats import firmware_digest
from qepa_tools.recordings.recording import DataError

Detector = Callable[[NDArray[np.int16], int], list[int]]

MAINS_HZ = 60

_BLOCK = 180


def board_peaks(counts: NDArray[np.int16], fs_hz: int) -> list[int]:
    """The firmware, block by block."""
    pipeline = EcgPipeline(fs_hz, mains_hz=MAINS_HZ)
    words = array("h", counts.tobytes())
    found: list[int] = []
    seen = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        pipeline.push(block, len(block))
        found += [pipeline.beats[k % BEATS].sample_index for k in range(seen, pipeline.n_beats)]
        seen = pipeline.n_beats
    return found


def xqrs_peaks(counts: NDArray[np.int16], fs_hz: int) -> list[int]:
    """wfdb's xqrs, with its defaults."""
    detector = wfdb.processing.XQRS(sig=counts / COUNTS_PER_MV, fs=fs_hz)
    detector.detect(verbose=False)
    return [int(i) for i in detector.qrs_inds]


def gqrs_peaks(counts: NDArray[np.int16], fs_hz: int) -> list[int]:
    """wfdb's gqrs, with its defaults."""
    found = wfdb.processing.gqrs_detect(d_sig=counts.astype(np.int64), fs=fs_hz, adc_gain=COUNTS_PER_MV, adc_zero=0)
    return [int(i) for i in found]


def neurokit_peaks(counts: NDArray[np.int16], fs_hz: int) -> list[int]:
    """neurokit2's default detector behind its default filter."""
    import neurokit2  # noqa: PLC0415  takes seconds, and only developers have it

    clean = neurokit2.ecg_clean(counts / COUNTS_PER_MV, sampling_rate=fs_hz)
    return [int(i) for i in neurokit2.ecg_peaks(clean, sampling_rate=fs_hz)[1]["ECG_R_Peaks"]]


DETECTORS: Mapping[str, Detector] = {
    "board": board_peaks,
    "xqrs": xqrs_peaks,
    "gqrs": gqrs_peaks,
    "neurokit2": neurokit_peaks,
}


class PeakCache:
    """Keeps what a detector found in a directory: one file per detector, its version and the signal."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions = {"board": firmware_digest()}

    def peaks(self, detector: str, counts: NDArray[np.int16], fs_hz: int) -> list[int]:
        """Sample numbers, ascending."""
        path = self._directory / f"peaks-{detector}-{self._key(detector, counts, fs_hz)}.npy"
        try:
            return [int(i) for i in np.load(path, allow_pickle=False)]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            found = sorted(DETECTORS[detector](counts, fs_hz))
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.save(file, np.array(found, dtype=np.int64))
        unfinished.replace(path)
        return found

    def _key(self, detector: str, counts: NDArray[np.int16], fs_hz: int) -> str:
        if detector not in DETECTORS:
            raise DataError(f"There is no detector {detector}: choose from {', '.join(DETECTORS)}.")
        if detector not in self._versions:
            self._versions[detector] = version("neurokit2" if detector == "neurokit2" else "wfdb")
        digest = hashlib.sha256(f"{self._versions[detector]} {fs_hz} ".encode())
        digest.update(counts.tobytes())
        return digest.hexdigest()[:24]
