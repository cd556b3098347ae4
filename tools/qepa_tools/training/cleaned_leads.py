"""What a board that streams its waves would send of a recording: leads filtered by its own code."""

from array import array
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from qepa_board.signals.dsp import RING_MASK
from qepa_tools.recordings.board_beats import MITDB_MAINS_HZ
from qepa_tools.recordings.compiled_board import compiled_pipeline
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import DataError, Recording, counts_from_adc

_BLOCK = 512


def cleaned(samples: NDArray[np.uint16], fs_hz: int, mains_hz: int = MITDB_MAINS_HZ) -> NDArray[np.float32]:
    """Return one lead behind the board's filters, one value a sample, aligned with the input, filter units.

    samples: as Recording has them. The last few, which the filter's delay would bring later, repeat the last one.
    """
    ecg = compiled_pipeline(fs_hz, mains_hz).filter
    counts = array("h", counts_from_adc(samples).tobytes())
    envelope = array("i", bytes(4 * _BLOCK))
    result = np.zeros(len(counts), np.float32)
    ring = np.frombuffer(ecg.clean, dtype=np.int16)
    for start in range(0, len(counts), _BLOCK):
        n = min(_BLOCK, len(counts) - start)
        ecg.run(counts, n, envelope, start)
        result[start : start + n] = ring[np.arange(start, start + n) & RING_MASK]
    delay = ecg.clean_delay
    return np.concatenate([result[delay:], np.repeat(result[-1:], min(delay, len(result)))])


def second_lead(directory: Path, recording: Recording, first: str | None = None) -> Recording | None:
    """Return the first lead in volts of the same record that is not the one at hand, or None."""
    names = list(wfdb.rdheader(str(directory / recording.id)).sig_name or ())
    for name in names:
        try:
            other = load_wfdb(directory, recording.id, name)
        except DataError:
            continue
        if name != first and not np.array_equal(other.samples, recording.samples):
            return other
    return None
