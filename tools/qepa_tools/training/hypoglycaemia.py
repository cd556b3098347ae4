"""How good a warning before hypoglycaemia is: episodes foretold, time won, false alarms.

An episode begins with the first reading below 70 mg/dL that is followed by 15 minutes below it, and ends with 15
minutes at or above it (Danne et al., Diabetes Care 2017; 40(12), and Battelino et al. 2019). A warning holds from a
risk above a threshold until one below the threshold less a hysteresis, or a reading below 70, which is an alarm of its
own. It is false if no reading below 70 comes within 30 minutes of its begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.glucose_windows import AHEAD_S
from qepa_jit.kernels import kernel

from .glucose_set import LOW_MG_DL, GlucoseSet

LASTING_S = 900
CANDIDATES = 400
DAY_S = 86_400

_LATE_S = 150  # half a step: a reading of 30 minutes later may come so much later
_LONGEST_STEP_S = 900
Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """What warnings at one threshold came to, over some persons. lead_s: of each episode that was foretold."""

    episodes: int
    foretold: int
    false: int
    days: float
    lead_s: NDArray[np.int64]

    @classmethod
    def sum(cls, parts: "Sequence[Warnings]") -> "Warnings":
        """Of other persons each."""
        return cls(
            episodes=sum(each.episodes for each in parts),
            foretold=sum(each.foretold for each in parts),
            false=sum(each.false for each in parts),
            days=sum(each.days for each in parts),
            lead_s=np.concatenate([each.lead_s for each in parts]),
        )

    @property
    def sensitivity(self) -> float:
        """Share of episodes for which a warning held within the 30 minutes before."""
        return self.foretold / self.episodes if self.episodes else float("nan")

    @property
    def false_a_day(self) -> float:
        """Of one person, over the time for which there were forecasts."""
        return self.false / self.days if self.days else float("nan")


def warnings(sets: Sequence[GlucoseSet], risks: Sequence[Real], threshold: float, hysteresis: float) -> Warnings:
    """Judge risks, in any rising unit, one for each reading ``at`` of each person."""
    total = np.zeros(4)
    leads = []
    for each, risk in zip(sets, risks, strict=True):
        t_s, mg_dl = each.record.t_s, each.record.mg_dl
        limits = (threshold, threshold - hysteresis)
        counts, lead_s = _follow(t_s, mg_dl, each.at, np.asarray(risk, np.float64), limits, _begins(t_s, mg_dl))
        total += counts
        leads.append(lead_s)
    return Warnings(
        episodes=int(total[0]),
        foretold=int(total[1]),
        false=int(total[2]),
        days=float(total[3]) / DAY_S,
        lead_s=np.concatenate(leads) if leads else np.zeros(0, np.int64),
    )


def threshold_for(sets: Sequence[GlucoseSet], risks: Sequence[Real], false_a_day: float, hysteresis: float) -> float:
    """The lowest of CANDIDATES thresholds with at most so many false warnings a day and person."""
    pooled = np.concatenate(risks)
    low, high = 0, CANDIDATES - 1  # false warnings grow as the threshold falls, where they are few enough to matter
    candidates = np.quantile(pooled, 1 - np.geomspace(1e-4, 0.3, CANDIDATES))
    while low < high:
        middle = (low + high + 1) // 2
        if warnings(sets, risks, float(candidates[middle]), hysteresis).false_a_day <= false_a_day:
            low = middle
        else:
            high = middle - 1
    return float(candidates[low])


@kernel
def _begins(t_s: NDArray[np.int64], mg_dl: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the readings with which episodes begin."""
    found = []
    first = -1  # of the readings below 70 at hand
    inside = False
    above = -1  # the first reading at or above 70 since the last one below
    for k in range(len(t_s)):
        if k and t_s[k] - t_s[k - 1] > _LONGEST_STEP_S + _LATE_S:
            first, inside, above = -1, False, -1
        if mg_dl[k] < LOW_MG_DL:
            above = -1
            if first < 0:
                first = k
            if not inside and t_s[k] - t_s[first] >= LASTING_S - _LATE_S:
                inside = True
                found.append(first)
        else:
            if above < 0:
                above = k
            if not inside:
                first = -1
            elif t_s[k] - t_s[above] >= LASTING_S - _LATE_S:
                inside, first = False, -1
    return np.array([k for k in found if k > 0], dtype=np.int64)


@kernel
def _follow(
    t_s: NDArray[np.int64],
    mg_dl: NDArray[np.int64],
    at: NDArray[np.int64],
    risk: Real,
    limits: tuple[float, float],
    begins: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(episodes, foretold, false, seconds) and the time won. Episodes without a forecast before them count as well."""
    since = np.full(len(t_s), -1, np.int64)  # when the warning began that holds at a reading, -1 without one
    false = 0
    seconds = 0.0
    began = -1
    told = -1
    for n in range(len(at)):
        k = at[n]
        if n + 1 < len(at):
            seconds += min(t_s[at[n + 1]] - t_s[k], _LONGEST_STEP_S)
        if mg_dl[k] < LOW_MG_DL or (told >= 0 and t_s[k] - told > AHEAD_S):
            began = -1
        told = t_s[k]
        if mg_dl[k] >= LOW_MG_DL:
            if began < 0 and risk[n] > limits[0]:
                began = t_s[k]
                later = k + 1
                while later < len(t_s) and t_s[later] <= t_s[k] + AHEAD_S + _LATE_S and mg_dl[later] >= LOW_MG_DL:
                    later += 1
                if later == len(t_s) or t_s[later] > t_s[k] + AHEAD_S + _LATE_S:
                    false += 1
            elif began >= 0 and risk[n] <= limits[1]:
                began = -1
        since[k] = began
    won = []
    for begin in begins:
        lead = -1
        k = begin - 1
        while k >= 0 and t_s[begin] - t_s[k] <= AHEAD_S + _LATE_S:
            if since[k] >= 0:
                lead = max(lead, t_s[begin] - t_s[k])
            k -= 1
        if lead >= 0:
            won.append(lead)
    return np.array([len(begins), len(won), false, seconds], dtype=np.float64), np.array(won, dtype=np.int64)
