"""Beats of recordings as the gateway's model sees them: the board's peaks and cleaned leads, the gateway's windows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.windows import BeatWindows
from qepa_tools.evaluation.cohort import Case, Cohort, Track
from qepa_tools.recordings.board_beats import MITDB_MAINS_HZ
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS

from .cleaned_leads import cleaned, second_lead

_LEADS, _NUMBERS = (tensor.shape[1:] for tensor in CONTRACTS[ECG_BEATS].inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatSet:
    """Beats of one record. leads [n, 128, 4] and numbers [n, 32]: inputs of the model, float32.

    index: which beat of ``case.beats`` a row is; beats whose signal has gaps, or runs over the record's ends, are not
    among them. leads: kept as float16, which int8 cannot tell apart.
    """

    case: Case
    index: NDArray[np.int64]
    leads: NDArray[np.float16]
    numbers: NDArray[np.float32]

    @property
    def classes(self) -> NDArray[np.int8]:
        """As in BoardBeats: 0 to 3, or less for what is no beat of a class."""
        return self.case.beats.classes[self.index]


def beat_set(
    case: Case,
    signal: NDArray[np.float32],
    most: int | None = None,
    *,
    each: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> BeatSet:
    """Windows of a case, of its first `most` beats or of all.

    signal: cleaned leads in columns. each: gives their numbers one by one, and may show how far it is.
    """
    reader = BeatWindows(case.recording.fs_hz)
    peaks = [int(sample) for sample in case.beats.samples]
    index, leads, numbers = [], [], []
    for k in each(range(len(peaks[:most]))):
        before = peaks[k - 1] if k else None
        after = peaks[k + 1] if k + 1 < len(peaks) else None
        found = reader.read(signal, 0, peaks[k], before, after)
        if found is not None:
            index.append(k)
            leads.append(found[0][0].astype(np.float16))
            numbers.append(found[1][0])
    return BeatSet(
        case=case,
        index=np.array(index, dtype=np.int64),
        leads=np.array(leads, dtype=np.float16).reshape(-1, *_LEADS),
        numbers=np.array(numbers, dtype=np.float32).reshape(-1, *_NUMBERS),
    )


def beat_sets(cohort: Cohort, directory: Path, track: Track) -> list[BeatSet]:
    """Windows of all cases, with a second lead where the record has one in volts."""
    cases = {case.recording.id: case for case in cohort.cases}
    return [beat_set(cases[name], leads_of(cases[name], directory)) for name in track(list(cases), "Windows of beats")]


def leads_of(
    case: Case, directory: Path, *, lead: str | None = None, mains_hz: int = MITDB_MAINS_HZ
) -> NDArray[np.float32]:
    """Cleaned leads of a case in columns, the board's own first. lead: the name of that one, where it was chosen."""
    other = second_lead(directory, case.recording, lead)
    columns = [cleaned(case.recording.samples, case.recording.fs_hz, mains_hz)]
    if other is not None:
        columns.append(cleaned(other.samples, other.fs_hz, mains_hz))
    return np.column_stack(columns)


def stacked(
    sets: Sequence[BeatSet],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return leads, numbers, classes and who it is (from 0), of all beats that have one of the model's classes."""
    chosen = [each.classes >= 0 for each in sets]
    names = sorted({each.case.person for each in sets})
    persons = [np.full(int(c.sum()), names.index(each.case.person)) for each, c in zip(sets, chosen, strict=True)]
    return (
        np.concatenate([each.leads[c] for each, c in zip(sets, chosen, strict=True)]).astype(np.float32),
        np.concatenate([each.numbers[c] for each, c in zip(sets, chosen, strict=True)]),
        np.concatenate([each.classes[c] for each, c in zip(sets, chosen, strict=True)]).astype(np.int64),
        np.concatenate(persons).astype(np.int64),
    )
