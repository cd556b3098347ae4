"""Why the gateway's network called a beat so: its waveform in segments and its rhythm, as players of an exact game.

A segment that is left out becomes that of another person's beat (occlusion by a background, not by zeros, which no
heart gives). With seven players and b beats of background the network runs 128 b times, a few hundredths of a
millisecond each. Nothing but the choice of other people is left to chance: the standard error is over them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.reasons import players
from qepa_gateway.inference.windows import LEADS, LENGTH
from qepa_server.explain.beat import BeatExplanation, Reason, compared
from qepa_uplink.beat_reasons import PLAYERS, RHYTHM_PLAYERS, phrases
from qepa_uplink.bedside_models import NUMBERS
from qepa_uplink.shapley import PlayersAttribution, players_shapley

Floats = NDArray[np.float64]
Real = NDArray[np.float32]
Run = Callable[[Real, Real], Real]  # leads, numbers to probabilities

_SECOND = NUMBERS.index("second_lead")  # of no player: it says what is there, not what the heart does
_POINTS = 100
_NOTHING = 0.5  # percentage points: one step of the int8 output is 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBeats:
    """Inputs of the network of other people's beats: leads [b, LENGTH, 2 LEADS], numbers [b, NUMBERS], whose [b]."""

    leads: Real
    numbers: Real
    persons: NDArray[np.int64]

    def with_leads_of(self, numbers: Real) -> "OtherBeats":
        """Those that have as many leads as the beat of these numbers, the second left out if it has none.

        ValueError if none has a second lead and the beat has.
        """
        if numbers[_SECOND] < 0.5:
            leads = self.leads.copy()
            leads[:, :, 2:] = 0
            return OtherBeats(leads=leads, numbers=self.numbers, persons=self.persons)
        both = self.numbers[:, _SECOND] >= 0.5
        if not both.any():
            raise ValueError("this beat has two leads, those of other people have one")
        return OtherBeats(leads=self.leads[both], numbers=self.numbers[both], persons=self.persons[both])


def explain_window(run: Run, leads: Real, numbers: Real, others: OtherBeats) -> PlayersAttribution:
    """Exact Shapley values [classes, PLAYERS] of the network's probabilities for one beat.

    leads: [LENGTH, 2 LEADS]. numbers: [NUMBERS]. run: takes a batch of both.
    """
    rows = _flat(others.leads, others.numbers)

    def output(rows: Floats) -> Floats:
        n = LENGTH * 2 * LEADS
        single = rows.astype(np.float32)
        return np.asarray(run(single[:, :n].reshape(-1, LENGTH, 2 * LEADS), single[:, n:]), dtype=np.float64)

    return players_shapley(output, _flat(leads[None], numbers[None])[0], rows, players())


def explain_at_bedside(
    run: Run, leads: Real, numbers: Real, others: OtherBeats, *, classes: Sequence[str], rival: str | None = None
) -> BeatExplanation:
    """As explain_beat does, of probabilities in percentage points, by PLAYERS and with their standard errors."""
    others = others.with_leads_of(numbers)
    found = explain_window(run, leads, numbers, others)
    best, other = compared(found.output, classes, rival)
    contributions = _POINTS * found.values
    against = contributions[best] - contributions[other]
    errors = standard_errors(_POINTS * (found.by_row[:, best] - found.by_row[:, other]), others.persons)
    words = phrases(dict(zip(NUMBERS, map(float, numbers), strict=True)))
    reasons = [
        Reason(name, words[name], float(phi), error) for name, phi, error in zip(PLAYERS, against, errors, strict=True)
    ]
    return BeatExplanation(
        answer=classes[best],
        rival=classes[other],
        probabilities=dict(zip(classes, map(float, found.output), strict=True)),
        reasons=tuple(sorted(reasons, key=lambda reason: -abs(reason.contribution))),
        start=_POINTS * float(found.base[best] - found.base[other]),
        lead=_POINTS * float(found.output[best] - found.output[other]),
        parts=_parts({reason.feature: reason.contribution for reason in reasons}),
        unlike=None,
        beyond=(),
        contributions=contributions,
        unit="percentage points",
        nothing=_NOTHING,
    )


def standard_errors(by_row: Floats, persons: NDArray[np.int64]) -> list[float | None]:
    """Of the mean over rows [b, players] of these persons, from how persons' means differ; None of one person."""
    who, counts = np.unique(persons, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2:
        return [None] * by_row.shape[1]
    means = np.zeros((len(counts), by_row.shape[1]))
    np.add.at(means, who, by_row)
    means /= counts[:, None]
    return [float(error) for error in means.std(axis=0, ddof=1) / np.sqrt(len(counts))]


def _parts(contributions: Mapping[str, float]) -> dict[str, float]:
    rhythm = sum(contributions[name] for name in RHYTHM_PLAYERS)
    return {"RR": rhythm, **{name: contributions[name] for name in PLAYERS if name not in RHYTHM_PLAYERS}}


def _flat(leads: Real, numbers: Real) -> Floats:
    return np.concatenate([leads.reshape(len(leads), -1), numbers], axis=1).astype(np.float64)
