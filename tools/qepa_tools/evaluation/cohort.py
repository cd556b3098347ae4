"""The people of a directory of WFDB records, the beats that the board finds in them, and what is left out and why."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qepa_tools.recordings.board_beats import BoardBeats, FeatureCache
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.places import record_names
from qepa_tools.recordings.recording import DataError, Recording

Track = Callable[[Sequence[Any], str], Iterable[Any]]  # gives the items one by one and shows how far it is

_FITS = 0.5  # share of annotated beats near which the board finds one; of two unrelated rhythms it is about a third


@dataclass(frozen=True, slots=True)
class Case:
    """One record and what the board's code makes of it."""

    recording: Recording
    beats: BoardBeats

    @property
    def person(self) -> str:
        """Whose heart it is: cases of one person are never on two sides of a split."""
        return self.recording.person


@dataclass(frozen=True, slots=True)
class Cohort:
    """Cases in order of record names, and one sentence for each record that is not among them."""

    cases: tuple[Case, ...]
    left_out: Mapping[str, str]

    @property
    def persons(self) -> tuple[str, ...]:
        """Each person once, sorted."""
        return tuple(sorted({case.person for case in self.cases}))

    def without(self, reasons: Mapping[str, str]) -> "Cohort":
        """Leave out further records, for these reasons."""
        kept = tuple(case for case in self.cases if case.recording.id not in reasons)
        return Cohort(kept, {**self.left_out, **reasons})


def read_cohort(
    directory: Path,
    cache: FeatureCache,
    track: Track,
    *,
    names: Sequence[str] = (),
    lead: str | None = None,
    annotator: str = "atr",
    persons: Mapping[str, str] | None = None,
    mains_hz: int = 60,
) -> Cohort:
    """Read the named records of a directory, or all; DataError if it is none, lacks one, or nothing in it is usable.

    persons: who a record is of, where that is not its name. mains_hz: 50 or 60, where they were recorded.
    """
    there = record_names(directory)
    absent = [name for name in names if name not in there]
    if absent:
        raise DataError(f"{directory} holds no record {', '.join(absent)}; it holds {_some(there)}.")
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    for name in track(list(names) or there, "Beats as the board finds them"):
        try:
            recording = load_wfdb(directory, name, lead, annotator)
        except DataError as error:
            left_out[name] = str(error)
            continue
        if persons and name in persons:
            recording = replace(recording, person=persons[name])
        beats = cache.beats(recording, recording.duration_s, mains_hz)
        why = _unusable(recording, beats)
        if why:
            left_out[name] = why
        else:
            cases.append(Case(recording, beats))
    if not cases:
        reasons = "".join(f"\n  {name}: {why}" for name, why in left_out.items())
        raise DataError(f"No record of {directory} can be evaluated:{reasons}")
    return Cohort(tuple(cases), left_out)


def read_persons(path: Path) -> dict[str, str]:
    """Read who each record is of: lines `record,person`; DataError if they are not that."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} can't be read: {error}.") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not all(row):
            raise DataError(f"{path}, line {number}: it has to be `record,person`.")
    return {row[0]: row[1] for row in rows}


def _unusable(recording: Recording, beats: BoardBeats) -> str | None:
    if recording.paced:
        return "Paced: its beats are AAMI class Q, which EC57 leaves out and the model lacks."
    if not any(label.aami >= 0 for label in recording.labels):
        return "None of its annotated beats is of class N, S, V or F."
    if beats.sensitivity() < _FITS:
        return (
            f"The board finds a beat near {100 * beats.sensitivity():.0f} % of its annotations only: they belong to "
            "another record, the lead is not an ECG, or it is nothing but noise."
        )
    return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
