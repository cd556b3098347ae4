"""The figures of the board's signal processing, from recordings: `python -m qepa_tools.recordings.study --help`.

Every figure comes from the board's own code run on CPython; the rounds of `learning` are simulated: the server's own
step, but one cell, no encryption, no noise, and a label for every beat.
"""

import argparse
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb.processing

from qepa_board.learning.learn import Learner, Rehearsal
from qepa_board.learning.network import ModelShape
from qepa_server.config import LearningConfig
from qepa_server.robust.aggregate import ClippedTrimmedMean
from qepa_server.training.initial import initial_model
from qepa_tools.errors import ToolError
from qepa_tools.recordings.board_beats import BoardBeats, FeatureCache, match_beats
from qepa_tools.recordings.evaluation import Evaluation, HeldOut
from qepa_tools.recordings.physionet import load_all
from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError, Recording, counts_from_adc
from qepa_tools.recordings.ward_split import WARD_PATIENTS, ward_split

ROUND_S = 30.0
REPORTED_ROUNDS = (3, 10, 50, 100)

_CACHE = Path.home() / ".cache" / "qepa" / "features"


@dataclass(slots=True)
class Patient:
    """One simulated board: its beats, played round and round, and what it rehearses."""

    beats: BoardBeats
    fs_hz: int
    length: int
    rehearsal: Rehearsal

    def training_set(self, number: int) -> "tuple[list[array[int]], list[int]]":
        """Labelled beats of round `number`, counted from 0, after the rehearsed ones."""
        window = round(ROUND_S * self.fs_hz)
        start = number * window % (self.length - window + 1)
        chosen = self.beats.labelled & (self.beats.samples >= start) & (self.beats.samples < start + window)
        new = [array("h", row.tobytes()) for row in self.beats.features[chosen]]
        classes = self.beats.classes[chosen].tolist()
        features, labels = self.rehearsal.features + new, self.rehearsal.labels + classes
        for row, label in zip(new, classes, strict=True):
            self.rehearsal.add(row, label)
        return features, labels


def federated_rounds(
    ward: Sequence[Recording], cache: FeatureCache, rounds: int, learning: LearningConfig
) -> Iterator[tuple[int, ...]]:
    """Simulate federated averaging over the ward's patients, one cell; yields the model's words after each round."""
    patients = [
        Patient(
            cache.beats(recording, recording.duration_s),
            recording.fs_hz,
            len(recording.samples),
            Rehearsal(),
        )
        for recording in ward
    ]
    learner = Learner(ModelShape(learning.classes, learning.features, learning.hidden))
    join = ClippedTrimmedMean(norm_bound=learning.norm_bound, trim_fraction=learning.trim_fraction)
    words = initial_model(
        features=learning.features,
        hidden=learning.hidden,
        classes=learning.classes,
        fraction_bits=learning.fraction_bits,
        seed=learning.seed,
    ).words
    for number in range(rounds):
        model, delta = array("i", words), array("i", bytes(4 * len(words)))
        total = np.zeros(len(words), np.int64)
        for patient in patients:
            features, labels = patient.training_set(number)
            learner.local_update(model, features, labels, delta)
            total += np.array(delta)
        words = learning.rule.apply(words, join(total[np.newaxis] / len(patients)))
        yield words


def learning_table(
    recordings: Sequence[Recording], cache: FeatureCache, seeds: int, minutes: float, kinds: Sequence[int]
) -> None:
    """Print accuracy and F1 on held-out persons after some rounds, for several splits and numbers of hidden units."""
    print(f"Simulated rounds of {ROUND_S:.0f} s, {WARD_PATIENTS} patients; others, up to {minutes:g} min each")
    print(
        f"{'hidden':>6} {'seed':>4} {'rounds':>6} {'accuracy':>8} {'all N':>6} {'macro F1':>8}"
        f"   F1 of {', '.join(AAMI_CLASSES)}"
    )
    results: dict[tuple[int, int], list[Evaluation]] = {}
    for seed in range(seeds):
        ward, others = ward_split(recordings, seed)
        held_out = HeldOut(others, cache, minutes * 60)
        for hidden in kinds:
            learning = LearningConfig(hidden=hidden, seed=seed)
            for number, words in enumerate(federated_rounds(ward, cache, max(REPORTED_ROUNDS), learning), start=1):
                if number not in REPORTED_ROUNDS:
                    continue
                result = held_out.evaluate(words, hidden)
                results.setdefault((hidden, number), []).append(result)
                f1 = "  ".join("   -" if value is None else f"{value:.2f}" for value in result.f1)
                print(
                    f"{hidden:6} {seed:4} {number:6} {result.accuracy:8.4f} {result.majority:6.3f}"
                    f" {result.macro_f1:8.3f}   {f1}",
                    flush=True,
                )
    for (hidden, number), row in results.items():
        mean = np.mean([(r.accuracy, r.majority, r.macro_f1) for r in row], axis=0)
        print(f"{hidden:6} mean {number:6} {mean[0]:8.4f} {mean[1]:6.3f} {mean[2]:8.3f}")
    _compare(results, kinds)


