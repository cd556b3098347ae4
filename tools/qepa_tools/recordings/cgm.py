"""Continuous glucose monitoring of people with and without diabetes: four published sets in one layout.

Columns timestamp and glucose_value_mg_dl (Glucose-ML); each folder's README names licence and citation.
"""

import csv
import gzip
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings.recording import DataError

SETS = {
    "BIG IDEAs": "bigideas_harmonised",
    "Hall 2018": "hall_2018",
    "HUPA-UCM": "hupa_ucm",
    "PhysioCGM": "physiocgm",
}
# What monitors show instead of a number, and the first number that they would not show
BEYOND_RANGE = {"low": 39.0, "high": 401.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class GlucoseRecord:
    """One person's readings in order of time: seconds since the first, and mg/dL."""

    subject: str
    t_s: NDArray[np.int64]
    mg_dl: NDArray[np.int64]


def load_cgm(directory: Path, name: str) -> list[GlucoseRecord]:
    """Every person of a set of SETS; DataError if there are none or a file can't be read."""
    paths = sorted((directory / SETS[name]).glob("*files/*.csv.gz"))
    if not paths:
        raise DataError(f"The directory {directory / SETS[name]} holds no glucose readings (*files/*.csv.gz).")
    return [_load(path) for path in paths]


def _load(path: Path) -> GlucoseRecord:
    readings = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                told = row["glucose_value_mg_dl"].strip()
                value = BEYOND_RANGE.get(told.lower()) or (float(told) if told else None)
                if value is not None:
                    readings[datetime.fromisoformat(row["timestamp"])] = round(value)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}).") from error
    times = sorted(readings)
    return GlucoseRecord(
        subject=path.name.removesuffix(".csv.gz"),
        t_s=np.array([round((t - times[0]).total_seconds()) for t in times], dtype=np.int64),
        mg_dl=np.array([readings[t] for t in times], dtype=np.int64),
    )
