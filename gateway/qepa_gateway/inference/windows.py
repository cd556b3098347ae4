"""What the ECG models see, made alike for training and for use: windows at 125 Hz, and the rhythm around a beat.

Samples are the board's cleaned ECG (0.45 to 30 Hz), so that linear interpolation to 125 Hz folds nothing back. Units do
not matter: a beat is measured in heights of the patient's usual QRS, a window of quality in its own root mean square.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.bedside_models import BEFORE_R, CONTRACTS, ECG_BEATS, ECG_QUALITY, REGIONS, RHYTHM, SHAPE, regularity

Samples = NDArray[np.float32]

RATE_HZ = CONTRACTS[ECG_BEATS].fs_hz
LENGTH = CONTRACTS[ECG_BEATS].inputs[0].shape[1]
LEADS = CONTRACTS[ECG_BEATS].inputs[0].shape[2] // 2
QUALITY_LENGTH = CONTRACTS[ECG_QUALITY].inputs[0].shape[1]

_QRS = slice(BEFORE_R - 8, BEFORE_R + 9)  # +-64 ms
_USUAL = 64  # beats that say which one is usual
_USUAL_RR = 128  # a fast run may last for minutes
_KNOWN = 16  # beats after which what is usual is no longer one or two of them
_LOCAL = 8
_IRREGULAR = 32
_TEMPLATE_EVERY = 8  # beats between two looks at what is usual, once enough of them are there
_LONGEST_S = 3.0
_LIMIT = 4.0
_UNEQUAL = 1 / 12  # RR intervals that differ by more than this share of the mean
_QUALITY_LIMIT = 8.0


def reach(fs_hz: int) -> tuple[int, int]:
    """How many samples before and after an R peak :meth:`BeatWindows.read` needs."""
    return -(-BEFORE_R * fs_hz // RATE_HZ) + 1, -(-(LENGTH - BEFORE_R) * fs_hz // RATE_HZ) + 1


class BeatWindows:
    """What one patient's beats are to be measured against. Give it the beats in order; it learns without labels."""

    def __init__(self, fs_hz: int) -> None:
        self._fs_hz = fs_hz
        self._intervals: deque[float] = deque(maxlen=_USUAL_RR)
        self._windows: deque[Samples] = deque(maxlen=_USUAL)
        self._heights: deque[Samples] = deque(maxlen=_USUAL)
        self._usual = np.zeros((LENGTH, LEADS), np.float32)
        self._height = np.zeros(LEADS, np.float32)
        self._seen = 0

    def read(
        self, samples: Samples, first: int, peak: int, before: int | None, after: int | None
    ) -> tuple[Samples, Samples] | None:
        """Return inputs "leads" and "numbers" of the beat at sample number ``peak``; None where its signal has gaps.

        samples: one column for each lead, at most LEADS, the first of them that in which the board finds beats; the
        row of sample number ``first`` is the first. before, after: sample numbers of the R peaks next to it, None
        where they are not known or samples between were lost.
        """
        pre = self._seconds(before, peak)
        rhythm = self._rhythm(pre, self._seconds(peak, after))
        if pre:
            self._intervals.append(pre)
        window = self._window(samples, first, peak)
        if window is None:
            return None
        spans = window[_QRS].max(axis=0) - window[_QRS].min(axis=0)
        if not spans[0]:
            return None
        self._learn(window, spans)
        present = self._height > 0
        scale = np.where(present, self._height, 1)
        leads = np.zeros((1, LENGTH, 2 * LEADS), np.float32)
        leads[0, :, 0::2] = np.where(present, window / scale, 0)
        leads[0, :, 1::2] = np.where(present, (window - self._usual) / scale, 0)
        unlike = 1 - _correlation(window[:, 0], self._usual[:, 0])
        rhythm[RHYTHM.index("early_like")] = rhythm[RHYTHM.index("early")] * max(0.0, 1 - 2 * unlike)
        rhythm[RHYTHM.index("unlike")] = unlike
        rhythm[RHYTHM.index("height")] = spans[0] / self._height[0] - 1
        rhythm[RHYTHM.index("second_lead")] = float(present[1])
        leads = np.clip(leads, -_LIMIT, _LIMIT)
        numbers = np.concatenate([rhythm, _shape(leads[0, :, 0], leads[0, :, 1], rhythm)])
        return leads, np.clip(numbers, -_LIMIT, _LIMIT)[None]

    @property
    def is_settled(self) -> bool:
        """Whether enough beats were read to say what is usual."""
        return self._seen >= _KNOWN

    def usual(self) -> tuple[Samples, Samples]:
        """Return the inputs that the patient's usual beat in a regular rhythm gives, as of the beat last read.

        As :meth:`read` returns them: it is like itself, on time, and has the leads that beat has. Zeros before any.
        """
        present = self._height > 0
        leads = np.zeros((1, LENGTH, 2 * LEADS), np.float32)
        leads[0, :, 0::2] = np.where(present, self._usual / np.where(present, self._height, 1), 0)
        leads = np.clip(leads, -_LIMIT, _LIMIT)
        rhythm = np.zeros(len(RHYTHM), np.float32)
        rhythm[RHYTHM.index("second_lead")] = float(present[1])
        numbers = np.concatenate([rhythm, _shape(leads[0, :, 0], leads[0, :, 1], rhythm)])
        return leads, np.clip(numbers, -_LIMIT, _LIMIT)[None]

    def _seconds(self, a: int | None, b: int | None) -> float:
        if a is None or b is None:
            return 0.0
        interval = (b - a) / self._fs_hz
        return interval if 0 < interval <= _LONGEST_S else 0.0

    def _window(self, samples: Samples, first: int, peak: int) -> Samples | None:
        left, right = reach(self._fs_hz)
        start = peak - left - first
        part = samples[max(0, start) : peak + right + 1 - first]
        if start < 0 or len(part) < left + right + 1:
            return None
        places = left + (np.arange(LENGTH) - BEFORE_R) * (self._fs_hz / RATE_HZ)
        window = np.zeros((LENGTH, LEADS), np.float32)
        whole = np.array([bool(np.isfinite(column).all()) for column in part.T])
        if not whole[0]:
            return None
        for lead in np.flatnonzero(whole[:LEADS]):
            window[:, lead] = np.interp(places, np.arange(len(part)), part[:, lead])
        return window - np.asarray(np.median(window, axis=0), np.float32)

    def _learn(self, window: Samples, spans: Samples) -> None:
        self._windows.append(window)
        self._heights.append(spans)
        if self._seen < 2 * _TEMPLATE_EVERY or not self._seen % _TEMPLATE_EVERY:
            self._usual = np.asarray(np.median(self._windows, axis=0), np.float32)
            self._height = np.asarray(np.median(self._heights, axis=0), np.float32)
        self._seen += 1

    def _rhythm(self, pre: float, post: float) -> Samples:
        rhythm = np.zeros(len(RHYTHM), np.float32)
        past = np.array(self._intervals)
        if len(past) < 2:
            return rhythm
        local, usual = past[-_LOCAL:].mean(), np.median(past)
        changes = np.abs(np.diff(past))[-_IRREGULAR:] / past.mean()
        unequal = (changes > _UNEQUAL).mean()
        weight = regularity(float(unequal))
        relative: dict[str, float] = {
            "pre_to_local": weight * (pre / local - 1) if pre else 0,
            "post_to_local": weight * (post / local - 1) if post else 0,
            "earlier_to_local": weight * (past[-1] / local - 1),
            "pre_to_usual": weight * (pre / usual - 1) if pre else 0,
            "post_to_usual": weight * (post / usual - 1) if post else 0,
            "early": max(0, 1 - 2 * unequal) * 4 * max(0, 0.92 - pre / usual) if pre else 0,
            "irregular": 4 * np.median(changes),
            "unequal": unequal,
            "compensation": weight * ((pre + post) / (2 * usual) - 1) if pre and post else 0,
        }
        for name, value in relative.items():
            rhythm[RHYTHM.index(name)] = value
        return rhythm


