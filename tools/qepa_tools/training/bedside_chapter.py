"""Chapter "bedside" of server/LEARNING.md: the gateway's ECG models, judged anew, beside what boards do alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from qepa_gateway.inference.shelf import ModelShelf
from qepa_gateway.inference.windows import BeatWindows
from qepa_server.training.bedside.networks import beats_network
from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.evaluation.cohort import read_cohort
from qepa_tools.evaluation.cross_validation import FOLDS
from qepa_tools.evaluation.evaluate import Result, cross_validated
from qepa_tools.evaluation.figures import flat
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.table import Table
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS

from . import ecg_beats, ecg_quality
from .cli import BEATS_EPOCHS, BEATS_FOLDS, QUALITY_EPOCHS, QUALITY_FOLDS

Metrics = Mapping[str, Any]
_RUNS = 300


def chapter(data: Path, say: Say) -> Chapter:
    """Train and judge both models as `qepa train` does, and time them. data: directory of MIT-BIH, nstdb beside it."""

    def steps(n: int, what: str) -> range:
        say(f"bedside: {what}")
        return range(n)

    beats = ecg_beats.make(data.parent, version=1, folds=BEATS_FOLDS, epochs=BEATS_EPOCHS, steps=steps)
    quality = ecg_quality.make(data.parent, version=1, folds=QUALITY_FOLDS, epochs=QUALITY_EPOCHS, steps=steps)
    say("bedside: the board's model on the same people")
    return Chapter(
        tables={
            "bedside-beats": beats_table(beats.card["metrics"], board_alone(data)),
            "bedside-quality": quality_table(quality.card["metrics"]),
            "bedside-time": time_table(),
        }
    )


def board_alone(data: Path) -> Result:
    """The board's own classifier, cross-validated over the same people."""
    cohort = read_cohort(data, FeatureCache(ecg_beats.CACHE), lambda names, _: names)
    return cross_validated(cohort, FitSettings(), FOLDS, lambda names, _: names)


def beats_table(gateway: Metrics, board: Result) -> Table:
    """Of beats by class; ``gateway`` is the card's."""
    columns = ["accuracy", "macro_f1", "N sensitivity", "N ppv", "S sensitivity", "S ppv", "V sensitivity", "V ppv"]
    alone = flat(board.overall) | {
        "intervals_95": {name: i and [i.low, i.high] for name, i in board.intervals.items()},
    }
    rows = [
        _row("board, 72 words, one lead", alone, columns),
        _row("gateway, one lead", gateway["one_lead"], columns),
        _row("gateway, two leads", gateway["two_leads"], columns),
    ]
    return Table(
        title="Beats of people never trained on: share in %, with 95 % interval over persons",
        columns=["", "accuracy", "macro F1", "N Se", "N PPV", "S Se", "S PPV", "V Se", "V PPV"],
        rows=rows,
        notes=[
            f"int8 and float answer alike in {100 * gateway['int8_answers_as_float']:.2f} % of beats; the largest "
            f"difference of a probability is {gateway['int8_largest_difference_quanta']:.0f} of 256 steps.",
        ],
    )


def quality_table(metrics: Metrics) -> Table:
    """Of windows of four seconds; ``metrics`` is the card's."""
    rows = []
    for kind, of in metrics["shipped kinds"].items():
        rows.append(_quality_row(f"{kind}; board's own verdict", of["board's own verdict"], {}))
        rows.append(_quality_row(f"{kind}; gateway", of["model"], of["intervals_95"]))
    (motion,) = (of for kind, of in metrics["never trained on electrode motion"].items() if kind.endswith("em"))
    rows.append(
        _quality_row(
            "noise: em; gateway, trained without any electrode motion", motion["model"], motion["intervals_95"]
        )
    )
    return Table(
        title="Signal quality of people, and with pieces of noise, never trained on: share in %",
        columns=["", "poor found", "usable kept", "beats wrong", "in windows called usable", "called poor"],
        rows=rows,
        notes=[
            "Poor: QRS less than 6 dB above the noise that the board's filters leave; usable: 12 dB and more. Wrong: "
            "beats that the board missed or made up, per annotated beat. em: electrode motion. Noise was added."
        ],
    )


def time_table() -> Table:
    """Time of one beat on this machine: what ships, its windows, and the same network in Keras."""
    model, _ = ModelShelf(None).get(ECG_BEATS)
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in CONTRACTS[ECG_BEATS].input_shapes]
    leads, numbers = CONTRACTS[ECG_BEATS].inputs
    linear = np.zeros((len(CONTRACTS[ECG_BEATS].outputs), numbers.shape[1] + 1))
    network = beats_network((leads.shape[1], leads.shape[2]), numbers.shape[1], linear)
    reader, signal = BeatWindows(360), rng.standard_normal((4320, 2)).astype(np.float32)
    int8_us = _microseconds(lambda: model.run(*inputs))
    rows = [
        ["int8, LiteRT, one thread", f"{int8_us:.0f}", "1"],
        ["its windows from two leads", *_timed(lambda: reader.read(signal, 0, 2000, 1700, 2300), int8_us)],
        ["float, Keras, called directly", *_timed(lambda: network(inputs, training=False), int8_us)],
    ]
    return Table(title="Time of one beat", columns=["", "microseconds (median)", "times int8"], rows=rows)


def _timed(work: Callable[[], object], unit_us: float) -> list[str]:
    us = _microseconds(work)
    return [f"{us:.0f}", f"{us / unit_us:.1f}"]


def _microseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_RUNS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return 1e6 * float(np.median(times))


def _row(name: str, metrics: Metrics, columns: list[str]) -> list[str]:
    return [name, *(_share(metrics[column], metrics["intervals_95"].get(column)) for column in columns)]


def _quality_row(name: str, of: Metrics, intervals: Metrics) -> list[str]:
    columns = ["poor_found", "usable_kept", "wrong_before", "wrong_in_usable", "called_poor"]
    return [name, *(_share(of[column], intervals.get(column)) for column in columns)]


def _share(value: float | None, interval: tuple[float, float] | list[float] | None) -> str:
    if value is None:
        return "-"
    span = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{100 * value:.1f}{span}"
