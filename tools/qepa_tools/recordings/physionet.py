"""Reading PhysioNet records (WFDB format), in particular the MIT-BIH Arrhythmia Database."""

from pathlib import Path

import numpy as np
import wfdb

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

_PACED_SHARE = 0.2


def load_wfdb(directory: Path, name: str) -> Recording:
    """Read a record's lead MLII (else its first), and its beats from the annotation file NAME.atr."""
    path = directory / name
    try:
        header = wfdb.rdheader(str(path))
        channel = header.sig_name.index("MLII") if "MLII" in header.sig_name else 0
        record = wfdb.rdrecord(str(path), channels=[channel])
        signal_mv = np.asarray(record.p_signal, dtype=np.float64)[:, 0]
    except Exception as error:  # wfdb raises whatever its parsing runs into
        raise DataError(f"Record {path} can't be read as WFDB ({type(error).__name__}: {error}).") from error
    if not path.with_suffix(".atr").is_file():
        raise DataError(f"Record {path} has no beat annotations ({name}.atr).")
    try:
        annotation = wfdb.rdann(str(path), "atr")
        marks = list(zip(map(int, annotation.sample), annotation.symbol, strict=True))
    except Exception as error:
        raise DataError(f"Annotations {path}.atr can't be read ({type(error).__name__}: {error}).") from error
    labels = tuple(
        BeatLabel(sample, CLASS_BY_SYMBOL.get(symbol, UNCLASSIFIED))
        for sample, symbol in marks
        if symbol in CLASS_BY_SYMBOL or symbol in UNCLASSIFIED_SYMBOLS
    )
    if not labels:
        raise DataError(f"Annotations {path}.atr mark no beats.")
    paced_beats = sum(symbol in "/f" for _, symbol in marks)
    return Recording(
        id=name,
        person=MITDB_PERSON.get(name, name),
        fs_hz=round(float(record.fs)),
        samples=adc_from_millivolt(signal_mv),
        labels=labels,
        excluded=_flutter(marks, len(signal_mv)),
        paced=name in MITDB_PACED or paced_beats > _PACED_SHARE * len(labels),
    )


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
