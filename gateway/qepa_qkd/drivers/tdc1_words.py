"""The binary time tags of an S-Fifteen TDC1: bytes in, time tags out.

A record is 32 bits, little-endian: bits 31-5 time in steps of 2 ns, bit 4 set on a dummy record without an event, bits
3-0 which of the inputs 4 to 1 were seen. The time wraps every 2^27 steps (268 ms); the device sends a dummy record when
nothing happens, so that no wrap goes unseen. Source: the vendor's "TDC1 Documentation" and its reader pyS15
(S15lib/instruments/usb_counter_fpga.py). No real TDC1 has been on this code yet.

The stream has no framing and no counters: lost bytes shift all records after them, and 268 ms lost without a trace
would shift time. Both are caught by comparing the tags' clock with the host's.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.drivers.errors import TagStreamError

STEP_PS: Final = 2000
WRAP_STEPS: Final = 1 << 27
INPUTS: Final = 4

MOST_AHEAD_S: Final = 0.01
"""More time cannot pass in the tags than on the host since the stream was asked for: garbage does at once."""
MOST_BEHIND_S: Final = 0.2
"""Tags that stay this far behind, with nothing left to read, have lost a wrap (0.268 s)."""
BEHIND_FOR_S: Final = 0.5
"""How long they have to; a busy machine catches up sooner."""
MOST_SILENCE_S: Final = 1.0
"""Dummy records come every 0.134 s at least."""
_CLOCK_ACCURACY: Final = 1e-4
"""The device's clock is good to 50 ppm, the host's about as much."""

_DUMMY: Final = 0x10
_PATTERN: Final = 0x0F


@dataclass(frozen=True, slots=True)
class RawTags:
    """Times in steps of 2 ns since the stream began, not decreasing, and the input (0 to 3) of each."""

    end_step: int
    """Everything before has been told."""
    steps: npt.NDArray[np.int64]
    inputs: npt.NDArray[np.uint8]


class RecordDecoder:
    """One stream, asked for at `began_s` of the host's monotonic clock; `now_s` is that clock when bytes were read."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._rest = b""
        self._first = 0
        self._last: int | None = None
        self._wraps = 0
        self._end = 0
        self._least_delay_s = math.inf
        self._on_time_s = self._heard_s = began_s

    def feed(self, data: bytes, now_s: float, *, drained: bool = True) -> RawTags:
        """Return the tags that `data` completes; `drained` says that there was nothing more to read.

        Raises TagStreamError once times do not fit the host's clock; the decoder is then of no more use.
        """
        data = self._rest + data
        whole = len(data) & ~3
        self._rest = data[whole:]
        records = np.frombuffer(data[:whole], "<u4")
        if not len(records):
            return RawTags(self._end, np.empty(0, np.int64), np.empty(0, np.uint8))
        self._heard_s = now_s
        steps = self._unwrap((records >> 5).astype(np.int64))
        self._end = int(steps[-1])
        self._check(now_s, drained=drained)
        return RawTags(self._end, *_events(steps, (records & (_DUMMY | _PATTERN)).astype(np.uint8)))

    def check_silence(self, now_s: float) -> None:
        """Raise TagStreamError when nothing has come for so long that the stream must have ended."""
        if now_s - self._heard_s > MOST_SILENCE_S:
            raise TagStreamError(f"the TDC1 has sent nothing for {now_s - self._heard_s:.1f} s")

    def _unwrap(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self._last is None:
            self._first = self._last = int(times[0])
        wraps = self._wraps + np.cumsum(np.diff(times, prepend=self._last) < 0)
        self._last, self._wraps = int(times[-1]), int(wraps[-1])
        unwrapped: npt.NDArray[np.int64] = times + wraps * WRAP_STEPS
        return unwrapped

    def _check(self, now_s: float, *, drained: bool) -> None:
        tags_s = (self._end - self._first) * STEP_PS * 1e-12
        delay_s = now_s - self._began_s - tags_s
        drift_s = _CLOCK_ACCURACY * (now_s - self._began_s)
        if delay_s < -MOST_AHEAD_S - drift_s:
            raise TagStreamError("the TDC1's time tags run ahead of time: bytes were lost on the way")
        self._least_delay_s = min(self._least_delay_s, delay_s)
        if not drained or delay_s - self._least_delay_s < MOST_BEHIND_S + drift_s:
            self._on_time_s = now_s
        elif now_s - self._on_time_s > BEHIND_FOR_S:
            raise TagStreamError("the TDC1's time tags stay behind: a part of the stream is missing")


def _events(
    steps: npt.NDArray[np.int64], flags: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """One event for each input set in a record that is no dummy, in order of time, then input."""
    seen = ((flags[:, None] >> np.arange(INPUTS, dtype=np.uint8)) & 1).astype(np.bool_) & ((flags & _DUMMY) == 0)[
        :, None
    ]
    rows, inputs = np.nonzero(seen)
    return steps[rows], inputs.astype(np.uint8)
