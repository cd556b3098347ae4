"""Time to alarm: how long after a ventricular run has become one the board has said so, by its answers beat by beat.

A run is three or more annotated V beats in a row, the least that is called ventricular tachycardia; the alarm is three
V answers in a row. A beat's answer is known once the next beat was found, which takes about 0.3 s (signals/rpeak.py),
or after the board has waited 2.5 s for one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_tools.evaluation.cohort import Case
from qepa_tools.recordings.recording import AAMI_CLASSES

RUN = 3
FOUND_AFTER_S = 0.3
WAITS_S = 2.5

_V = AAMI_CLASSES.index("V")
_REACH_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAlarms:
    """What came of a record's runs. delays_s: from a run's third beat to its alarm; false: alarms outside any run."""

    runs: int
    delays_s: tuple[float, ...]
    false: int
    hours: float


def run_alarms(case: Case, answers: NDArray[np.int64]) -> RunAlarms:
    """Compare annotated runs with runs of V answers; an alarm may come until the run's last beat has been judged."""
    recording, beats = case.recording, case.beats
    fs_hz = recording.fs_hz
    samples = beats.samples
    known_s = np.minimum(
        np.append(samples[1:], samples[-1:] + round(WAITS_S * fs_hz)) / fs_hz + FOUND_AFTER_S,
        samples / fs_hz + WAITS_S,
    )
    alarms = [(samples[i + RUN - 1] / fs_hz, known_s[i + RUN - 1], samples[j] / fs_hz) for i, j in _runs(answers)]
    labels = [label for label in recording.labels if not recording.is_excluded(label.sample)]
    marks = np.array([label.sample for label in labels]) / fs_hz
    delays: list[float] = []
    used: set[int] = set()
    runs = list(_runs([label.aami for label in labels]))
    for first, last in runs:
        begins, ends = marks[first + RUN - 1] - _REACH_S, marks[last] + _REACH_S
        for number, (third, at, until) in enumerate(alarms):
            if third <= ends and until >= begins:
                used.add(number)
                delays.append(max(0.0, float(at - marks[first + RUN - 1])))  # 0: it rang before, and still does
                break
    spans = [(marks[first] - _REACH_S, marks[last] + _REACH_S) for first, last in runs]
    false = sum(
        number not in used and not any(a <= third <= b for a, b in spans) for number, (third, _, _) in enumerate(alarms)
    )
    return RunAlarms(runs=len(runs), delays_s=tuple(delays), false=false, hours=recording.duration_s / 3600)


def _runs(classes: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last place of each stretch of at least RUN V."""
    start: int | None = None
    for place, c in enumerate([*classes, -1]):
        if c == _V and start is None:
            start = place
        elif c != _V and start is not None:
            if place - start >= RUN:
                yield start, place - 1
            start = None
