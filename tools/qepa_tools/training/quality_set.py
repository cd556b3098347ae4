"""Seconds of ECG with noise of known size, for the model that says whether beats found in them can be believed.

Noise of the MIT-BIH Noise Stress Test Database is added to a person's ECG as its program `nst` does (Moody et al.
1984), a new kind and level every _STRETCH_S. What counts is what the board's filters leave of it: baseline wander
mostly goes, so a window is judged by the ratio of the QRS to the noise that is left in the cleaned signal.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from qepa_board.signals.beats import BEATS
from qepa_board.signals.quality import GOOD
from qepa_gateway.inference.windows import QUALITY_LENGTH, RATE_HZ, quality_window
from qepa_tools.evaluation.cohort import Case
from qepa_tools.recordings.board_beats import MITDB_MAINS_HZ, match_beats
from qepa_tools.recordings.compiled_board import compiled_pipeline
from qepa_tools.recordings.noise_stress import front_end, is_noisy
from qepa_tools.recordings.recording import (
    ADC_MID,
    ADC_UNITS_PER_MV,
    DataError,
    adc_from_millivolt,
    counts_from_adc,
)

from .cleaned_leads import cleaned

LEVELS_DB = (24.0, 18.0, 12.0, 6.0, 0.0, -6.0)  # and none at all
USABLE_DB, POOR_DB = 12.0, 6.0  # of what is left; in between a window is of neither class
USABLE, POOR, BETWEEN = 0, 1, -1
ELECTRODE_MOTION = "em"

_FS_HZ = 360
_STRETCH_S = 12
_SETTLES_S = 3  # after a change of noise
_STEP_S = 4
_BLOCK = 180
_QRS_MS = 50


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of one kind in millivolts at 360 Hz."""

    name: str
    signal_mv: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySet:
    """Windows of one record. windows [n, 512, 1]: inputs of the model.

    left_db: QRS to noise left by the filters, inf or nearly so without noise. board_good: the board's own verdict
    throughout the window. errors, beats: beats of it that were missed or made up, and all that are annotated.
    """

    person: str
    windows: NDArray[np.float16]
    left_db: NDArray[np.float32]
    board_good: NDArray[np.bool_]
    errors: NDArray[np.int64]
    beats: NDArray[np.int64]

    @property
    def classes(self) -> NDArray[np.int64]:
        """USABLE, POOR or BETWEEN."""
        return np.where(self.left_db >= USABLE_DB, USABLE, np.where(self.left_db < POOR_DB, POOR, BETWEEN))


def load_noises(directory: Path, *, first_half: bool) -> list[Noise]:
    """Baseline wander and muscle noise, both channels, one half of each; DataError where they are missing."""
    noises = []
    for name in ("bw", "ma"):
        try:
            record = wfdb.rdrecord(str(directory / name))
        except Exception as error:  # wfdb raises whatever its parsing runs into
            raise DataError(f"{directory} lacks the noise record {name}.") from error
        half = len(record.p_signal) // 2
        part = slice(0, half) if first_half else slice(half, None)
        noises += [Noise(name, np.asarray(column[part], np.float64)) for column in record.p_signal.T]
    return noises


def electrode_motion(directory: Path, mitdb: Path, *, first_half: bool) -> Noise:
    """Half of the electrode motion that the Noise Stress records hold added to 118: what is not in 118 itself."""
    try:
        noisy = wfdb.rdrecord(str(directory / "118e00"), channels=[0]).p_signal[:, 0]
        plain = wfdb.rdrecord(str(mitdb / "118"), channels=[0]).p_signal[:, 0]
    except Exception as error:
        raise DataError(f"Electrode motion needs 118e00 in {directory} and 118 in {mitdb}.") from error
    n = min(len(noisy), len(plain))
    chosen = np.array([is_noisy(k, _FS_HZ) for k in range(n)])
    motion = np.asarray((noisy[:n] - plain[:n])[chosen], np.float64)
    half = len(motion) // 2
    return Noise(ELECTRODE_MOTION, motion[:half] if first_half else motion[half:])


def made_noise(seed: int, pieces: int = 60) -> Noise:
    """Noise that nobody recorded: bursts of a random band between 0.5 and 25 Hz, and steps that die away."""
    rng = np.random.default_rng(seed)
    size = _STRETCH_S * _FS_HZ
    parts = []
    for _ in range(pieces):
        low = float(rng.uniform(0.5, 8))
        high = float(rng.uniform(low + 2, 25))
        spectrum = np.fft.rfft(rng.standard_normal(size))
        frequency = np.fft.rfftfreq(size, 1 / _FS_HZ)
        burst = np.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)), size)
        loudness = np.interp(np.arange(size), np.linspace(0, size, 16), rng.gamma(0.7, 1, 16))
        steps = np.zeros(size)
        for at in rng.integers(0, size, 8):
            decay = np.exp(-np.arange(size - at) / _FS_HZ / rng.uniform(0.05, 0.6))
            steps[at:] += rng.standard_normal() * decay
        parts.append(loudness * burst / burst.std() + rng.uniform(0, 2) * steps)
    return Noise("made", np.concatenate(parts))


