"""Who lies in the ward and whose recordings the model never sees."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from qepa_tools.recordings.recording import AAMI_CLASSES, DataError, Recording

WARD_PATIENTS = 12

_DRAWS = 1000
_RARE_MINIMUM = (0, 50, 100, 5)  # beats of N, S, V, F that each side should have


def ward_split(
    recordings: Sequence[Recording], seed: int, patients: int = WARD_PATIENTS
) -> tuple[list[Recording], list[Recording]]:
    """(one recording each of `patients` persons, every recording of all other persons), drawn by seed.

    No person is on both sides (de Chazal et al. 2004). Paced recordings are on neither: their beats are AAMI class Q,
    which the model lacks (EC57 leaves them out). Where the recordings allow it, both sides have beats of every class,
    so that what the ward learns can be measured at all; the draw looks at how many labels of a class there are, at
    nothing else. A person's further recordings are used nowhere when that person lies in the ward.
    """
    usable = [recording for recording in recordings if not recording.paced]
    persons: dict[str, list[Recording]] = {}
    for recording in usable:
        persons.setdefault(recording.person, []).append(recording)
    if len(persons) < patients:
        raise DataError(
            f"{patients} patients need as many persons; there are recordings of {len(persons)} (not paced)."
        )
    names = sorted(persons)
    rng = np.random.default_rng(seed)
    first: tuple[list[Recording], list[Recording]] | None = None
    for _ in range(_DRAWS):
        order = [names[i] for i in rng.permutation(len(names))]
        ward = [persons[name][0] for name in order[:patients]]
        held_out = [recording for name in order[patients:] for recording in persons[name]]
        if first is None:
            first = ward, held_out
        if _has_every_class(ward) and _has_every_class(held_out):
            return ward, held_out
    assert first is not None  # noqa: S101 - _DRAWS is positive
    return first


def _has_every_class(recordings: Sequence[Recording]) -> bool:
    counts = Counter(label.aami for recording in recordings for label in recording.labels)
    return all(counts[c] >= _RARE_MINIMUM[c] for c in range(len(AAMI_CLASSES)))
