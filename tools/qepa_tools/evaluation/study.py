"""What helps the board's beat classifier and what does not: `python -m qepa_tools.evaluation.study`.

Each row of the table is a way to make a model, judged on each person by a model made without that person. Where a row
chooses anything by figures (nested), it chooses by people inside the training set. Scores are those of numbers, not of
words: the difference is below the last digit shown. Rows that no board computes today say so.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.errors import ToolError
from qepa_tools.evaluation.cli import CACHE
from qepa_tools.evaluation.cohort import Case, read_cohort
from qepa_tools.evaluation.figures import accuracy_and_f1
from qepa_tools.evaluation.report import percentage
from qepa_tools.evaluation.ways import Way, beats_of, leave_one_out, ways
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.recording import DataError, adc_from_millivolt
from qepa_tools.recordings.table import Table

_NOISE_SHARES = (0.06, 0.12)  # RMS of added muscle noise over the QRS height


def study(cases: Sequence[Case], more: Callable[[str], Sequence[Case]], chosen: Iterable[Way]) -> Table:
    """Judge each way; more: gives further material, called as in Way, of the same people."""
    persons = sorted({case.person for case in cases})
    numbers = {name: k for k, name in enumerate(persons)}
    beats = beats_of(cases, numbers)
    rows = []
    for way in chosen:
        began = time.monotonic()
        extra = beats_of(more(way.more), numbers, way.view) if way.more else None
        shown = beats_of(cases, numbers, way.view)
        accuracy, f1 = accuracy_and_f1(beats.classes, leave_one_out(shown, way.fit, extra).argmax(axis=1))
        rows.append([way.name, way.remark, *map(percentage, (accuracy, float(np.mean(f1)), *f1))])
        print(f"{rows[-1]} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return Table(
        title=f"Ways to make a model, each of {len(persons)} people judged by a model made without them",
        columns=["way", "", "accuracy %", "macro F1 %", "F1 of N", "S", "V"],
        rows=rows,
        notes=[
            f"{len(beats.classes):,} beats found by the board; F beats count as wrong unless called F. "
            "nested: settings chosen by people inside each training set. no board: none computes it."
        ],
    )


def further_cases(cases: Sequence[Case], directory: Path, noise: Path, cache: FeatureCache, what: str) -> list[Case]:
    """The same people's other lead (`lead`), the same lead with muscle noise (`noise`), or `both`."""
    more: list[Case] = []
    muscle = wfdb.rdrecord(str(noise / "ma"), channels=[0]).p_signal[:, 0] if what != "lead" else np.zeros(1)
    for case in cases:
        record = wfdb.rdrecord(str(directory / case.recording.id))
        first = record.sig_name.index("MLII") if "MLII" in record.sig_name else 0
        signals = []
        if what != "noise" and record.n_sig > 1:
            signals.append(record.p_signal[:, 1 - first])
        if what != "lead":
            signal = record.p_signal[:, first]
            added = np.resize(muscle / muscle.std(), len(signal))
            signals += [signal + share * _qrs_height(signal, case) * added for share in _NOISE_SHARES]
        for signal in signals:
            recording = replace(case.recording, samples=adc_from_millivolt(signal))
            more.append(Case(recording, cache.beats(recording, recording.duration_s)))
    return more


def _qrs_height(signal_mv: NDArray[np.float64], case: Case) -> float:
    reach = case.recording.fs_hz // 10
    marks = [label.sample for label in case.recording.labels[5:-5:20]]
    return float(np.median([np.ptp(signal_mv[mark - reach : mark + reach]) for mark in marks]))


def chapter(data: Path, say: Say) -> Chapter:
    """The chapter on ways of ``qepa bench learning``; nstdb has to lie beside data. Takes twenty minutes or more."""
    cache = FeatureCache(CACHE)
    cohort = read_cohort(data, cache, lambda names, _: names)

    def more(what: str) -> list[Case]:
        return further_cases(cohort.cases, data, data.parent / "nstdb", cache, what)

    def told() -> Iterable[Way]:
        for way in ways():
            say(way.name)
            yield way

    return Chapter(tables={"ways": study(cohort.cases, more, told())})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m qepa_tools.evaluation.study", description=__doc__)
    parser.add_argument("--data", type=Path, help="MIT-BIH Arrhythmia records; nstdb has to lie beside them")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rows", type=int, nargs="*", help="which rows, counted from 1 (default: all; half an hour)")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    cache = FeatureCache(options.cache)
    try:
        directory = find_data(options.data)
        if directory is None:
            raise DataError("No recordings found: name a directory with --data.")
        cohort = read_cohort(directory, cache, lambda n, what: track(n, what, console=Console(stderr=True)))

        def more(what: str) -> list[Case]:
            return further_cases(cohort.cases, directory, directory.parent / "nstdb", cache, what)

        every = ways()
        chosen = [every[k - 1] for k in options.rows] if options.rows else every
        table = study(cohort.cases, more, chosen)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    print(table.markdown() if options.markdown else table.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
