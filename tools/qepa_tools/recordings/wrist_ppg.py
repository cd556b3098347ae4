"""Wrist PPG During Exercise: chest ECG with wrist photoplethysmogram and accelerometer, walking, running, cycling.

Jarchi and Casson, Data 2(1):1, 2017; DOI 10.13026/C2PQ1X; read from its EDF export, which has no beat marks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wfdb.io.convert.edf import read_edf

from qepa_tools.recordings.recording import DataError

FS_HZ = 256

_MG = 1000 / 9.80665
_COUNTS_PER_MV = 60  # puts the sensor's 0 to 2.8 V in 18 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class WristRecord:
    """One exercise of one person, at FS_HZ.

    ecg: float64, as exported (no absolute scale). light: int32 counts as an 18-bit sensor might give. acceleration:
    int32 milli-g, rows x, y, z (wide range accelerometer of the wrist).
    """

    name: str
    ecg: NDArray[np.float64]
    light: NDArray[np.int32]
    acceleration: NDArray[np.int32]

    @property
    def person(self) -> str:
        """As the set names them."""
        return self.name.split("_")[0]

    @property
    def exercise(self) -> str:
        """walk, run, low_resistance_bike or high_resistance_bike."""
        return self.name.split("_", 1)[1]


def load_wrist(directory: Path) -> list[WristRecord]:
    """Every record, in order of name; DataError if there are none or one can't be read."""
    records = [_load(path) for path in sorted(directory.glob("s*.edf"))]
    if not records:
        raise DataError(f"The directory {directory} holds no recordings of the wrist (s*.edf).")
    return records


def _load(path: Path) -> WristRecord:
    try:
        edf = read_edf(str(path), verbose=False)
        signals = np.nan_to_num(np.asarray(edf.p_signal, dtype=np.float64))
        first = edf.sig_name.index("wrist_wide_range")
        light = signals[:, edf.sig_name.index("wrist_ppg")]
        ecg = signals[:, edf.sig_name.index("chest_ecg")]
    except Exception as error:  # wfdb raises whatever its parsing runs into
        raise DataError(f"{path} can't be read as EDF ({type(error).__name__}: {error}).") from error
    return WristRecord(
        name=path.stem,
        ecg=ecg,
        light=np.rint(light * _COUNTS_PER_MV).clip(0, (1 << 18) - 1).astype(np.int32),
        acceleration=np.rint(signals[:, first : first + 3].T * _MG).astype(np.int32),
    )
