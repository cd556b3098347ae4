"""BIDMC PPG and Respiration Dataset (CSV form): ICU patients, 8 min each, with monitor values and breath marks.

Pimentel et al., IEEE Trans Biomed Eng 64(8), 2017; DOI 10.13026/C2208R.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings.recording import DataError

FS_HZ = 125

# Records of one person (the set's PROVENANCE). Constants were chosen on odd records, results are reported on even
# ones; such a group goes where its first record belongs.
SAME_PATIENT = ((6, 7, 8, 9), (20, 21, 22, 23))

_ECG_COUNTS_PER_MV = 400
_RESP_COUNTS = 4096  # a unit of the published impedance channel, which has no absolute scale
_LIGHT_COUNTS = 120_000  # steady light that a reflective sensor might see
_MODULATION = 0.04  # of that light for a unit of the published pulse wave, which has no absolute scale


@dataclass(frozen=True, slots=True, kw_only=True)
class BidmcRecord:
    """One record. Signals are float64 at FS_HZ, as published, NaN filled with the mean; numerics are 1 Hz, NaN unknown.

    breaths: times in seconds of each of the two annotators.
    """

    number: int
    ecg: NDArray[np.float64]
    pleth: NDArray[np.float64]
    resp: NDArray[np.float64]
    hr_bpm: NDArray[np.float64]
    pulse_bpm: NDArray[np.float64]
    resp_rate: NDArray[np.float64]
    spo2: NDArray[np.float64]
    breaths: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def name(self) -> str:
        """As the set calls it."""
        return f"bidmc_{self.number:02}"

    @property
    def seconds(self) -> int:
        """Whole seconds that the signals and the monitor's values cover."""
        return min(len(self.pleth) // FS_HZ, len(self.hr_bpm))

    def impedance_counts(self) -> NDArray[np.int32]:
        """The impedance channel as an AFE's counts."""
        return _rounded(self.resp * _RESP_COUNTS)

    def infrared_counts(self) -> NDArray[np.int32]:
        """The pulse wave as counts of a reflective sensor, which sees less light when blood comes."""
        return _rounded(_LIGHT_COUNTS * (1 - _MODULATION * (self.pleth - self.pleth.mean())))

    def red_counts(self, ratio: NDArray[np.float64] | float) -> NDArray[np.int32]:
        """SYNTHETIC: the set has one wavelength. The same wave with `ratio` times the modulation of infrared."""
        wave = self.pleth - self.pleth.mean()
        return _rounded(0.7 * _LIGHT_COUNTS * (1 - ratio * _MODULATION * wave))

    def ecg_counts(self) -> NDArray[np.int16]:
        """Lead II (assumed millivolts) as the board's ADC counts at twice the rate, 250 Hz, by linear interpolation."""
        twice = np.interp(np.arange(2 * len(self.ecg)) / 2, np.arange(len(self.ecg)), self.ecg)
        return np.clip(np.rint((twice - np.median(twice)) * _ECG_COUNTS_PER_MV), -2048, 2047).astype(np.int16)


def reported(number: int) -> bool:
    """Whether results are reported on this record: no constant was chosen on its patient."""
    for group in SAME_PATIENT:
        if number in group:
            return group[0] % 2 == 0
    return number % 2 == 0


def load_bidmc(directory: Path, number: int) -> BidmcRecord:
    """Read one record; DataError if it is not there or not readable."""
    signals = _table(directory / f"bidmc_{number:02}_Signals.csv.gz")
    numerics = _table(directory / f"bidmc_{number:02}_Numerics.csv.gz")
    breaths = _table(directory / f"bidmc_{number:02}_Breaths.csv.gz")
    try:
        first, second = (
            column[np.isfinite(column)] / FS_HZ for name, column in breaths.items() if name.startswith("breaths ann")
        )
        return BidmcRecord(
            number=number,
            ecg=_filled(signals["II"]),
            pleth=_filled(signals["PLETH"]),
            resp=_filled(signals["RESP"]),
            hr_bpm=numerics["HR"],
            pulse_bpm=numerics["PULSE"],
            resp_rate=numerics["RESP"],
            spo2=numerics["SpO2"],
            breaths=(first, second),
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"Record bidmc_{number:02} in {directory} lacks a column ({error}).") from error


def bidmc_numbers(directory: Path) -> list[int]:
    """Numbers of the records in a directory, ascending."""
    return sorted(int(path.name[6:8]) for path in directory.glob("bidmc_??_Signals.csv.gz"))


def _table(path: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            names = [name.strip() for name in file.readline().split(",")]
            rows = np.genfromtxt(file, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}).") from error
    if rows.ndim != 2 or rows.shape[1] < len(names):
        raise DataError(f"{path} holds {rows.shape} values under {len(names)} names.")
    return {name: rows[:, k] for k, name in enumerate(names)}


def _rounded(signal: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.rint(signal), dtype=np.int32)


def _filled(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = np.isfinite(signal)
    return np.asarray(np.where(finite, signal, signal[finite].mean() if finite.any() else 0.0))
