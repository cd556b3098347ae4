"""Smartwatch and smartphone accelerometers of people who stand up, walk, turn and sit down (GeoTec, Jaume I).

Matey-Sanz et al., Data in Brief 2023, 109809; Zenodo 10.5281/zenodo.8398688.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings.recording import DataError

FS_HZ = 100  # what the board's sensor would sample at; the phones sampled at about 104, unevenly

_MG = 1000 / 9.80665


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionRecord:
    """One execution by one subject; device "sw" (watch, wrist) or "sp" (phone, pocket).

    acceleration: int32 milli-g, three rows x, y, z at FS_HZ. labels: the activity of each sample. orientation: of the
    phone in its pocket: back or front, "_inv" when upside down.
    """

    subject: str
    name: str
    device: str
    acceleration: NDArray[np.int32]
    labels: NDArray[np.str_]
    orientation: str

    @property
    def reported(self) -> bool:
        """Whether results are reported on this subject: constants were chosen on those of odd number."""
        return int(self.subject[1:]) % 2 == 0


def load_motion(directory: Path, device: str) -> list[MotionRecord]:
    """Every execution of a device, in order of name, resampled to even distances; DataError if there are none."""
    orientation = {}
    info = directory / "executions_info.csv"
    if info.is_file():
        with info.open(newline="", encoding="utf-8") as file:
            orientation = {row["execution_id"]: row["orientation"] for row in csv.DictReader(file)}
    records = [
        _load(path, device, orientation.get(path.name[:6], ""))
        for path in sorted(directory.glob(f"s*/*_{device}.csv.gz"))
    ]
    if not records:
        raise DataError(f"The directory {directory} holds no motion recordings (s*/*_{device}.csv.gz).")
    return records


def _load(path: Path, device: str, orientation: str) -> MotionRecord:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        t_s = np.array([int(row["timestamp"]) for row in rows]) / 1000
        axes = np.array([[float(row[f"{axis}_acc"]) for row in rows] for axis in "xyz"]) * _MG
        labels = np.array([row["label"] for row in rows])
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}).") from error
    even_s = np.arange(t_s[0], t_s[-1], 1 / FS_HZ)
    nearest = np.minimum(np.searchsorted(t_s, even_s), len(t_s) - 1)
    return MotionRecord(
        subject=path.parent.name,
        name=path.name[:6],
        device=device,
        acceleration=np.rint([np.interp(even_s, t_s, axis) for axis in axes]).astype(np.int32),
        labels=labels[nearest],
        orientation=orientation,
    )