def _shape(beat: Samples, unlike: Samples, rhythm: Samples) -> Samples:
    """The numbers of SHAPE, from the first lead of a beat, and what it is more than the usual one."""
    number = dict(zip(RHYTHM, rhythm.tolist(), strict=True))
    parts = {region: unlike[start:end] for region, (start, end) in REGIONS.items()}
    shape: dict[str, float] = {f"unlike_{region}": np.sqrt((part**2).mean()) for region, part in parts.items()}
    shape |= {f"shift_{region}": part.mean() for region, part in parts.items()}
    shape["slope"] = np.abs(np.diff(beat[40:77])).sum()
    shape["breadth"] = (np.abs(beat[40:76]) > 0.3).mean()
    shape["area"] = np.abs(beat[44:70]).sum() / 20
    shape["height_squared"] = number["height"] ** 2
    shape["late_p"] = max(0.0, -number["pre_to_usual"]) * shape["unlike_p"]
    shape["early_r"] = number["early"] * shape["unlike_r"]
    shape["tall_unlike"] = number["height"] * number["unlike"]
    return np.array([shape[name] for name in SHAPE], np.float32)


def quality_window(lead: Samples, fs_hz: int) -> Samples | None:
    """Return the input "lead" from the last 4.1 s of one lead, (n,); None where there is less, a gap, or no signal."""
    needed = -(-QUALITY_LENGTH * fs_hz // RATE_HZ)
    part = lead[-needed:]
    if len(part) < needed or not np.isfinite(part).all():
        return None
    window = np.interp(np.arange(QUALITY_LENGTH) * (fs_hz / RATE_HZ), np.arange(needed), part)
    window -= window.mean()
    rms = float(np.sqrt((window**2).mean()))
    if rms < 1.0:  # filter unit: an eight-hundredth of a millivolt
        return None
    scaled: Samples = np.clip(window / rms, -_QUALITY_LIMIT, _QUALITY_LIMIT).astype(np.float32)
    return scaled.reshape(1, -1, 1)


def _correlation(a: Samples, b: Samples) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0
