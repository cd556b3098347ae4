"""From what a run left behind to its figures: times and bytes of each round, sums against the truth, budgets spent."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from qepa_server.config import ServerConfig, load
from qepa_server.rounds.ledger import DONE, SUMMED, RoundLedger, RoundRecord, SumRecord
from qepa_server.store.database import Store

from ..privacy.spending import read_database, spendings
from .hospital import Outcome
from .plan import SimulationPlan

SIMULATED = "simulated: invented data, boards without sensors or radio, stand-ins for the optical links"


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round. Times in ms on one machine's clock; None where it did not come to that.

    ``announce_ms``: RoundOpen stored to RoundStart stored. ``first_frame_ms``, ``last_frame_ms``: from then to the
    first vector at a gateway and the last that a gateway took. ``model_ms``: last vector to the new model stored at the
    server.
    ``waited_ms``: the part of that which gateways waited for boards or gateways that stayed silent. ``released_ms``:
    last vector to the model at the last gateway.
    """

    number: int
    state: str
    reason: str
    announce_ms: int | None
    first_frame_ms: int | None
    last_frame_ms: int | None
    model_ms: int | None
    waited_ms: int
    released_ms: int | None
    vectors: int
    contributors: int
    silent: int
    dead_gateways: int
    cells: int
    summed: int
    void: int
    exact: int
    wrong: int
    bytes: Mapping[str, int]

    @property
    def work_ms(self) -> int | None:
        """Last frame in to new model, without what was waited for silence."""
        return None if self.model_ms is None else max(0, self.model_ms - self.waited_ms)


class Truth:
    """What the boards sealed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_sum(self, round_: int, record: SumRecord) -> bool:
        """Whether an opened sum is, word for word, that of its contributors."""
        path = self._folder / f"{round_}-{record.stream}.npz"
        if record.total is None or not path.exists():
            return False
        with np.load(path) as held:
            boards, words = held["boards"], held["words"]
        if len(set(boards.tolist())) != len(boards):
            return False  # a board sealed twice for one round
        chosen = np.isin(boards, record.boards)
        return int(chosen.sum()) == len(record.boards) and words[chosen].sum(axis=0).tolist() == list(record.total)


def document(plan: SimulationPlan, outcome: Outcome) -> dict[str, Any]:
    """Return all figures of a run whose programs have ended, as a JSON object."""
    config = load(outcome.folder / "config" / "server.toml")
    traffic = _traffic(outcome.folder)
    truth = Truth(outcome.folder / "truth")
    rounds = []
    with closing(Store.open(config.state_dir)) as store:
        ledger = RoundLedger(store)
        for record in reversed(ledger.newest(plan.rounds)):
            rounds.append(_figures(plan, record, ledger.sums(record.number), traffic, truth))
    works = [figures.work_ms for figures in rounds if figures.work_ms is not None]
    return {
        "simulated": True,
        "what": SIMULATED,
        "ok": outcome.complete and bool(works) and not any(figures.wrong for figures in rounds),
        "note": outcome.note,
        "broker": outcome.broker,
        "plan": asdict(plan) | {"out": str(outcome.folder), "min_group": plan.min_group},
        "median_work_ms": median(works) if works else None,
        "largest_work_ms": max(works, default=None),
        "rounds": [asdict(figures) | {"work_ms": figures.work_ms} for figures in rounds],
        "processes": {role: asdict(usage) for role, usage in sorted(outcome.usage.items())},
        "refused_at_gateways": dict(sum((Counter(site["refused"]) for site in traffic.values()), Counter())),
        "privacy": _privacy(config, plan),
    }


def _traffic(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("traffic-*.json")):
        found |= json.loads(path.read_text())
    return found


def _figures(
    plan: SimulationPlan, record: RoundRecord, sums: Sequence[SumRecord], traffic: Mapping[str, Any], truth: Truth
) -> RoundFigures:
    number = record.number
    seen = [site["rounds"][str(number)] for site in traffic.values() if str(number) in site["rounds"]]
    first = min((each["first_vector_ms"] for each in seen if each["first_vector_ms"]), default=None)
    last = max((each.last_frame_ms for each in sums if each.last_frame_ms), default=None)
    released = max((each["model_ms"] for each in seen), default=0)
    opened = [each for each in sums if each.state == SUMMED]
    exact = sum(truth.is_sum(number, each) for each in opened)
    done = record.state == DONE
    return RoundFigures(
        number=number,
        state=record.state,
        reason=record.reason,
        announce_ms=_between(record.opened_ms, record.started_ms),
        first_frame_ms=_between(record.started_ms, first),
        last_frame_ms=_between(record.started_ms, last),
        model_ms=_between(last, record.settled_ms) if done else None,
        waited_ms=_waited_ms(plan, record, last),
        released_ms=_between(last, released) if done and released else None,
        vectors=sum(each["vectors"] for each in seen),
        contributors=len({board for each in opened for board in each.boards}),
        silent=sum(plan.is_silent(board, number) for board in range(1, plan.boards + 1)),
        dead_gateways=len(plan.dead_in(number)),
        cells=len({each.cell for each in sums}),
        summed=len(opened),
        void=len(sums) - len(opened),
        exact=exact,
        wrong=len(opened) - exact,
        bytes=dict(sum((Counter(each["bytes"]) for each in seen), Counter())),
    )


def _between(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else max(0, end - start)


def _waited_ms(plan: SimulationPlan, record: RoundRecord, last: int | None) -> int:
    """Time from the last frame to the deadline at which those are given up who stay silent, if there are any."""
    if last is None or record.started_ms is None:
        return 0
    if plan.dead_in(record.number):  # by its peers; where it is alone in its cell, the server waits 2 s more
        until_s = plan.collect_within_s + plan.settle_within_s
    elif any(plan.is_silent(board, record.number) for board in range(1, plan.boards + 1)):
        until_s = plan.collect_within_s
    else:
        return 0
    return max(0, record.started_ms + round(1000 * until_s) - last)


def _privacy(config: ServerConfig, plan: SimulationPlan) -> dict[str, Any] | None:
    """What patients spent, by purpose; None where no noise was asked for."""
    if not plan.epsilon:
        return None
    rows = spendings(config, read_database(config.state_dir / "server.db"), 0)
    found: dict[str, Any] = {}
    for purpose in sorted({row.purpose for row in rows}):
        own = [row for row in rows if row.purpose == purpose]
        spent = [row.spent_epsilon for row in own if row.spent_epsilon is not None]
        section = config.learning if purpose == "learning" else config.statistics
        found[purpose] = {
            "patients": len(own),
            "budget_epsilon": plan.epsilon,
            "delta": plan.delta,
            "spent_epsilon_median": median(spent) if spent else None,
            "spent_epsilon_most": max(spent, default=None),
            "patients_without_bound": len(own) - len(spent),
            "noise_variance": section.noise_variance,
            "clip_norm": section.clip_norm,
        }
    return found