def quality_set(case: Case, noises: Sequence[Noise], seed: int) -> QualitySet:
    """Windows of a case with these noises; DataError if it was not recorded at 360 Hz, as the noise was."""
    recording = case.recording
    if recording.fs_hz != _FS_HZ:
        raise DataError(f"Record {recording.id} has {recording.fs_hz} samples a second; the noise has {_FS_HZ}.")
    plain_mv = (recording.samples.astype(np.float64) - ADC_MID) / ADC_UNITS_PER_MV
    rng = np.random.default_rng([seed, int.from_bytes(recording.id.encode(), "little") % 2**32])
    added = _schedule(plain_mv, case, noises, rng)
    mixed = adc_from_millivolt(front_end(plain_mv + added, _FS_HZ))
    without = cleaned(adc_from_millivolt(front_end(plain_mv, _FS_HZ)), _FS_HZ)
    signal = cleaned(mixed, _FS_HZ)
    peaks, good = _board(mixed)
    annotated = [label.sample for label in recording.labels if not recording.is_excluded(label.sample)]
    partner, missed = match_beats(peaks, annotated, _FS_HZ)
    wrong = np.zeros(len(signal), np.int64)
    np.add.at(wrong, [peak for peak, j in zip(peaks, partner, strict=True) if j is None], 1)
    np.add.at(wrong, [annotated[j] for j in missed], 1)
    there = np.zeros(len(signal), np.int64)
    np.add.at(there, annotated, 1)
    power = _qrs_power(without, annotated)
    rows = [
        (window, _decibel(power, signal[part] - without[part]), good[part].all(), wrong[part].sum(), there[part].sum())
        for part in _windows(len(signal))
        if not any(recording.is_excluded(sample) for sample in (part.start, part.stop - 1))
        and (window := quality_window(signal[part], _FS_HZ)) is not None
    ]
    columns = list(zip(*rows, strict=True))
    return QualitySet(
        person=case.person,
        windows=np.concatenate(columns[0]).astype(np.float16),
        left_db=np.array(columns[1], np.float32),
        board_good=np.array(columns[2], np.bool_),
        errors=np.array(columns[3], np.int64),
        beats=np.array(columns[4], np.int64),
    )


def _schedule(
    plain_mv: NDArray[np.float64], case: Case, noises: Sequence[Noise], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Noise for a whole record: every stretch another piece, a third of them without."""
    power = _qrs_power(plain_mv, [int(sample) for sample in case.beats.samples])
    added = np.zeros(len(plain_mv))
    size = _STRETCH_S * _FS_HZ
    for start in range(0, len(plain_mv), size):
        noise = noises[int(rng.integers(len(noises)))].signal_mv
        level = LEVELS_DB[int(rng.integers(len(LEVELS_DB)))]
        at = int(rng.integers(len(noise) - size))
        if rng.random() < 1 / 3:
            continue
        piece = noise[at : at + size] - noise[at : at + size].mean()
        gain = np.sqrt(power / max(float((piece**2).mean()), 1e-12) / 10 ** (level / 10))
        added[start : start + size] = (gain * piece)[: len(plain_mv) - start]
    return added


def _board(samples: NDArray[np.uint16]) -> tuple[list[int], NDArray[np.bool_]]:
    """R peaks that the board finds, and at each sample whether it calls the second before good."""
    pipeline = compiled_pipeline(_FS_HZ, MITDB_MAINS_HZ)
    counts = array("h", counts_from_adc(samples).tobytes())
    good = np.zeros(len(counts), np.bool_)
    peaks: list[int] = []
    seen = 0
    for start in range(0, len(counts), _BLOCK):
        block = counts[start : start + _BLOCK]
        pipeline.push(block, len(block))
        good[start : start + len(block)] = pipeline.quality() == GOOD
        peaks += [pipeline.beats[k % BEATS].sample_index for k in range(seen, pipeline.n_beats)]
        seen = pipeline.n_beats
    return peaks, good


def _windows(n: int) -> Iterator[slice]:
    """Windows within stretches, past the filter's settling."""
    size = -(-QUALITY_LENGTH * _FS_HZ // RATE_HZ)
    for start in range(0, n, _STRETCH_S * _FS_HZ):
        for at in range(start + _SETTLES_S * _FS_HZ, start + _STRETCH_S * _FS_HZ - size, _STEP_S * _FS_HZ):
            if at + size <= n:
                yield slice(at, at + size)


def _qrs_power(signal: NDArray[np.floating], peaks: Sequence[int]) -> float:
    """Power of the QRS as `nst` takes it: an eighth of the square of its usual height."""
    reach = _QRS_MS * _FS_HZ // 1000
    spans = [float(np.ptp(signal[max(0, p - reach) : p + reach + 1])) for p in peaks[::5] if p > reach]
    return float(np.median(spans)) ** 2 / 8 if spans else 1.0


def _decibel(power: float, noise: NDArray[np.float32]) -> float:
    left = float((noise.astype(np.float64) ** 2).mean())
    return 10 * np.log10(power / left) if left else np.inf
