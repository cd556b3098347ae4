"""Respiration rate of the board against breaths that two annotators marked (BIDMC)."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qepa_board.signals.breaths import WINDOW_S
from qepa_board.signals.dsp import EcgFilter
from qepa_board.signals.oximetry import Oximeter
from qepa_board.signals.ppg import PULSES
from qepa_board.signals.respiration import DerivedRespiration, ThoracicRespiration, qrs_height
from qepa_board.signals.rpeak import RPeakDetector
from qepa_tools.recordings.bidmc import FS_HZ, BidmcRecord, bidmc_numbers, load_bidmc, reported
from qepa_tools.recordings.peak_tables import Track
from qepa_tools.recordings.table import Table, number, percent
from qepa_wire.measures import UNKNOWN

SOURCES = ("impedance", "from PPG", "from ECG", "monitor")
EVERY_S = 8
AGREED = 2.0  # annotators, /min: where they differ more there is no truth (Pimentel et al. 2017)

_ECG_HZ = 250
_FIRST_S = 40
_DELAY_S = 1  # of the filters: the window that the board has seen ends this much earlier


def reference_rate(breaths: tuple[NDArray[np.float64], NDArray[np.float64]], end_s: float) -> float | None:
    """Rate that both annotators' marks give in the window before `end_s`, None where they do not agree."""
    rates = []
    for marks in breaths:
        inside = marks[(marks >= end_s - WINDOW_S) & (marks < end_s)]
        if len(inside) < 3:
            return None
        rates.append(60 * (len(inside) - 1) / float(inside[-1] - inside[0]))
    return sum(rates) / 2 if abs(rates[0] - rates[1]) <= AGREED else None


def respiration_tables(bidmc: Path, track: Track) -> list[Table]:
    """One row a record, and all together."""
    rows = []
    every: dict[str, list[float]] = {source: [] for source in SOURCES}
    windows = 0
    for name in track([str(n) for n in bidmc_numbers(bidmc) if reported(n)], "Respiration"):
        record = load_bidmc(bidmc, int(name))
        errors = _errors(record)
        windows += len(errors)
        row = [record.name, str(len(errors))]
        for k, source in enumerate(SOURCES):
            known = [error[k] for error in errors if np.isfinite(error[k])]
            every[source] += known
            row += [percent(len(known), len(errors), 0), number(_mean_size(known), 2)]
        rows.append(row)
    summary = [
        [
            source,
            percent(len(known), windows),
            number(_mean_size(known), 2),
            number(float(np.mean(known)), 2),
            number(float(np.percentile(np.abs(known), 95)), 1),
        ]
        for source, known in every.items()
    ]
    return [
        Table(
            title=f"Respiration rate against marked breaths, /min: {windows} windows of {WINDOW_S} s",
            columns=["source", "reported %", "MAE", "bias", "95 % within"],
            rows=summary,
            notes=[
                f"One window each {EVERY_S} s where two annotators agree within {AGREED:g}/min. Constants were chosen "
                "on odd records; reported are even ones (groups of one patient kept together). ECG: resampled from 125 "
                "to 250 Hz."
            ],
        ),
        Table(
            title="Respiration rate, record by record",
            columns=["bidmc", "windows", *(f"{source} {what}" for source in SOURCES for what in ("%", "MAE"))],
            rows=rows,
        ),
    ]


def _mean_size(errors: list[float]) -> float | None:
    return float(np.mean(np.abs(errors))) if errors else None


def _errors(record: BidmcRecord) -> list[list[float]]:
    """One row a window with a reference: error of each source, NaN where it gives no number."""
    streams = [_impedance(record), _from_ppg(record), _from_ecg(record)]
    rows = []
    for second, told in enumerate(zip(*streams, strict=True), start=1):
        if second < _FIRST_S or second % EVERY_S:
            continue
        truth = reference_rate(record.breaths, second - _DELAY_S)
        if truth is not None:
            monitor = float(record.resp_rate[min(second, len(record.resp_rate) - 1)])
            rows.append([value - truth for value in (*told, monitor)])
    return rows


def _told(board: Any) -> float:
    measures: list[tuple[int, int, int]] = []
    board.measures(measures)
    value = measures[0][2]
    return float("nan") if value == UNKNOWN else value / 10


def _impedance(record: BidmcRecord) -> Iterator[float]:
    board = ThoracicRespiration(FS_HZ)
    words = array("i", record.impedance_counts().tobytes())
    for second in range(record.seconds):
        board.push(words[second * FS_HZ : (second + 1) * FS_HZ], FS_HZ)
        yield _told(board)


def _from_ppg(record: BidmcRecord) -> Iterator[float]:
    oximeter, board = Oximeter(FS_HZ), DerivedRespiration(FS_HZ)
    words = array("i", record.infrared_counts().tobytes())
    seen = 0
    for second in range(record.seconds):
        light = words[second * FS_HZ : (second + 1) * FS_HZ]
        oximeter.push(light, light, FS_HZ)
        for k in range(seen, oximeter.pulses):
            place = k % PULSES
            board.beat(oximeter.pulse_at[place], oximeter.pulse_height[place], oximeter.pulse_level[place])
        seen = oximeter.pulses
        yield _told(board)


def _from_ecg(record: BidmcRecord) -> Iterator[float]:
    ecg_filter = EcgFilter(_ECG_HZ)
    detector, board = RPeakDetector(ecg_filter), DerivedRespiration(_ECG_HZ)
    words = array("h", record.ecg_counts().tobytes())
    envelope = array("i", bytes(4 * _ECG_HZ))
    for second in range(record.seconds):
        ecg_filter.run(words[second * _ECG_HZ : (second + 1) * _ECG_HZ], _ECG_HZ, envelope)
        detector.run(envelope, second * _ECG_HZ, _ECG_HZ)
        for k in range(detector.n_found):
            board.beat(detector.found[k], qrs_height(ecg_filter, detector.found[k]))
        detector.clear()
        yield _told(board)
