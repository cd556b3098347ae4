"""A virtual clinician: labels beats a few seconds after they happened, from the recording's own annotations.

The labels take a clinician's way: bedside API of the gateway, care stream to the board.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from qepa_wire.payloads import MAX_LABELS, Label

from ..recordings.recording import UNCLASSIFIED, BeatLabel

LABEL_DELAY_S = 3.0


@dataclass(frozen=True, slots=True)
class Annotated:
    """A recording as the clinician knows it: its labels in order, and how long it is before it repeats."""

    beats: Sequence[BeatLabel]
    n_samples: int
    fs_hz: int


class Labeller:
    """Knows which beats of one board are to be labelled next. Positions are samples since the board's boot."""

    def __init__(self, recording: Annotated) -> None:
        self._recording = recording
        self._samples = [beat.sample for beat in recording.beats]
        self._start = 0
        self._boots = 0
        self._done = 0

    def booted(self, *, boots: int, record_index: int) -> None:
        """The board began boot number ``boots`` at ``record_index`` of the recording."""
        self._start, self._boots, self._done = record_index, boots, 0

    def due(self, delivered: int) -> list[Label]:
        """Return the labels of beats since the last call, once the board has seen ``delivered`` samples."""
        until = delivered - int(LABEL_DELAY_S * self._recording.fs_hz)
        labels: list[Label] = []
        while self._done < until and len(labels) < MAX_LABELS:
            labels += self._next_stretch(until, MAX_LABELS - len(labels))
        return labels

    def _next_stretch(self, until: int, room: int) -> list[Label]:
        """Labels from here to ``until``, the end of the recording or ``room`` labels, whatever comes first."""
        length = self._recording.n_samples
        position = (self._start + self._done) % length
        end = min(position + until - self._done, length)
        first, last = bisect.bisect_left(self._samples, position), bisect.bisect_left(self._samples, end)
        if last - first > room:
            last = first + room
            end = self._samples[last]
        labels = [
            Label(self._boots, self._done + beat.sample - position, beat.aami)
            for beat in self._recording.beats[first:last]
            if beat.aami != UNCLASSIFIED
        ]
        self._done += end - position
        return labels
