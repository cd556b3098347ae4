"""Gives a virtual board's chips something to measure: /chips.json and a file of codes for each of its sensors.

From recordings where they are, else synthetic; skin temperature is always synthetic, no set has it. Which is told.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings import chip_codes
from qepa_tools.recordings.bidmc import FS_HZ as BIDMC_HZ
from qepa_tools.recordings.bidmc import bidmc_numbers, load_bidmc
from qepa_tools.recordings.motion_set import FS_HZ as MOTION_HZ
from qepa_tools.recordings.motion_set import load_motion
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.places import find_data, record_names
from qepa_tools.recordings.recording import Recording, counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording

FILE = "chips.json"

Signal = NDArray[np.float64]

_COUNTS_PER_MV = 400
_RATES = {"max30003": 256, "ads1292r": 250, "max30101": 100, "max30102": 100, "max86150": 200, "lsm6dso": 104}
_RATES |= {"mpu6050": 100, "tmp117": 1, "max30205": 1, "ad8232": 360}
_STEADY_LIGHT = 120_000
_BREATHS_PER_MIN, _PULSES_PER_MIN = 15, 72


def wire_board(
    files: Path, sensors: Sequence[Mapping[str, Any]], *, person: int = 0, seconds: int = 60, data: Path | None = None
) -> dict[str, str]:
    """Write chips.json and codes into a board's ``files`` (its flash) for ``sensors``, entries of its board.json.

    ``person`` chooses among the recordings; ``data`` is the folder of mitdb/, None where it is found or not. Returns
    for each chip what feeds it, "mitdb 101" or "synthetic". A cgm has no chip and is left out.
    """
    mitdb = data if data is not None else find_data()
    feeds = _Feeds(mitdb, person, seconds)
    plan, fed = [], {}
    for entry in sensors:
        chip = entry["chip"]
        if chip not in _RATES:
            continue
        codes, fed[chip] = feeds.codes(chip, entry.get("fs_hz", _RATES[chip]))
        name = f"{chip}.i32"
        chip_codes.write_codes(codes, files / name)
        plan.append({**entry, "codes": f"/{name}"})
    (files / FILE).write_text(json.dumps(plan), encoding="utf-8")
    return fed


class _Feeds:
    """One person's signals, as far as they are there."""

    def __init__(self, mitdb: Path | None, person: int, seconds: int) -> None:
        self._mitdb = mitdb
        self._person = person
        self._seconds = seconds

    def codes(self, chip: str, fs_hz: int) -> tuple[chip_codes.Codes, str]:
        """Codes of ``chip`` at its rate, and where they come from."""
        if chip in ("tmp117", "max30205"):
            celsius = 33.5 + 0.4 * np.sin(np.arange(self._seconds) / 10 + self._person)
            return (chip_codes.tmp117 if chip == "tmp117" else chip_codes.max30205)(celsius), "synthetic"
        if chip in ("lsm6dso", "mpu6050"):
            milli_g, origin = self._motion(fs_hz)
            still = np.zeros_like(milli_g)
            return (chip_codes.lsm6dso if chip == "lsm6dso" else chip_codes.mpu6050)(milli_g, still), origin
        if chip in ("max30003", "ad8232"):
            ecg_mv, origin = self._ecg(fs_hz)
            return chip_codes.max30003(ecg_mv) if chip == "max30003" else chip_codes.ad8232(ecg_mv), origin
        red, infrared, resp, ecg_mv, origin = self._patient(fs_hz)
        if chip == "ads1292r":
            return chip_codes.ads1292r(resp, ecg_mv), origin
        if chip == "max86150":
            return chip_codes.max86150(red, infrared, ecg_mv), origin
        return chip_codes.max30101(red, infrared), origin

    def _fitted(self, signal: NDArray[Any], rate: float, fs_hz: int) -> Signal:
        return chip_codes.resampled(signal, rate, fs_hz)[: self._seconds * fs_hz]

    def _ecg(self, fs_hz: int) -> tuple[Signal, str]:
        if self._mitdb is None:
            return self._millivolts(synthetic_recording(1, self._person, self._seconds + 1.0), fs_hz), "synthetic"
        names = record_names(self._mitdb)
        name = names[self._person % len(names)]
        return self._millivolts(load_wfdb(self._mitdb, name), fs_hz), f"mitdb {name}"

    def _millivolts(self, recording: Recording, fs_hz: int) -> Signal:
        counts = counts_from_adc(recording.samples[: (self._seconds + 1) * recording.fs_hz])
        return self._fitted(counts / _COUNTS_PER_MV, recording.fs_hz, fs_hz)

    def _patient(self, fs_hz: int) -> tuple[Signal, Signal, Signal, Signal, str]:
        """Red and infrared light, respiration, ECG, from one patient of bidmc; red is synthetic even there."""
        folder = None if self._mitdb is None else self._mitdb.parent / "bidmc"
        numbers = [] if folder is None else bidmc_numbers(folder)
        if folder is None or not numbers:
            t_s = np.arange(self._seconds * fs_hz) / fs_hz
            pulse = np.sin(2 * np.pi * _PULSES_PER_MIN / 60 * t_s) ** 3
            resp = 3000 * np.sin(2 * np.pi * _BREATHS_PER_MIN / 60 * t_s)
            infrared = _STEADY_LIGHT * (1 - 0.01 * pulse)
            red = 0.7 * _STEADY_LIGHT * (1 - 0.006 * pulse)
            return red, infrared, resp, self._ecg(fs_hz)[0][: len(t_s)], "synthetic"
        record = load_bidmc(folder, numbers[self._person % len(numbers)])
        end = (self._seconds + 1) * BIDMC_HZ
        signals = (
            record.red_counts(0.6),
            record.infrared_counts(),
            record.impedance_counts(),
            record.ecg - np.median(record.ecg),
        )
        red, infrared, resp, ecg_mv = (self._fitted(signal[:end], BIDMC_HZ, fs_hz) for signal in signals)
        return red, infrared, resp, ecg_mv, f"{record.name}, red synthetic"

    def _motion(self, fs_hz: int) -> tuple[NDArray[np.float64], str]:
        """Acceleration in milli-g, rows x, y, z. Rotation is not fed: nothing on the board uses it."""
        folder = None if self._mitdb is None else self._mitdb.parent / "motion"
        if folder is None or not folder.is_dir():
            return np.tile([[0.0], [0.0], [1000.0]], self._seconds * fs_hz), "synthetic"
        records = load_motion(folder, "sw")
        record = records[self._person % len(records)]
        axes = [self._fitted(axis, MOTION_HZ, fs_hz) for axis in record.acceleration]
        return np.array(axes), f"motion {record.name}"
