"""Chapter "drift" of server/LEARNING.md: what the drift monitor notices, and how often it cries wolf."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qepa_server.explain.disagreement import LIMIT, WATCHED_MINUTES
from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.evaluation.cohort import read_cohort
from qepa_tools.explanation.chapter import CACHE, steps
from qepa_tools.explanation.disagreement_study import DISAGREEMENT, disagreement_study, halves
from qepa_tools.explanation.drift_rounds import rounds_study
from qepa_tools.explanation.drift_study import (
    PROFILES,
    Noticed,
    beats_study,
    noticed,
    other_worlds,
    windows_until_alarm,
)
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.table import Table

_LIMIT = 1000.0
_RUNS = 12
_WINDOWS_S = (20, 30)
_NOISE = (0.0, 1.0)
_BOARDS = (11, 8)
_LONG = 30  # times the limit: false alarms are waited for so long


def chapter(data: Path, say: Say) -> Chapter:
    """Measure everything of the chapter: some five minutes of a quiet core."""
    track = steps(say)
    cache = FeatureCache(CACHE)
    cohort = read_cohort(data, cache, track)
    worlds = other_worlds(cohort.cases, data, data.parent / "nstdb", cache, track)
    beats = beats_study(cohort.cases, worlds, _RUNS, _LIMIT, track, _WINDOWS_S)
    rounds = rounds_study(cohort.cases, worlds, _RUNS // 2, _LIMIT, _NOISE, track)
    made = halves(cohort, worlds, data, track)
    found, right = disagreement_study(made, range(_RUNS), _BOARDS, _LIMIT, track)
    return Chapter(
        tables={
            "drift-alarms": _alarms(beats, rounds),
            "drift-reference": _reference(),
            "drift-disagreement": _disagreement(found, right),
        }
    )


def _alarms(beats: Mapping[tuple[int, str, str], Noticed], rounds: Mapping[tuple[str, float], Noticed]) -> Table:
    rows = [[f"{view}, windows of {window_s} s: {name}", *_noticed(of)] for (window_s, view, name), of in beats.items()]
    for (name, noise), of in rounds.items():
        said = "no noise" if noise == 0 else f"noise of {noise:g} times a patient's bound"
        rows.append([f"sums of updates, {said}, SIMULATED: {name}", *_noticed(of)])
    for limit in (100.0, _LIMIT):
        until = [k or _LONG * round(limit) for k in windows_until_alarm(limit, 100, _LONG * round(limit))]
        rows.append(
            [f"false alarms, independent scores, SIMULATED, limit {limit:g}", "100", "-", f"mean {np.mean(until):.0f}"]
        )
    return Table(
        title=f"Drift monitor, limit {_LIMIT:g} windows: an alarm within ten minutes",
        columns=["what comes", "runs", "with an alarm, %", "windows until it (median)"],
        rows=rows,
        notes=[
            "All beats of a ward of 7 people; sums: rounds of 30 s, 7 people, labels known. Each run splits the people "
            "anew into those the model learnt from, the ward, and others.",
        ],
    )


def _disagreement(found: Mapping[tuple[str, int, str], Noticed], right: Mapping[str, float]) -> Table:
    ways = [(DISAGREEMENT, boards) for boards in _BOARDS] + [(PROFILES, _BOARDS[0])]
    rows = [
        [what, f"{100 * share:.1f}", *(_back(found[view, n, what], 3 if view == PROFILES else 1) for view, n in ways)]
        for what, share in right.items()
    ]
    return Table(
        title=f"Versions that are taken back: % of {_RUNS} runs (minutes until it, median)",
        columns=["what comes", "answers right, %", *(f"{view}, {boards} boards" for view, boards in ways)],
        rows=rows,
        notes=[
            "Alarms in three windows in a row. Disagreement with the gateway's model: within "
            f"{WATCHED_MINUTES} minutes, limit {LIMIT:g}, after 100 of reference. Profiles of all beats in windows of "
            f"{_WINDOWS_S[0]} s, which no board tells: within 10 minutes, limit {_LIMIT:g}. No model knows a patient. "
            "Stand-in: the first 20 minutes of recordings are played again and again before, the last 10 after. The "
            "gateway takes all signals for usable.",
        ],
    )


def _back(of: Noticed, a_minute: int) -> str:
    return f"{100 * of.alarms:.0f}" + ("" if of.windows is None else f" ({of.windows / a_minute:.0f})")


def _reference() -> Table:
    rows = []
    for shift in (2.0, 4.0):
        for reference in (25, 50, 100, 400):
            found = noticed(windows_until_alarm(_LIMIT, 100, 200, reference=reference, shift=shift))
            rows.append([f"{shift:g} standard deviations, {reference} windows before", *_noticed(found)])
    return Table(
        title="How many windows of reference a lasting change takes, SIMULATED",
        columns=["change", "runs", "noticed within 200 windows, %", "windows until it (median)"],
        rows=rows,
        notes=[
            "Until it is noticed a change counts among what was seen before, and is usual soon where that is little."
        ],
    )


def _noticed(of: Noticed) -> list[str]:
    return [f"{of.runs}", f"{100 * of.alarms:.0f}", "-" if of.windows is None else f"{of.windows:.0f}"]
