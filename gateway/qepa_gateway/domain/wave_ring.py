"""The newest seconds of one waveform, by number of sample: what did not come is NaN, never made up."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from qepa_wire.payloads import Wave

_NUMBERS: Final = 1 << 32  # sample numbers on the wire


class WaveRing:
    """``seconds`` of the channel that ``wave`` is of, still empty."""

    def __init__(self, wave: Wave, *, seconds: int) -> None:
        self._kind = _kind(wave)
        self._fs_hz: int = wave.fs_hz
        self._samples = np.full((seconds * wave.fs_hz, wave.axes), np.nan, np.float32)
        self._first: int = wave.first
        self._end: int = wave.first
        self.peaks: tuple[int, ...] = ()

    def is_past(self, wave: Wave) -> bool:
        """Whether ``wave`` is of this channel and not all of it is newer than what is here."""
        return _kind(wave) == self._kind and (wave.first - self._end) % _NUMBERS >= _NUMBERS // 2

    def fits(self, wave: Wave) -> bool:
        """Whether ``wave`` goes on with this one; numbers that began anew after 2^32 do not."""
        return _kind(wave) == self._kind and wave.first >= self._end

    def push(self, wave: Wave) -> None:
        """Take a record that fits."""
        new = np.frombuffer(wave.samples, "<i2").reshape(-1, wave.axes)
        size = len(self._samples)
        missing = min(wave.first - self._end, size)
        self._samples[np.arange(wave.first - missing, wave.first) % size] = np.nan
        self._samples[np.arange(wave.first, wave.first + len(new)) % size] = new
        self._end = wave.first + len(new)
        self._first = max(self._first, self._end - size)
        oldest = self._end - size
        self.peaks = tuple(peak for peak in (*self.peaks, *wave.peaks) if peak >= oldest)

    def window(self, seconds: float) -> tuple[NDArray[np.float32], int, int]:
        """The newest ``seconds``, or as much as there is: (a copy [n, axes], fs_hz, number of the first moment)."""
        first = max(self._first, self._end - max(1, round(seconds * self._fs_hz)))
        return self._samples[np.arange(first, self._end) % len(self._samples)], self._fs_hz, first


def _kind(wave: Wave) -> tuple[int, int, int, int]:
    return wave.channel, wave.axes, wave.fs_hz, wave.boots
