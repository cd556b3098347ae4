"""What the board's own code makes of a recording: its beats, features and matching labels, computed once and kept."""

import hashlib
import os
import zipfile
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import qepa_board
from qepa_board.learning.features import N_FEATURES
from qepa_board.signals.beats import BEATS
from qepa_tools.recordings.compiled_board import compiled_pipeline
from qepa_tools.recordings.recording import Recording, counts_from_adc

MATCH_MS = 150  # ANSI/AAMI EC57: a detected and an annotated beat are the same within 150 ms
MITDB_MAINS_HZ = 60

_BLOCK = 180
_NOT_MATCHED = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardBeats:
    """Beats of a recording's first `duration_s` as the board finds them.

    samples: int64 R peaks. features: int16, one row of N_FEATURES a beat, Q8. classes: int8 AAMI class of the annotated
    beat within 150 ms, UNCLASSIFIED for AAMI's Q, -2 where no annotation is near (a false detection). missed: int8
    classes of annotated beats that the board did not find.
    """

    recording: str
    samples: NDArray[np.int64]
    features: NDArray[np.int16]
    classes: NDArray[np.int8]
    missed: NDArray[np.int8]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which beats have one of the model's classes."""
        return self.classes >= 0

    def sensitivity(self) -> float:
        """Share of annotated beats that were found."""
        found = int((self.classes != _NOT_MATCHED).sum())
        return found / max(1, found + len(self.missed))

    def ppv(self) -> float:
        """Share of found beats that are annotated."""
        return int((self.classes != _NOT_MATCHED).sum()) / max(1, len(self.classes))


def match_beats(found: list[int], annotated: list[int], fs_hz: int) -> tuple[list[int | None], list[int]]:
    """Pair found with annotated sample numbers, both ascending, one to one, nearest first choice, within 150 ms.

    Returns per found beat the index of its annotation or None, and the indices of annotations left over.
    """
    reach = MATCH_MS * fs_hz // 1000
    partner: list[int | None] = [None] * len(found)
    taken: dict[int, int] = {}
    pairs = []
    for i, sample in enumerate(found):
        j = bisect_left(annotated, sample - reach)
        while j < len(annotated) and annotated[j] <= sample + reach:
            pairs.append((abs(annotated[j] - sample), i, j))
            j += 1
    for _, i, j in sorted(pairs):
        if partner[i] is None and j not in taken:
            partner[i] = j
            taken[j] = i
    return partner, [j for j in range(len(annotated)) if j not in taken]


def board_beats(recording: Recording, duration_s: float, mains_hz: int = MITDB_MAINS_HZ) -> BoardBeats:
    """Run the board's EcgPipeline over the first duration_s of a recording; flutter (EC57) is left out of the count."""
    n = min(len(recording.samples), round(duration_s * recording.fs_hz))
    counts = array("h", counts_from_adc(recording.samples[:n]).tobytes())
    pipeline = compiled_pipeline(recording.fs_hz, mains_hz)
    samples: list[int] = []
    rows: list[array[int]] = []
    seen = 0
    for start in range(0, n, _BLOCK):
        block = counts[start : start + _BLOCK]
        pipeline.push(block, len(block))
        for k in range(seen, pipeline.n_beats):
            beat = pipeline.beats[k % BEATS]
            samples.append(beat.sample_index)
            rows.append(array("h", beat.features))
        seen = pipeline.n_beats
    # The last beats wait for their successor: annotations after the last measured beat are not counted as missed.
    last = samples[-1] + MATCH_MS * recording.fs_hz // 1000 if samples else n
    annotations = [
        label for label in recording.labels if label.sample <= last and not recording.is_excluded(label.sample)
    ]
    kept = [i for i, sample in enumerate(samples) if not recording.is_excluded(sample)]
    partner, missed = match_beats([samples[i] for i in kept], [label.sample for label in annotations], recording.fs_hz)
    return BoardBeats(
        recording=recording.id,
        samples=np.array([samples[i] for i in kept], dtype=np.int64),
        features=np.array([rows[i] for i in kept], dtype=np.int16).reshape(-1, N_FEATURES),
        classes=np.array([_NOT_MATCHED if j is None else annotations[j].aami for j in partner], dtype=np.int8),
        missed=np.array([annotations[j].aami for j in missed], dtype=np.int8),
    )


def firmware_digest() -> str:
    """SHA-256 over the board's signal processing sources: features are valid for these only."""
    digest = hashlib.sha256()
    board = Path(qepa_board.__file__).parent
    sources = [board / "fixed_point.py"]
    for folder in (board / "learning", board / "signals", board.parent / "qepa_kernels"):
        sources += folder.glob("*.py")
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class FeatureCache:
    """Keeps BoardBeats in a directory, one file per firmware, recording content and duration.

    It is a cache: a file that can't be read is computed anew and replaced, old ones may be deleted at any time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._firmware = firmware_digest()
        self.computed = 0

    def beats(self, recording: Recording, duration_s: float, mains_hz: int = MITDB_MAINS_HZ) -> BoardBeats:
        """The recording's beats, from the cache where it has them."""
        path = self._directory / f"{recording.id}-{self._key(recording, duration_s, mains_hz)}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return BoardBeats(
                    recording=recording.id,
                    samples=kept["samples"],
                    features=kept["features"],
                    classes=kept["classes"],
                    missed=kept["missed"],
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            beats = board_beats(recording, duration_s, mains_hz)
            self.computed += 1
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.savez(file, samples=beats.samples, features=beats.features, classes=beats.classes, missed=beats.missed)
        unfinished.replace(path)
        return beats

    def _key(self, recording: Recording, duration_s: float, mains_hz: int) -> str:
        n = round(duration_s * recording.fs_hz)
        digest = hashlib.sha256(f"{self._firmware} {recording.fs_hz} {n} {mains_hz}".encode())
        digest.update(recording.samples[:n].tobytes())
        digest.update(repr((recording.labels, recording.excluded)).encode())
        return digest.hexdigest()[:24]
