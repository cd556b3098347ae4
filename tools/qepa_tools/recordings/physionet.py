"""Reading PhysioNet records (WFDB format), in particular the MIT-BIH Arrhythmia Database."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray
from scipy.signal import resample_poly

from qepa_tools.recordings.places import record_names
from qepa_tools.recordings.recording import (
    CLASS_BY_SYMBOL,
    UNCLASSIFIED,
    UNCLASSIFIED_SYMBOLS,
    BeatLabel,
    DataError,
    Recording,
    adc_from_millivolt,
)

MITDB_PACED = frozenset({"102", "104", "107", "217"})  # Moody and Mark 2001, mitdbdir: pacemaker patients
MITDB_PERSON = {"201": "201+202", "202": "201+202"}  # two tapes of one man

BOARD_RATE_HZ = 360  # what recordings become that no board could have made; boards take whole rates from 200 to 500 Hz

_PACED_SHARE = 0.2
_SLOWEST_HZ = 100
_MISSING_SHARE = 0.5
_PREFERRED = ("MLII", "II")
_MILLIVOLTS = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "µV": 1e-3, "μV": 1e-3, "nV": 1e-6}


def load_wfdb(directory: Path, name: str, lead: str | None = None, annotator: str = "atr") -> Recording:
    """Read one lead of a record and its beats from the annotation file NAME.annotator, as a board would see them.

    lead: its name; without one MLII, else II, else the first that is in volts. A sampling rate that a board does not
    have becomes 360 Hz, marks and all. DataError names what is missing or does not fit.
    """
    path = directory / name
    signal_mv, fs_hz = _read_lead(path, lead)
    marks = _read_marks(path, annotator, fs_hz, len(signal_mv))
    if not _is_board_rate(fs_hz):
        marks = [(round(sample * BOARD_RATE_HZ / fs_hz), symbol) for sample, symbol in marks]
        signal_mv, fs_hz = _resampled(signal_mv, fs_hz), BOARD_RATE_HZ
    labels = tuple(
        BeatLabel(sample, CLASS_BY_SYMBOL.get(symbol, UNCLASSIFIED))
        for sample, symbol in marks
        if symbol in CLASS_BY_SYMBOL or symbol in UNCLASSIFIED_SYMBOLS
    )
    if not labels:
        raise DataError(f"Annotations {path}.{annotator} mark no beats.")
    paced_beats = sum(symbol in "/f" for _, symbol in marks)
    return Recording(
        id=name,
        person=_person(name),
        fs_hz=round(fs_hz),
        samples=adc_from_millivolt(signal_mv),
        labels=labels,
        excluded=_flutter(marks, len(signal_mv)),
        paced=name in MITDB_PACED or paced_beats > _PACED_SHARE * len(labels),
    )


def _read_lead(path: Path, lead: str | None) -> tuple[NDArray[np.float64], float]:
    """A lead in millivolts, NaN where there is nothing, and its sampling rate."""
    try:
        header = wfdb.rdheader(str(path))
        channel = _channel(path, list(header.sig_name or ()), list(header.units or ()), lead)
        record = wfdb.rdrecord(str(path), channels=[channel])
        signal = np.asarray(record.p_signal, dtype=np.float64)[:, 0]
        fs_hz, scale = float(record.fs), _MILLIVOLTS[record.units[0]]
    except DataError:
        raise
    except Exception as error:  # wfdb raises whatever its parsing runs into
        raise DataError(f"Record {path} can't be read as WFDB ({type(error).__name__}: {error}).") from error
    if fs_hz < _SLOWEST_HZ:
        raise DataError(f"Record {path} has {fs_hz:g} samples a second; an ECG needs at least {_SLOWEST_HZ}.")
    missing = 1.0 - float(np.isfinite(signal).mean()) if len(signal) else 1.0
    if missing > _MISSING_SHARE:
        raise DataError(f"Record {path}: {100 * missing:.0f} % of the lead's samples are missing.")
    return signal * scale, fs_hz


def _channel(path: Path, names: list[str], units: list[str], lead: str | None) -> int:
    listed = ", ".join(f"{name} ({unit})" for name, unit in zip(names, units, strict=True)) or "none"
    wanted = [lead] if lead is not None else [*(name for name in _PREFERRED if name in names), *names]
    for name in wanted:
        if name in names and units[names.index(name)] in _MILLIVOLTS:
            return names.index(name)
    if lead is not None:
        raise DataError(f"Record {path} has no lead {lead} in volts; its signals: {listed}.")
    raise DataError(f"Record {path} has no lead in volts; its signals: {listed}.")


def _read_marks(path: Path, annotator: str, fs_hz: float, end: int) -> list[tuple[int, str]]:
    """Sample numbers and symbols, in order of time."""
    file = path.with_name(f"{path.name}.{annotator}")
    if not file.is_file():
        raise DataError(f"Record {path} has no beat annotations ({file.name}).")
    try:
        annotation = wfdb.rdann(str(path), annotator)
        scale = fs_hz / float(annotation.fs) if annotation.fs else 1.0
        marks = sorted(
            (round(int(sample) * scale), str(symbol))
            for sample, symbol in zip(annotation.sample, annotation.symbol, strict=True)
        )
    except Exception as error:
        raise DataError(f"Annotations {file} can't be read ({type(error).__name__}: {error}).") from error
    if marks and not 0 <= marks[0][0] <= marks[-1][0] <= end:
        raise DataError(
            f"Annotations {file} go to {marks[-1][0] / fs_hz:.0f} s, the record has {end / fs_hz:.0f} s: they belong "
            "to another record, or one of the two is cut short."
        )
    return marks


def _is_board_rate(fs_hz: float) -> bool:
    return fs_hz == round(fs_hz) and 200 <= fs_hz <= 500


def _resampled(signal: NDArray[np.float64], fs_hz: float) -> NDArray[np.float64]:
    """The signal at BOARD_RATE_HZ behind an anti-aliasing filter; gaps are bridged for it and are gaps again after."""
    ratio = Fraction(BOARD_RATE_HZ / fs_hz).limit_denominator(1000)
    finite = np.isfinite(signal)
    places = np.arange(len(signal))
    bridged = np.interp(places, places[finite], signal[finite])
    result = np.asarray(resample_poly(bridged, ratio.numerator, ratio.denominator, padtype="line"), dtype=np.float64)
    nearest = np.minimum(np.rint(np.arange(len(result)) * fs_hz / BOARD_RATE_HZ).astype(np.int64), len(signal) - 1)
    result[~finite[nearest]] = np.nan
    return result


def _person(name: str) -> str:
    """Who a record is of: the Noise Stress records are of the persons of those that noise was added to."""
    stem = name[:3] if re.fullmatch(r"11[89]e(_6|\d\d)", name) else name
    return MITDB_PERSON.get(stem, stem)


def load_all(directory: Path) -> list[Recording]:
    """Every record of a directory, in order of name."""
    return [load_wfdb(directory, name) for name in record_names(directory)]


def _flutter(marks: list[tuple[int, str]], end: int) -> tuple[tuple[int, int], ...]:
    """Stretches between '[' and ']' (flutter or fibrillation begins, ends)."""
    stretches = []
    start: int | None = None
    for sample, symbol in marks:
        if symbol == "[" and start is None:
            start = sample
        elif symbol == "]" and start is not None:
            stretches.append((start, sample))
            start = None
    if start is not None:
        stretches.append((start, end))
    return tuple(stretches)
