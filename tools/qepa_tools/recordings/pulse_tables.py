"""Pulse rate, signal quality and oxygen saturation of the board against a monitor and against an ECG."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_board.signals.motion import Motion
from qepa_board.signals.oximetry import Oximeter
from qepa_tools.recordings.bidmc import FS_HZ, BidmcRecord, bidmc_numbers, load_bidmc, reported
from qepa_tools.recordings.peak_tables import Track
from qepa_tools.recordings.table import Table, number, percent
from qepa_tools.recordings.wrist_ppg import FS_HZ as WRIST_HZ
from qepa_tools.recordings.wrist_ppg import WristRecord, load_wrist
from qepa_wire.measures import PULSE_RATE, SPO2, UNKNOWN

SETTLE_S = 10
RATIOS = (0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.0)
NOISE_COUNTS = 30  # white, of both wavelengths, some times a MAX30102's at full light
CHOSEN_ON = "s3"  # the person of wrist_ppg on whom the gates were chosen

_SPLIT = "Constants were chosen on odd records; reported are even ones (groups of one patient kept together)."
Values = NDArray[np.float64]
Counts = NDArray[np.int32]


def follow(oximeter: Oximeter, red: Counts, infrared: Counts, fs_hz: int) -> tuple[Values, Values]:
    """Push second by second; returns pulse rate and SpO2 after each second, NaN where the board gives no number."""
    words = [array("i", np.ascontiguousarray(signal).tobytes()) for signal in (red, infrared)]
    rates, saturations = [], []
    for second in range(len(infrared) // fs_hz):
        part = slice(second * fs_hz, (second + 1) * fs_hz)
        oximeter.push(words[0][part], words[1][part], fs_hz)
        rate, saturation = _told(oximeter)
        rates.append(rate)
        saturations.append(saturation / 10)
    return np.array(rates), np.array(saturations)


def _told(oximeter: Oximeter) -> tuple[float, float]:
    measures: list[tuple[int, int, int]] = []
    oximeter.measures(measures)
    told = {code: float("nan") if value == UNKNOWN else float(value) for code, _, value in measures}
    return told[PULSE_RATE], told[SPO2]


def pulse_tables(bidmc: Path, wrist: Path, track: Track) -> list[Table]:
    """Intensive care patients at rest, and people who exercise."""
    rows, errors = [], []
    for name in track([str(n) for n in bidmc_numbers(bidmc) if reported(n)], "Pulse rate"):
        record = load_bidmc(bidmc, int(name))
        light = record.infrared_counts()
        rate, _ = follow(Oximeter(FS_HZ), light, light, FS_HZ)
        part = slice(SETTLE_S, record.seconds)
        error = rate[part] - record.hr_bpm[part]
        monitor = record.pulse_bpm[part] - record.hr_bpm[part]
        rows.append([record.name, *_columns(error), number(float(np.nanmean(np.abs(monitor))))])
        errors.append((error, monitor))
    every = np.concatenate([e for e, _ in errors])
    rows.append(["all", *_columns(every), number(float(np.nanmean(np.abs(np.concatenate([m for _, m in errors])))))])
    return [
        Table(
            title="Pulse rate from PPG against the monitor's heart rate from ECG, /min, each second",
            columns=["bidmc", "reported %", "MAE", "bias", "95 % within", "monitor's own pulse rate, MAE"],
            rows=rows,
            notes=[_SPLIT + " PPG and ECG differ where beats do not reach the finger (ectopic, atrial fibrillation)."],
        ),
        _wrist_table(load_wrist(wrist), track),
    ]


def _columns(error: Values) -> list[str]:
    known = error[np.isfinite(error)]
    if not len(known):
        return [percent(0, len(error)), "-", "-", "-"]
    within = float(np.percentile(np.abs(known), 95))
    return [percent(len(known), len(error)), *(number(float(v)) for v in (np.abs(known).mean(), known.mean(), within))]


def _wrist_table(records: Sequence[WristRecord], track: Track) -> Table:
    by_name = {record.name: record for record in records if record.person != CHOSEN_ON}
    rows = []
    for name in track(list(by_name), "Wrist PPG"):
        record = by_name[name]
        heart = _heart_rate(record)
        free, gated = (_columns(_wrist_rate(record, gate) - heart) for gate in (False, True))
        rows.append([name, *free[:2], *gated[:2]])
    return Table(
        title="Pulse rate at the wrist during exercise against the chest ECG, /min",
        columns=["wrist_ppg", "reported % without motion gate", "MAE", "reported % with it", "MAE"],
        rows=rows,
        notes=[
            "These pulses can't be read, so hardly a number should be given. Reference: neurokit2's R peaks. "
            f"The gates were chosen on {CHOSEN_ON}, who is not shown."
        ],
    )


def _wrist_rate(record: WristRecord, gated: bool) -> Values:
    oximeter, motion = Oximeter(WRIST_HZ), Motion(WRIST_HZ)
    light = array("i", record.light.tobytes())
    x, y, z = (array("i", np.ascontiguousarray(axis).tobytes()) for axis in record.acceleration)
    rates = []
    for second in range(len(light) // WRIST_HZ):
        part = slice(second * WRIST_HZ, (second + 1) * WRIST_HZ)
        motion.push(x[part], y[part], z[part], WRIST_HZ)
        oximeter.moving = gated and motion.moving
        oximeter.push(light[part], light[part], WRIST_HZ)
        rates.append(_told(oximeter)[0])
    return np.array(rates)


def _heart_rate(record: WristRecord) -> Values:
    """Mean heart rate of the latest 8 s, each second."""
    import neurokit2  # noqa: PLC0415  takes seconds, and only developers have it

    clean = neurokit2.ecg_clean(record.ecg, sampling_rate=WRIST_HZ)
    peaks_s = np.asarray(neurokit2.ecg_peaks(clean, sampling_rate=WRIST_HZ)[1]["ECG_R_Peaks"]) / WRIST_HZ
    rates = []
    for end_s in range(1, len(record.ecg) // WRIST_HZ + 1):
        beats = peaks_s[(peaks_s > end_s - 8) & (peaks_s <= end_s)]
        rates.append(60 * (len(beats) - 1) / (beats[-1] - beats[0]) if len(beats) > 2 else float("nan"))
    return np.array(rates)


def saturation_tables(bidmc: Path, track: Track) -> list[Table]:
    """SYNTHETIC red light with a known ratio: is the ratio found again, and a course of saturation followed?"""
    rows = []
    for name in track([str(n) for n in bidmc_numbers(bidmc) if reported(n)], "SpO2"):
        record = load_bidmc(bidmc, int(name))
        rows.append([record.name, *_saturation_row(record)])
    return [
        Table(
            title="SpO2 with a SYNTHETIC red channel (infrared: the recording), %",
            columns=["bidmc", *(f"R {ratio}" for ratio in RATIOS), "following the monitor's course: MAE", "reported %"],
            rows=rows,
            notes=[
                "Mean error against 110 - 25 R for a constant R, then for the R that the monitor's SpO2 of each second "
                f"stands for; white noise of {NOISE_COUNTS} counts on both wavelengths. It shows that R is recovered, "
                "not that the curve is right for a sensor or a skin: uncalibrated. " + _SPLIT
            ],
        )
    ]


def _saturation_row(record: BidmcRecord) -> list[str]:
    rng = np.random.default_rng(record.number)
    infrared = _noisy(record.infrared_counts(), rng)
    row = []
    for ratio in RATIOS:
        _, told = follow(Oximeter(FS_HZ), _noisy(record.red_counts(ratio), rng), infrared, FS_HZ)
        row.append(number(float(np.nanmean(told) - min(100.0, 110 - 25 * ratio)) if np.isfinite(told).any() else None))
    seconds = np.arange(len(record.spo2))
    known = np.isfinite(record.spo2)
    course = np.interp(np.arange(len(record.pleth)) / FS_HZ, seconds[known], record.spo2[known])
    _, told = follow(Oximeter(FS_HZ), _noisy(record.red_counts((110 - course) / 25), rng), infrared, FS_HZ)
    error = (told[: record.seconds] - record.spo2[: record.seconds])[SETTLE_S:]
    shown = error[np.isfinite(error)]
    return [*row, number(float(np.abs(shown).mean()) if len(shown) else None, 2), percent(len(shown), len(error))]


def _noisy(counts: Counts, rng: np.random.Generator) -> Counts:
    return (counts + np.rint(rng.normal(0, NOISE_COUNTS, len(counts)))).astype(np.int32)
