"""Glucose readings as the gateway's model sees them, and what came of them 15, 30 and 60 minutes later."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.glucose_windows import STEP_S, usable, windows
from qepa_tools.evaluation.cohort import Track
from qepa_tools.recordings.cgm import SETS, GlucoseRecord, load_cgm

HORIZONS_S = (900, 1800, 3600)
LOW_MG_DL = 70  # level 1 hypoglycaemia: Battelino et al., Diabetes Care 2019; 42(8)

_INTERPOLATED = "HUPA-UCM"
_EVERY = 3  # steps between two real readings there
_STRAIGHT = 0.9  # share of second differences of at most 1 mg/dL between real readings
_NEAR_S = STEP_S // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GlucoseSet:
    """One person. at: which readings forecasts are made from. windows [n, 25, 3]: input of the model.

    changes [n, 3]: mg/dL from then to each of HORIZONS_S, NaN where no reading came within half a step. low [n, 3]:
    whether a reading below LOW_MG_DL came until then.
    """

    source: str
    record: GlucoseRecord
    at: NDArray[np.int64]
    windows: NDArray[np.float32]
    changes: NDArray[np.float32]
    low: NDArray[np.bool_]

    @property
    def person(self) -> str:
        """Unique over all sets."""
        return f"{self.source} {self.record.subject}"


def glucose_sets(directory: Path, track: Track, names: Sequence[str] = tuple(SETS)) -> list[GlucoseSet]:
    """All persons of the sets; those whose real readings cannot be told from interpolated ones are left out."""
    found = []
    for name in track(list(names), "Glucose"):
        for record in load_cgm(directory, name):
            real = real_readings(record) if name == _INTERPOLATED else record
            if real is not None:
                found.append(glucose_set(name, real))
    return found


def glucose_set(source: str, record: GlucoseRecord) -> GlucoseSet:
    """Windows and changes of one record."""
    at = np.flatnonzero(usable(record.t_s))
    return GlucoseSet(
        source=source,
        record=record,
        at=at,
        windows=windows(record.t_s, record.mg_dl, at),
        changes=np.column_stack([_change(record, at, ahead_s) for ahead_s in HORIZONS_S]),
        low=np.column_stack([_falls_low(record, at, ahead_s) for ahead_s in HORIZONS_S]),
    )


def real_readings(record: GlucoseRecord) -> GlucoseRecord | None:
    """Take out what was interpolated between readings 15 minutes apart: it knows the future. None if it can't be told.

    Of HUPA-UCM's readings every third is one, at the same place in the quarter of an hour throughout a person's
    record; the two between lie on the straight line to the next.
    """
    straight = np.abs(np.diff(record.mg_dl, 2)) <= 1
    place = (record.t_s // STEP_S) % _EVERY
    shares = np.array([straight[place[1:-1] == k].mean() for k in range(_EVERY)])
    corner, other, _ = np.argsort(shares)
    if shares[corner] > _STRAIGHT or shares[other] < _STRAIGHT:
        return None
    kept = place == corner
    return GlucoseRecord(subject=record.subject, t_s=record.t_s[kept], mg_dl=record.mg_dl[kept])


def person_weights(sets: Sequence[GlucoseSet]) -> NDArray[np.float32]:
    """Chances of being drawn, one a window: a person of four times as many readings counts twice as much."""
    return np.concatenate([np.full(len(each.at), len(each.at) ** -0.5, np.float32) for each in sets])


def _change(record: GlucoseRecord, at: NDArray[np.int64], ahead_s: int) -> NDArray[np.float32]:
    t_s, mg_dl = record.t_s, record.mg_dl
    due_s = t_s[at] + ahead_s
    after = np.minimum(np.searchsorted(t_s, due_s), len(t_s) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(t_s[before] - due_s) < np.abs(t_s[after] - due_s), before, after)
    change = (mg_dl[nearest] - mg_dl[at]).astype(np.float32)
    change[np.abs(t_s[nearest] - due_s) > _NEAR_S] = np.nan
    return change


def _falls_low(record: GlucoseRecord, at: NDArray[np.int64], ahead_s: int) -> NDArray[np.bool_]:
    low_s = record.t_s[record.mg_dl < LOW_MG_DL]
    until = np.searchsorted(low_s, record.t_s[at] + ahead_s + _NEAR_S, side="right")
    within: NDArray[np.bool_] = until > np.searchsorted(low_s, record.t_s[at], side="right")
    return within
