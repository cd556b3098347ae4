"""What the wearer does, once a second, from the motion that consenting patients' boards stream."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from qepa_uplink.bedside_models import ACTIVITY
from qepa_uplink.readings import ACTIVITY_CLASS
from qepa_wire.measures import NO_DATA, POOR_SIGNAL, SENSOR_FAULT, SETTLING, UNKNOWN
from qepa_wire.payloads import WAVE_ACCEL, Wave

from .ecg import Waves
from .finding import Finding, Reading
from .motion_windows import LENGTH, RATE_HZ, Real, needed, resample, window
from .runtime import InferenceError
from .shelf import ModelShelf

WINDOWS_AT_ONCE: Final = 4  # in one call of work()
LEAST_SURE: Final = 0.5  # a probability below it is no answer


class ActivityReader:
    """Reads the motion of all boards that stream it."""

    def __init__(self, waves: Waves, shelf: ModelShelf, errors: Counter[str]) -> None:
        """``errors`` counts, by name of a model, how often it failed."""
        self._waves = waves
        self._shelf = shelf
        self._errors = errors
        self._wearers: dict[int, _Wearer] = {}
        self._turn: deque[int] = deque()
        waves.on_wave(self._take)

    def work(self) -> None:
        """Look at boards with a second of new samples, in turn."""
        left = WINDOWS_AT_ONCE
        for _ in range(len(self._turn)):
            number = self._turn[0]
            self._turn.rotate(-1)
            wearer = self._wearers[number]
            if wearer.end - wearer.looked_at >= wearer.fs_hz:
                wearer.looked_at = wearer.end
                wearer.reading = self._look(number, wearer)
                left -= 1
            if not left:
                return

    def findings(self, board: int) -> tuple[Finding, ...]:
        """What is done now, and how probable that is."""
        wearer, version = self._wearers.get(board), self._shelf.version(ACTIVITY)
        if wearer is None or not version:
            return ()
        heard = self._waves.window(board, WAVE_ACCEL, 1) is not None
        reading = wearer.reading if heard else _unknown(NO_DATA)
        t_ms = (1000 * wearer.end // wearer.fs_hz) % 2**32
        return (Finding(model=ACTIVITY, version=version, boots=wearer.boots, t_ms=t_ms, readings=(reading,)),)

    def forget(self, board: int) -> None:
        """Nothing of this board stays."""
        if self._wearers.pop(board, None) is not None:
            self._turn.remove(board)

    def _take(self, board: int, wave: Wave) -> None:
        if wave.channel != WAVE_ACCEL:
            return
        wearer = self._wearers.get(board)
        if wearer is None or (wearer.boots, wearer.fs_hz) != (wave.boots, wave.fs_hz):
            if wearer is None:
                self._turn.append(board)
            wearer = self._wearers[board] = _Wearer(wave.boots, wave.fs_hz, wave.first, wave.first)
        wearer.end = wave.first + len(wave.samples) // (2 * wave.axes)

    def _look(self, board: int, wearer: "_Wearer") -> Reading:
        motion = self._motion(board, wearer.fs_hz)
        if isinstance(motion, int):
            return _unknown(motion)
        try:
            answer = self._shelf.get(ACTIVITY)[0].run(motion)[0]
        except InferenceError:
            self._errors[ACTIVITY] += 1
            return _unknown(NO_DATA)
        found = int(answer.argmax())
        if answer[found] < LEAST_SURE:
            return _unknown(POOR_SIGNAL)
        return ACTIVITY_CLASS, min(100, round(100 * float(answer[found]))), found

    def _motion(self, board: int, fs_hz: int) -> Real | int:
        """The newest window, or the reason why there is none."""
        told = self._waves.window(board, WAVE_ACCEL, LENGTH / RATE_HZ + 1)
        samples = None if told is None else told[0][-needed(fs_hz) :]
        if samples is None or len(samples) < needed(fs_hz):
            return SETTLING
        if not np.isfinite(samples).all():
            return NO_DATA
        if fs_hz < RATE_HZ:
            return POOR_SIGNAL  # no board samples so slowly
        motion = window(resample(samples, fs_hz)[-LENGTH:])
        return SENSOR_FAULT if motion is None else motion


@dataclass(slots=True)
class _Wearer:
    """One board's motion of one boot; the answer to its newest window."""

    boots: int
    fs_hz: int
    end: int
    looked_at: int
    reading: Reading = (ACTIVITY_CLASS, SETTLING, UNKNOWN)


def _unknown(reason: int) -> Reading:
    return ACTIVITY_CLASS, reason, UNKNOWN
