"""The wards that are audited, and where their beats come from."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..attacks.ward import default_cache, recorded_ward, synthetic_ward
from ..errors import ToolError
from ..evaluation.model import recording_digest
from ..recordings.board_beats import firmware_digest
from ..recordings.physionet import load_all
from ..recordings.places import find_data
from .study import AuditedWard

STRETCHES, PEOPLE = "stretches", "people"
_MINUTES = 30.0
_FEWEST = 24  # worlds in which everybody is in three and out of three, but for one chance in a hundred


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is computed. ``persons`` are cut into ``patients``; ``people`` are taken whole, half of them a cell."""

    persons: int = 18
    patients: int = 216
    worlds: int = 96
    people: int = 20
    people_worlds: int = 384
    rounds: int = 10

    def quick(self) -> "Size":
        """Return what takes a quarter of the time, and is half as certain."""
        worlds, people_worlds = max(_FEWEST, self.worlds // 2), max(_FEWEST, self.people_worlds // 3)
        return replace(self, patients=self.patients // 2, worlds=worlds, people_worlds=people_worlds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where beats come from: digests of the records' samples by name, and of the ``firmware`` that found beats."""

    name: str
    records: dict[str, str]
    firmware: str


def audited_wards(data: Path | None, size: Size, seed: int, *, synthetic: bool) -> tuple[list[AuditedWard], Source]:
    """Return the wards to audit; DataError for a directory that holds no records, ToolError where there are none.

    Recordings: one ward of stretches, which has cells of 12 among others, and one of people, which has a single cell.
    Synthetic: one ward of invented people, labelled as such.
    """
    if synthetic:
        ward = synthetic_ward(patients=size.patients, gateways=1, rounds=size.rounds, seed=seed)
        made = AuditedWard(what="synthetic", ward=ward, persons=np.arange(size.patients), cell=12, worlds=size.worlds)
        return [made], Source(name=ward.source, records={}, firmware=firmware_digest())
    found = find_data(data)
    if found is None:
        raise ToolError("No recordings found: name the directory of MIT-BIH with --data.")
    recordings, cache = load_all(found), default_cache()
    wards = []
    for what, persons, patients, cell, worlds in (
        (STRETCHES, size.persons, size.patients, 12, size.worlds),
        (PEOPLE, size.people, size.people, size.people // 2, size.people_worlds),
    ):
        ward = recorded_ward(
            recordings,
            cache,
            persons=persons,
            patients=patients,
            gateways=1,
            rounds=size.rounds,
            minutes=_MINUTES,
            seed=seed,
        )
        whose = np.arange(patients) // -(-patients // persons)  # recorded_ward cuts one person after another
        wards.append(AuditedWard(what=what, ward=ward, persons=whose, cell=cell, worlds=worlds))
    records = {recording.id: recording_digest(recording) for recording in recordings}
    return wards, Source(
        name="MIT-BIH" if found.name == "mitdb" else found.name, records=records, firmware=firmware_digest()
    )


def data_digest(source: Source) -> str:
    """Return one digest of all records (SHA-256 over names and digests, sorted)."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(source.records.items()))
    return hashlib.sha256(text.encode()).hexdigest()
