"""Who stands behind sums that do not open: check values that fail, words out of range, contributors that are wrong.

A gateway that alters, drops, adds or replays makes its cells fail; so does a board that sends a wrong check value.
Cells are drawn by a seed that nobody chooses, so which of a round's cells an honest party is in has nothing to do with
which of them others make fail: with n of a round's N cells its own and K failed, its failures are hypergeometric. Over
rounds the law of their number is the convolution, and P(so many or more) is an exact p-value for cells of one size.

A gateway is compared with the cells of all, a patient with the cells of its gateway only, because a patient whose
gateway lies is not to blame. A gateway is named when no patient of it stands out: then it, or several of its boards
together, did it. Where it has one cell a round, its patients can't be told apart from it. Words out of range are asked
of patients only: the check values of that sum held, so no gateway altered what the boards sealed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

_STANDS_OUT = 0.05  # p-value, over a gateway's patients together, from which the gateway is not named in their place


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell's sum, with the gateways and patients whose claim it was: (patient, gateway)."""

    round: int
    gateways: tuple[str, ...]
    patients: tuple[tuple[str, str], ...]
    failed: bool
    out_of_range: bool = False  # it failed, but its check values held


@dataclass(frozen=True, slots=True)
class Blame:
    """A party (``kind`` gateway or patient) with which cells fail: ``failed`` of ``cells``, ``p_value`` by chance."""

    kind: str
    name: str
    cells: int
    failed: int
    p_value: float


def tail_probability(strata: Sequence[tuple[int, int, int]], failed: int) -> float:
    """Return P(X >= failed), X the sum of hypergeometric draws: for each (N, K, n), n of N cells of which K failed.

    >>> tail_probability([(4, 2, 2)], 2)  # 1 of the 6 pairs
    0.16666666666666666
    >>> tail_probability([(2, 1, 1), (2, 1, 1)], 1)
    0.75
    """
    law = [1.0]
    for all_cells, all_failed, own in strata:
        whole = comb(all_cells, own)
        draw = [
            comb(all_failed, k) * comb(all_cells - all_failed, own - k) / whole for k in range(min(own, all_failed) + 1)
        ]
        longer = [0.0] * (len(law) + len(draw) - 1)
        for i, p in enumerate(law):
            for k, q in enumerate(draw):
                longer[i + k] += p * q
        law = longer
    return min(1.0, sum(law[failed:]))


def blame(outcomes: Sequence[Outcome], *, alpha: float) -> list[Blame]:
    """Return the parties whose failures are no chance at ``alpha`` over all parties together, the clearest first.

    A found party's cells are left out before the next is looked for, so that who shared cells with it is not blamed for
    it. In each call an honest patient, or an honest gateway of honest boards, is named with probability at most
    ``alpha`` (union bound).
    """
    found: list[Blame] = []
    rest = list(outcomes)
    parties = len({g for o in outcomes for g in o.gateways}) + len({p for o in outcomes for p, _ in o.patients})
    while any(outcome.failed for outcome in rest):
        named = [party for party in _named(rest) if party.p_value * parties <= alpha]
        if not named:
            break
        worst = min(named, key=lambda party: (party.p_value, party.name))
        found.append(worst)
        rest = [outcome for outcome in rest if not _concerns(outcome, worst)]
    return found


def _concerns(outcome: Outcome, party: Blame) -> bool:
    if party.kind == "gateway":
        return party.name in outcome.gateways
    return any(patient == party.name for patient, _ in outcome.patients)


def _named(outcomes: Sequence[Outcome]) -> Iterator[Blame]:
    """Give all patients, and the gateways of which no patient stands out."""
    strata: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        for gateway in outcome.gateways:
            strata[gateway].append(outcome)
    for gateway, stratum in sorted(strata.items()):
        if not any(outcome.failed for outcome in stratum):
            continue
        present = [{patient for patient, home in outcome.patients if home == gateway} for outcome in stratum]
        patients = [
            _tested("patient", name, stratum, [name in there for there in present])
            for name in sorted(set().union(*present))
        ]
        yield from patients
        if not any(party.p_value * len(patients) <= _STANDS_OUT for party in patients):
            altered = [outcome for outcome in outcomes if not outcome.out_of_range]
            yield _tested("gateway", gateway, altered, [gateway in outcome.gateways for outcome in altered])


def _tested(kind: str, name: str, outcomes: Sequence[Outcome], own: Sequence[bool]) -> Blame:
    strata: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    failed = 0
    for outcome, mine in zip(outcomes, own, strict=True):
        stratum = strata[outcome.round]
        stratum[0] += 1
        stratum[1] += outcome.failed
        stratum[2] += mine
        failed += outcome.failed and mine
    p_value = tail_probability([(n, k, m) for n, k, m in strata.values() if k and m], failed) if failed else 1.0
    return Blame(kind, name, sum(own), failed, p_value)
