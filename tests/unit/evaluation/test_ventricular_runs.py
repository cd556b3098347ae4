"""Time to alarm: from a run's third ventricular beat until the third answer in a row is known."""

import numpy as np
import pytest

from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.ventricular_runs import FOUND_AFTER_S, WAITS_S, RunAlarms, run_alarms
from qepa_tools.recordings import BeatLabel, Recording
from qepa_tools.recordings.board_beats import BoardBeats

RR_S = 0.5


def judged(annotated: str, answers: str) -> RunAlarms:
    """Beats half a second apart, classes by letter; the recording lasts an hour."""
    samples = np.arange(len(annotated)) * round(RR_S * 360)
    recording = Recording(
        id="x", person="x", fs_hz=360, samples=np.zeros(3600 * 360, np.uint16),
        labels=tuple(BeatLabel(int(s), "NSVF".index(c)) for s, c in zip(samples, annotated, strict=True)),
    )  # fmt: skip
    found = BoardBeats(
        recording="x", samples=samples, features=np.zeros((len(samples), 17), np.int16),
        classes=np.zeros(len(samples), np.int8), missed=np.zeros(0, np.int8),
    )  # fmt: skip
    return run_alarms(Case(recording, found), np.array(["NSVF".index(c) for c in answers]))


def test_the_alarm_comes_when_the_beat_after_the_third_is_known() -> None:
    of = judged("NNVVVVNN", "NNVVVVNN")
    assert (of.runs, of.false, of.hours) == (1, 0, 1.0)
    assert of.delays_s == (pytest.approx(RR_S + FOUND_AFTER_S),)


def test_a_missed_beat_in_the_run_delays_it() -> None:
    assert judged("NVVVVVVNN", "NVNVVVVNN").delays_s == (pytest.approx(3 * RR_S - RR_S + RR_S + FOUND_AFTER_S),)


def test_the_last_beat_of_all_is_waited_for() -> None:
    assert judged("NNVVV", "NNVVV").delays_s == (pytest.approx(WAITS_S),)


def test_pairs_are_no_run_and_what_answers_three_beside_one_is_false() -> None:
    assert judged("NVVNVVNN", "NVVNVVNN") == RunAlarms(runs=0, delays_s=(), false=0, hours=1.0)
    assert judged("NVVVNNNNNNN", "NNNNNNNVVVN") == RunAlarms(runs=1, delays_s=(), false=1, hours=1.0)


def test_an_alarm_that_rings_already_costs_no_time() -> None:
    of = judged("NNNNNVVVN", "NVVVVVVVN")
    assert (of.delays_s, of.false) == ((0.0,), 0)