def _compare(results: dict[tuple[int, int], list[Evaluation]], kinds: Sequence[int]) -> None:
    """Print how each further kind differs from the first, split by split."""
    for (hidden, number), row in results.items():
        if hidden == kinds[0]:
            continue
        for name in ("accuracy", "macro_f1"):
            gains = np.array(
                [getattr(a, name) - getattr(b, name) for a, b in zip(row, results[kinds[0], number], strict=True)]
            )
            error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            print(
                f"{hidden} hidden minus {kinds[0]}, {number} rounds: {name} {gains.mean():+.4f}"
                f" (standard error {error:.4f} over splits), better in {int((gains > 0).sum())} of {len(gains)}"
            )


def peaks_table(recordings: Sequence[Recording], cache: FeatureCache, minutes: float, with_xqrs: bool) -> None:
    """Print R-peak sensitivity and PPV per record (EC57, 150 ms), on request those of wfdb's xqrs beside them."""
    print("R peaks, EC57 150 ms, flutter stretches left out" + ("; right: wfdb xqrs" if with_xqrs else ""))
    rows = []
    for recording in recordings:
        duration_s = min(minutes * 60, recording.duration_s)
        ours = cache.beats(recording, duration_s)
        found = int((ours.classes >= -1).sum())
        row = [found, len(ours.missed), len(ours.classes) - found]
        if with_xqrs:
            row += _xqrs(recording, duration_s)
        rows.append(row)
        print(
            f"{recording.id:>12} {'paced' if recording.paced else '':5}",
            *(_peaks(row[k : k + 3]) for k in range(0, len(row), 3)),
        )
    for k in range(0, len(rows[0]), 3):
        shares = np.array([(_share(r[k], r[k + 1]), _share(r[k], r[k + 2])) for r in rows])
        tp, fn, fp = (sum(r[k + j] for r in rows) for j in range(3))
        name = "xqrs" if k else "board"
        print(
            f"{name}: mean over records Se {shares[:, 0].mean():.2f}% PPV {shares[:, 1].mean():.2f}%, "
            f"over all beats Se {_share(tp, fn):.2f}% PPV {_share(tp, fp):.2f}%"
        )


def _xqrs(recording: Recording, duration_s: float) -> list[int]:
    n = round(duration_s * recording.fs_hz)
    detector = wfdb.processing.XQRS(sig=counts_from_adc(recording.samples[:n]) / 400.0, fs=recording.fs_hz)
    detector.detect(verbose=False)
    found = [int(i) for i in detector.qrs_inds if not recording.is_excluded(int(i))]
    annotated = [b.sample for b in recording.labels if b.sample < n and not recording.is_excluded(b.sample)]
    partner, missed = match_beats(found, annotated, recording.fs_hz)
    matched = sum(j is not None for j in partner)
    return [matched, len(missed), len(found) - matched]


def _share(part: int, rest: int) -> float:
    return 100.0 * part / max(1, part + rest)


def _peaks(row: Sequence[int]) -> str:
    tp, fn, fp = row
    return f"| beats {tp + fn:5} missed {fn:4} false {fp:4} Se {_share(tp, fn):6.2f}% PPV {_share(tp, fp):6.2f}% "


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m qepa_tools.recordings.study", description=__doc__)
    parser.add_argument("table", choices=("peaks", "learning"))
    parser.add_argument("--data", type=Path, help="directory of WFDB records")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "qepa" / "features",
        help="where computed features are kept",
    )
    parser.add_argument("--minutes", type=float, default=31.0, help="how much of each (held-out) record")
    parser.add_argument("--seeds", type=int, default=5, help="how many splits (learning)")
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[0, 10], help="numbers of hidden units to compare (learning)"
    )
    parser.add_argument("--xqrs", action="store_true", help="compare with wfdb's xqrs (peaks; slow)")
    options = parser.parse_args(arguments)
    try:
        directory = find_data(options.data)
        if directory is None:
            raise DataError("No recordings found: name a directory of WFDB records with --data.")
        recordings = load_all(directory)
        cache = FeatureCache(options.cache)
        if options.table == "peaks":
            peaks_table(recordings, cache, options.minutes, options.xqrs)
        else:
            learning_table(recordings, cache, options.seeds, options.minutes, options.hidden)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
