"""A recording as a virtual board's ADC sees it, and the labels a clinician would give its beats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_tools.errors import ToolError

ADC_UNITS_PER_MV = 6400  # read_u16() steps: 400 steps of the 12-bit converter, left-justified by 4 bits
ADC_MID = 32768
AAMI_CLASSES = ("N", "S", "V", "F")  # index = class number, as in qepa_board.learning.learn

# ANSI/AAMI EC57 beat classes by PhysioNet annotation symbol. Q (paced, fusion of paced and normal, unclassifiable)
# is a beat that the detector must find but no class of the model; everything not listed here is no beat.
CLASS_BY_SYMBOL = {
    **dict.fromkeys("NLRej", 0),
    **dict.fromkeys("AaJS", 1),
    **dict.fromkeys("VE", 2),
    "F": 3,
}
UNCLASSIFIED_SYMBOLS = frozenset("/fQ?nrB")
UNCLASSIFIED = -1


class DataError(ToolError):
    """A recording, or the place where it should be, is missing or unreadable."""


@dataclass(frozen=True, slots=True)
class BeatLabel:
    """An annotated beat: sample number of its mark and AAMI class number, UNCLASSIFIED for AAMI's Q."""

    sample: int
    aami: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One lead of one person.

    samples: uint16 as `ADC.read_u16()` returns them, a 12-bit converter's value left-justified, mid-rail 32768,
    ADC_UNITS_PER_MV to a millivolt at the electrode. labels: in order of time. excluded: [start, end) samples of
    ventricular flutter or fibrillation, in which EC57 counts no beats. synthetic: from a model, of no person.
    """

    id: str
    person: str
    fs_hz: int
    samples: NDArray[np.uint16]
    labels: tuple[BeatLabel, ...]
    excluded: tuple[tuple[int, int], ...] = ()
    paced: bool = False
    synthetic: bool = False

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.fs_hz

    def is_excluded(self, sample: int) -> bool:
        """Whether the sample lies in an excluded stretch."""
        return any(start <= sample < end for start, end in self.excluded)


def adc_from_millivolt(signal_mv: NDArray[np.float64]) -> NDArray[np.uint16]:
    """What a 12-bit ADC behind an AC-coupled front end makes of a signal; NaN becomes mid-rail.

    The front end's high-pass takes the electrode offset away: here the median of the whole recording.
    """
    finite = np.isfinite(signal_mv)
    offset_mv = float(np.median(signal_mv[finite])) if finite.any() else 0.0
    steps = np.rint(np.where(finite, signal_mv - offset_mv, 0.0) * (ADC_UNITS_PER_MV / 16))
    return ((np.clip(steps, -2048, 2047).astype(np.int32) + 2048) << 4).astype(np.uint16)


def counts_from_adc(samples: NDArray[np.uint16]) -> NDArray[np.int16]:
    """The signed counts that the board's driver makes of them: `(read_u16() >> 4) - 2048`."""
    return ((samples >> 4).astype(np.int16) - 2048).astype(np.int16)
