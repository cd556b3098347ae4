"""Synthetic ECG, of no person: the dynamical model ECGSYN.

McSharry, Clifford, Tarassenko and Smith, "A dynamical model for generating synthetic electrocardiogram signals",
IEEE Trans Biomed Eng 50(3):289-294, 2003. Every beat is normal (class N): it shows that the chain runs and says
nothing about arrhythmia.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings.recording import BeatLabel, Recording, adc_from_millivolt

# Table I of the paper: P, Q, R, S, T.
_ANGLES = np.radians([-70.0, -15.0, 0.0, 15.0, 100.0])
_HEIGHTS = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
_WIDTHS = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
_R_MV = 1.2
_RESPIRATION_HZ = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What varies between synthetic persons."""

    hr_bpm: float
    hr_sd_bpm: float
    r_mv: float
    heights: tuple[float, ...]
    noise_mv: float


def draw_person(rng: np.random.Generator) -> Person:
    """A plausible resting adult; the ranges are a choice of this project."""
    return Person(
        hr_bpm=float(rng.uniform(55, 95)),
        hr_sd_bpm=float(rng.uniform(1, 4)),
        r_mv=_R_MV * float(rng.uniform(0.6, 1.4)),
        heights=tuple(_HEIGHTS * rng.uniform(0.8, 1.2, len(_HEIGHTS))),
        noise_mv=float(rng.uniform(0.005, 0.02)),
    )


def rr_intervals_s(person: Person, duration_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """RR intervals whose spectrum has the two Gaussians of Mayer and respiratory waves (equations 5 and 6)."""
    n = 1 << math.ceil(math.log2(2 * duration_s * 2 + 64))
    frequency_hz = np.fft.rfftfreq(n, d=1.0)
    power = sum(
        share / math.sqrt(2 * math.pi * 0.01**2) * np.exp(-((frequency_hz - centre) ** 2) / (2 * 0.01**2))
        for share, centre in ((0.5, 0.1), (1.0, 0.25))
    )
    spectrum = np.sqrt(power) * np.exp(2j * np.pi * rng.random(len(frequency_hz)))
    tachogram = np.fft.irfft(spectrum, n)
    mean_s = 60.0 / person.hr_bpm
    tachogram *= mean_s * person.hr_sd_bpm / person.hr_bpm / tachogram.std()
    intervals: list[float] = []
    t_s = 0.0
    while t_s < duration_s + 2:
        interval_s = float(np.clip(mean_s + np.interp(t_s % (n - 1), np.arange(n), tachogram), 0.3, 2.0))
        intervals.append(interval_s)
        t_s += interval_s
    return np.array(intervals)


def synthetic_recording(seed: int, number: int, duration_s: float, fs_hz: int = 360) -> Recording:
    """Recording number `number` of a synthetic cohort; equal arguments give equal samples."""
    rng = np.random.default_rng([seed, number])
    person = draw_person(rng)
    intervals_s = rr_intervals_s(person, duration_s, rng)
    beats_s = np.cumsum(np.concatenate(([-float(rng.uniform(0, intervals_s[0]))], intervals_s)))
    t_s = np.arange(round(duration_s * fs_hz)) / fs_hz
    z = _trajectory(person, t_s, beats_s, fs_hz)
    signal_mv = (z - np.median(z)) * person.r_mv / (z.max() - np.median(z))
    signal_mv += rng.normal(0, person.noise_mv, len(t_s))
    samples_at = np.rint(beats_s * fs_hz).astype(int)
    labels = tuple(BeatLabel(int(sample), 0) for sample in samples_at if 0 <= sample < len(t_s))
    name = f"synthetic-{number:02d}"
    return Recording(
        id=name, person=name, fs_hz=fs_hz, samples=adc_from_millivolt(signal_mv), labels=labels, synthetic=True
    )


def synthetic_cohort(seed: int, persons: int, duration_s: float = 300.0, fs_hz: int = 360) -> list[Recording]:
    """`persons` recordings of as many synthetic persons."""
    return [synthetic_recording(seed, number, duration_s, fs_hz) for number in range(persons)]


def _trajectory(
    person: Person, t_s: NDArray[np.float64], beats_s: NDArray[np.float64], fs_hz: int
) -> NDArray[np.float64]:
    """z of equation 1 on its limit cycle, where the angle theta simply advances by 2 pi a beat, R at theta = 0.

    z obeys dz/dt = -sum a_i d_i exp(-d_i^2 / 2 b_i^2) - (z - z0), d_i = theta - theta_i mod 2 pi: linear in z, so
    each step is integrated exactly for a drive held over the sample. z0 follows respiration (equation 2).
    """
    theta = 2 * np.pi * np.interp(t_s, beats_s, np.arange(len(beats_s)))
    stretch = math.sqrt(person.hr_bpm / 60.0)  # widths and angles at another heart rate, as in section III
    scale = np.array([math.sqrt(stretch), stretch, 1.0, stretch, math.sqrt(stretch)])
    drive = 0.005 * np.sin(2 * np.pi * _RESPIRATION_HZ * t_s)
    for angle, height, width in zip(_ANGLES * scale, person.heights, _WIDTHS * stretch, strict=True):
        d = np.mod(theta - angle + np.pi, 2 * np.pi) - np.pi
        drive = drive - height * d * np.exp(-(d**2) / (2 * width**2))
    decay = math.exp(-1.0 / fs_hz)
    z = 0.0
    out = np.empty(len(t_s))
    for k, u in enumerate(drive.tolist()):
        z = z * decay + u * (1.0 - decay)
        out[k] = z
    return out
