"""Why one beat got its class: contributions of features, said in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .background import Background
from .linear import against, base_logits, linear_shapley
from .network import Floats, Network, softmax
from .shapley import exact_shapley
from .vocabulary import IRREGULAR, Vocabulary

PARTS = ("RR", "P", "QRS", "T")
SHOWN = 4  # reasons for and against, unless they are next to nothing
_NOTHING = 0.05  # logits

_ROWS = 32  # of background, for models whose coalitions have to be enumerated


@dataclass(frozen=True, slots=True)
class Reason:
    """A feature, what it tells, and by how much it speaks for the answer rather than the rival.

    error: standard error of the contribution, as others' beats that it is measured against differ; None if not known.
    """

    feature: str
    phrase: str
    contribution: float
    error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatExplanation:
    """answer: the likeliest class, rival: the one it is compared with. probabilities: of all classes, not calibrated.

    reasons: all features, strongest first; positive contributions speak for `answer` and against `rival`. start: how
    far the answer is ahead on the background's average beat, lead: on this one; contributions sum to the difference.
    parts: the contributions by part of the heart beat. unlike: whether no beat of the background is as like this one
    as people's beats are to each other, None if nobody looked; beyond: features that no beat of the background has.
    contributions: [classes, features]. unit: of start, lead and contributions; nothing: what counts as none.
    """

    answer: str
    rival: str
    probabilities: Mapping[str, float]
    reasons: tuple[Reason, ...]
    start: float
    lead: float
    parts: Mapping[str, float]
    unlike: bool | None
    beyond: tuple[Reason, ...]
    contributions: Floats
    unit: str = "logits"
    nothing: float = _NOTHING

    def strongest(self, *, speaking_for: bool) -> list[Reason]:
        """Up to SHOWN reasons that speak for the answer, or against it, of some weight."""
        sign = 1 if speaking_for else -1
        return [reason for reason in self.reasons if sign * reason.contribution >= self.nothing][:SHOWN]


def explain_beat(
    network: Network,
    row: Floats,
    background: Background,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    words: Vocabulary,
    rival: str | None = None,
) -> BeatExplanation:
    """Explain the answer for a beat's features [features]; exact up to rounding.

    Without a hidden layer over the whole background; with one over 32 of its rows, evenly spaced. rival: class to
    compare with, else the first of `classes` (N), or for that one the second likeliest; ValueError if it is the answer
    or unknown.
    """
    logits = network.logits(row[None])[0]
    best, other = compared(logits, classes, rival)
    contributions, base = attributions(network, row, background)
    found = against(contributions, best, other)
    irregular = float(row[list(names).index(IRREGULAR)]) if IRREGULAR in names else 0.0
    reasons = [
        Reason(name, words[name].phrase(x, irregular), float(phi))
        for name, x, phi in zip(names, row, found, strict=True)
    ]
    distance = background.distance(row)
    return BeatExplanation(
        answer=classes[best],
        rival=classes[other],
        probabilities=dict(zip(classes, map(float, softmax(logits)), strict=True)),
        reasons=tuple(sorted(reasons, key=lambda reason: -abs(reason.contribution))),
        start=float(base[best] - base[other]),
        lead=float(logits[best] - logits[other]),
        parts=by_part(names, found, words),
        unlike=distance > background.limit,
        beyond=tuple(reasons[k] for k in background.beyond(row)),
        contributions=contributions,
    )


def compared(scores: Floats, classes: Sequence[str], rival: str | None) -> tuple[int, int]:
    """Numbers of the likeliest class and of the one it is compared with, see explain_beat."""
    order = np.argsort(-scores, kind="stable")
    best = int(order[0])
    if rival is not None and (rival not in classes or rival == classes[best]):
        raise ValueError(f"the beat is {classes[best]}, which cannot be compared with {rival}")
    return best, list(classes).index(rival) if rival is not None else int(order[1]) if best == 0 else 0


def attributions(network: Network, row: Floats, background: Background) -> tuple[Floats, Floats]:
    """Contributions [classes, features] to the logits of a beat, and the logits [classes] that they start from."""
    if network.inner is None:
        mean = background.mean
        return linear_shapley(network.outer, row[None], mean)[0], base_logits(network.outer, mean)
    spaced = np.linspace(0, len(background.rows) - 1, min(_ROWS, len(background.rows))).astype(np.int64)
    found = exact_shapley(network, row, background.rows[spaced])
    return found.values, found.base


def all_attributions(network: Network, rows: Floats, background: Background) -> Floats:
    """Contributions [beats, classes, features] of many beats; quick without a hidden layer only."""
    if network.inner is None:
        return linear_shapley(network.outer, rows, background.mean)
    return np.array([attributions(network, row, background)[0] for row in rows])


def by_part(names: Sequence[str], contributions: Floats, words: Vocabulary) -> dict[str, float]:
    """Sum contributions [features] over parts of the heart beat; a feature of two parts counts by half for each."""
    sums = dict.fromkeys(PARTS, 0.0)
    for name, value in zip(names, contributions, strict=True):
        parts = words[name].parts
        for part in parts:
            sums[part] = sums.get(part, 0.0) + float(value) / len(parts)
    return sums
