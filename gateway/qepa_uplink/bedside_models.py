"""What each model at the bedside takes and gives, for those who train, release and run it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

MAX_BLOB = 256 * 1024
CHANGE_MG_DL = 100.0  # units of the outputs of GLUCOSE_30
LOG_ODDS = 8.0
_FORGIVEN = 1.25  # in atrial fibrillation, where four in five intervals are unequal, no beat is early or late


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input of a model: int8 in the file, real numbers in ``unit`` outside of it. ``shape`` begins with 1."""

    name: str
    shape: tuple[int, ...]
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One name of a model. ``inputs`` stand in the order of the file; ``outputs`` name the numbers it answers.

    ``probabilities``: they add up to 1. fs_hz: rate of the samples of the first input, 0 where it has none.
    """

    name: str
    what: str
    fs_hz: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    probabilities: bool = True

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of a file that fits."""
        return tuple(tensor.shape for tensor in self.inputs)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of a file that fits."""
        return (1, len(self.outputs))

    @property
    def numbers(self) -> int:
        """Of all inputs together."""
        return sum(prod(tensor.shape) for tensor in self.inputs)


ECG_BEATS, ECG_QUALITY, ACTIVITY, GLUCOSE_30 = "ecg-beats", "ecg-quality", "activity", "glucose-30"

RHYTHM = (  # intervals count as far as the rhythm is regular: 1 - 1.25 unequal, 0 at least
    "pre_to_local",  # RR before the beat against the mean of the last 8, less 1
    "post_to_local",  # RR after it, likewise
    "earlier_to_local",  # RR before the last one, likewise
    "pre_to_usual",  # RR before it against the median of the last 128, less 1
    "post_to_usual",  # RR after it, likewise
    "early",  # 4 times what the RR before it falls short of 92 % of the usual one, as far as the rhythm is regular
    "early_like",  # the same, as far as the beat is like the usual one
    "irregular",  # 4 times the median change from RR to RR over the last 32, against the mean of all
    "unequal",  # share of the last 32 RR that differ from the one before by over a twelfth of the mean
    "compensation",  # RR before and after together against two usual ones, less 1
    "unlike",  # 1 less the correlation of the first lead with the usual beat
    "height",  # of the QRS against the usual one, less 1
    "second_lead",  # 1 where there is one
)
BEFORE_R = 56  # samples of a beat's window before the R peak
REGIONS = {  # of a beat, samples of its window at 125 Hz: P, start of the QRS, QRS, its end, T, after it
    "p": (20, 44),
    "q": (44, 52),
    "r": (52, 61),
    "s": (61, 70),
    "t": (70, 100),
    "u": (100, 128),
}
SHAPE = (  # of the first lead
    *(f"unlike_{region}" for region in REGIONS),  # root mean square of the beat less the usual one
    *(f"shift_{region}" for region in REGIONS),  # its mean
    "slope",  # of the QRS, summed up
    "breadth",  # share of 290 ms around the R peak above 0.3 heights
    "area",  # of the QRS, a twentieth of it
    "height_squared",
    "late_p",  # unlike_p as far as the beat is premature
    "early_r",  # unlike_r as far as the beat is early in a regular rhythm
    "tall_unlike",  # height times unlike
)
NUMBERS = (*RHYTHM, *SHAPE)

CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for contract in (
        Contract(
            name=ECG_BEATS,
            what="AAMI class of one beat",
            fs_hz=125,
            inputs=(
                # Per lead the beat, and the beat less the patient's usual one; an absent lead is zeros.
                Tensor("leads", (1, 128, 4), "heights of the usual QRS"),
                Tensor("numbers", (1, len(NUMBERS)), "1"),
            ),
            outputs=("N", "S", "V", "F"),
        ),
        Contract(
            name=ECG_QUALITY,
            what="whether beats found in four seconds of one lead can be believed",
            fs_hz=125,
            inputs=(Tensor("lead", (1, 512, 1), "root mean square of the window"),),
            outputs=("usable", "poor"),
        ),
        Contract(
            name=ACTIVITY,
            what="what the wearer does, from two and a half seconds of motion",
            fs_hz=25,
            # Along gravity, across it, tilt, and tilt towards where the window ends: the same however it is worn.
            inputs=(Tensor("motion", (1, 64, 4), "g, and radians"),),
            outputs=("seated", "standing_up", "walking", "turning", "sitting_down"),
        ),
        Contract(
            name=GLUCOSE_30,
            # change: in 100 mg/dL. low: log odds, in eights, of a reading below 70 mg/dL by then.
            what="change of glucose within 30 minutes, and whether it falls low, from readings of two hours",
            fs_hz=0,
            # Less the newest one, whether there is one at all, and the newest one (which stands in the last row).
            inputs=(Tensor("readings", (1, 25, 3), "128 mg/dL, and 256 mg/dL around 200"),),
            outputs=("change", "low"),
            probabilities=False,
        ),
    )
}


def regularity(unequal: float) -> float:
    """What the intervals of a beat are multiplied by, where so large a share of the last 32 is unequal."""
    return 4 * max(0.0, 1 - _FORGIVEN * unequal)
