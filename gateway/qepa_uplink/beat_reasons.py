"""Reasons for what the gateway's model says of a beat: the parts of an ECG that count, and what a clinician calls them.

Players of a game (Shapley, 1953): each is a stretch of the waveform or an interval, with the model's numbers about it.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

from .bedside_models import CONTRACTS, ECG_BEATS, NUMBERS, REGIONS, regularity

EDGES_MS = {"P": (-240, -80), "QRS": (-80, 120), "T": (120, 400)}
RHYTHM_PLAYERS = ("RR before", "RR after", "rhythm")
PLAYERS = ("P", "QRS", "T", "baseline", *RHYTHM_PLAYERS)
NUMBERS_OF = {  # which of the numbers beside the leads come and go with a player
    "P": ("unlike_p", "shift_p"),
    "QRS": (
        *("unlike", "height", "height_squared", "tall_unlike", "slope", "breadth", "area"),
        *(f"{what}_{region}" for what in ("unlike", "shift") for region in "qrs"),
    ),
    "T": ("unlike_t", "shift_t"),
    "baseline": ("unlike_u", "shift_u"),
    "RR before": ("pre_to_local", "pre_to_usual", "early", "early_like", "late_p", "early_r"),
    "RR after": ("post_to_local", "post_to_usual", "compensation"),
    "rhythm": ("earlier_to_local", "irregular", "unequal"),
}

_ANSWERS = CONTRACTS[ECG_BEATS].outputs
_ONE = 1000  # an ExplainedBeat is in thousandths
_LEAST = 10  # of them: a percentage point
_MOST = 3  # reasons that are said
_LIKE = 0.05  # of the usual QRS's height: less than that away is as usual
_TALL = 0.1
_IN_TIME = 0.05
_WEIGHED = 0.8  # of 4: where intervals count for less, early and late mean next to nothing
_REGULAR = 0.15  # share of unequal intervals
_BREADTH_S = 36 / CONTRACTS[ECG_BEATS].fs_hz  # what "breadth" is a share of


def phrases(numbers: Mapping[str, float]) -> dict[str, str]:
    """A phrase for each player. numbers: of NUMBERS, by name."""
    return {
        "P": f"where the P wave is, {_away(numbers['unlike_p'])}",
        "QRS": _qrs(numbers),
        "T": f"ST segment and T wave {_away(numbers['unlike_t'])}",
        "baseline": f"before the P wave and after the T wave, {_away(numbers['unlike_u'])}",
        "RR before": _interval(numbers, "pre", "came"),
        "RR after": _interval(numbers, "post", "the next beat came"),
        "rhythm": _rhythm(numbers),
    }


def reasons_in_words(answer: str, probabilities: Sequence[int], shares: Sequence[int], numbers: Sequence[int]) -> str:
    """At most three reasons for an ExplainedBeat (whose units these are), the largest first, in percentage points.

    >>> reasons_in_words("V", (100, 0, 900, 0), (0, 700, 2, 0, 300, 0, -200), (0,) * len(NUMBERS))
    ... # doctest: +NORMALIZE_WHITESPACE
    "because: QRS like this patient's usual, over 30 % of the usual height for 0 ms (+70), came in time, or no interval
    is known (+30); against it: a regular rhythm up to then (-20)"
    """
    words = phrases({name: number / _ONE for name, number in zip(NUMBERS, numbers, strict=True)})
    largest = sorted(zip(PLAYERS, shares, strict=True), key=lambda each: -abs(each[1]))[:_MOST]
    said = []
    for lead, sign in (("because", 1), ("against it", -1)):
        some = [f"{words[name]} ({share / 10:+.0f})" for name, share in largest if sign * share >= _LEAST]
        if some:
            said.append(f"{lead}: {', '.join(some)}")
    base = probabilities[_ANSWERS.index(answer)] - probabilities[0] - sum(shares)
    if base >= _LEAST:
        said.append(f"this patient's usual beat itself looks {answer} to the model rather than N ({base / 10:+.0f})")
    return "; ".join(said) or "for no single reason"


def _qrs(numbers: Mapping[str, float]) -> str:
    length = {region: end - start for region, (start, end) in REGIONS.items() if region in "qrs"}
    squares = sum(n * numbers[f"unlike_{region}"] ** 2 for region, n in length.items())
    said = [f"QRS {_away(sqrt(squares / sum(length.values())), 'its height')}"]
    height = numbers["height"]
    if abs(height) >= _TALL:
        said.append(f"{100 * abs(height):.0f} % {'taller' if height > 0 else 'lower'}")
    said.append(f"over 30 % of the usual height for {round(1000 * _BREADTH_S * numbers['breadth'])} ms")
    return ", ".join(said)


def _away(unlike: float, of: str = "the QRS's height") -> str:
    if unlike < _LIKE:
        return "like this patient's usual"
    return f"{100 * unlike:.0f} % of {of} off this patient's usual"


def _interval(numbers: Mapping[str, float], which: str, came: str) -> str:
    weight = regularity(numbers["unequal"])
    if weight < _WEIGHED:
        return f"the rhythm is too irregular to tell whether {'the beat' if which == 'pre' else 'the next'} is early"
    usual = numbers[f"{which}_to_usual"]
    if not usual and not numbers[f"{which}_to_local"]:  # 0 stands for no interval, too
        return f"{came} in time, or no interval is known"
    late = usual / weight
    if abs(late) < _IN_TIME:
        return f"{came} in time"
    return f"{came} {100 * abs(late):.0f} % {'late' if late > 0 else 'early'} by the usual interval"


def _rhythm(numbers: Mapping[str, float]) -> str:
    unequal = numbers["unequal"]
    if unequal < _REGULAR:
        return "a regular rhythm up to then"
    return f"an irregular rhythm: {100 * unequal:.0f} % of the last intervals unlike the one before"
