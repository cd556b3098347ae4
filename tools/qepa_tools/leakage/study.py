"""The whole audit: membership, reconstruction and a lower bound on epsilon, each beside what is promised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..attacks.ward import SimulatedWard
from .canary import canary_words, run_trials
from .epsilon_bound import LowerBound, lower_bound
from .membership import Floats, offline_scores, online_scores
from .protection import DELTA, Protection, gaussian_advantage, largest_advantage, protections
from .rates import Rates, rates, roc
from .reconstruction import Reconstruction, View, reconstruct
from .worlds import Observer, Worlds, train_worlds

Begin = Callable[[str, int], Callable[[int], None]]  # what, steps -> to be called with each step's number of steps
_CURVE = np.concatenate([[0.0], np.logspace(-4, 0, 81)])


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedWard:
    """A ward to attack. ``persons``: a number for each patient. ``cell``: members of one. ``worlds``: shadows.

    ``what`` names it in tables: "stretches" or "people".
    """

    what: str
    ward: SimulatedWard
    persons: NDArray[np.int64]
    cell: int
    worlds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """``epsilons``: 0 is a ward without protection. ``trials`` of the canary, with it and without it."""

    epsilons: tuple[float, ...] = (0.0, 8.0, 3.0, 1.0)
    rounds: int = 10
    min_group: int = 10
    trials: int = 3000
    targets: int = 24
    seed: int = 1

    def quick(self) -> "AuditSettings":
        """Return the same with a quarter of the work."""
        return replace(self, trials=self.trials // 4, targets=self.targets // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One observer against one setting. ``curve``: TPR at the FPRs of CURVE, of the stronger of both variants."""

    ward: str
    observer: Observer
    epsilon: float
    online: Rates
    offline: Rates
    curve: tuple[float, ...]

    @property
    def stronger(self) -> Rates:
        """The variant that tells more, which is what an attacker would use."""
        return max(self.online, self.offline, key=lambda each: each.auc.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One ward under one protection: what it is worth and what it promises.

    ``accuracy`` and ``macro_f1``: means over worlds on held-out people. ``epsilon_charged``: the accountant's, in cells
    of ``cell`` boards; None without noise. ``largest_advantage``: of anyone against (epsilon_charged, DELTA), and
    ``gaussian_advantage`` of anyone who sees the sums of Gaussian noise of that cost.
    """

    ward: str
    epsilon: float
    patients: int
    persons: int
    members: int
    cells: int
    cell: int
    worlds: int
    accuracy: float
    macro_f1: float
    epsilon_charged: float | None
    largest_advantage: float
    gaussian_advantage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What trials of a canary show of epsilon beside what the accountant claims; ``holds``: no bound is above it."""

    epsilon: float
    claimed: float
    lower: LowerBound
    mu_claimed: float
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that was found."""

    settings: tuple[Setting, ...]
    attacks: tuple[Attack, ...]
    reconstructions: tuple[Reconstruction, ...]
    bounds: tuple[Bounds, ...]


def run_audit(wards: Sequence[AuditedWard], asked: AuditSettings, begin: Begin) -> Audit:
    """Attack all wards under all protections. The first ward is the one that beats are reconstructed of.

    ToolError where a budget can't be kept, ValueError where there are too few worlds to judge by.
    """
    made = protections(list(asked.epsilons), asked.rounds, asked.min_group)
    settings, attacks, bounds = [], [], []
    with threadpool_limits(1):  # the matrices are small: threads would wait for one another
        for audited in wards:
            for protection in made:
                step = begin(f"{audited.what}, {protection.name}", protection.rounds)
                worlds = train_worlds(
                    audited.ward,
                    protection,
                    worlds=audited.worlds,
                    cell=audited.cell,
                    seed=asked.seed,
                    advanced=step,
                )
                settings.append(_setting(audited, worlds))
                attacks += _attacks(audited, worlds, asked.seed)
        reconstructions = _reconstructions(wards[0], made, asked, begin)
        for protection in made:
            if protection.noise_q8:
                step = begin(f"canary, {protection.name}", 2 * asked.trials)
                bounds.append(_bounds(protection, asked, step))
    return Audit(
        settings=tuple(settings), attacks=tuple(attacks), reconstructions=tuple(reconstructions), bounds=tuple(bounds)
    )


def curve_fprs() -> Floats:
    """Return the FPRs at which Attack.curve gives TPRs."""
    return _CURVE.copy()


def _setting(audited: AuditedWard, worlds: Worlds) -> Setting:
    protection, members = worlds.protection, int(worlds.members[0].sum())
    judged = [audited.ward.held_out.accuracy(model.tolist()) for model in worlds.models]
    accuracy, macro_f1 = np.mean(judged, axis=0)
    cells = max(1, members // worlds.cell)
    boards = members // cells
    charged = protection.epsilon_charged(boards) if protection.noise_q8 else None
    return Setting(
        ward=audited.what,
        epsilon=protection.epsilon,
        patients=len(audited.ward.names),
        persons=len(np.unique(audited.persons)),
        members=members,
        cells=cells,
        cell=boards,
        worlds=audited.worlds,
        accuracy=float(accuracy),
        macro_f1=float(macro_f1),
        epsilon_charged=charged,
        largest_advantage=1.0 if charged is None else largest_advantage(charged, DELTA),
        gaussian_advantage=gaussian_advantage(protection.rho(boards)),
    )


def _attacks(audited: AuditedWard, worlds: Worlds, seed: int) -> list[Attack]:
    found = []
    for observer in Observer:
        statistics = worlds.statistics[observer]
        scores = [online_scores(statistics, worlds.members), offline_scores(statistics, worlds.members)]
        online, offline = (rates(each, worlds.members, audited.persons, seed) for each in scores)
        best = scores[0] if online.auc.value >= offline.auc.value else scores[1]
        fpr, tpr = roc(best.ravel(), worlds.members.ravel())
        places = np.searchsorted(fpr, _CURVE, side="right") - 1
        found.append(
            Attack(
                ward=audited.what,
                observer=observer,
                epsilon=worlds.protection.epsilon,
                online=online,
                offline=offline,
                curve=tuple(float(value) for value in tpr[places]),
            )
        )
    return found


def _reconstructions(
    audited: AuditedWard, made: Sequence[Protection], asked: AuditSettings, begin: Begin
) -> list[Reconstruction]:
    found: list[Reconstruction] = []
    loosest = [protection for protection in made if protection.noise_q8][:1] or list(made)[:1]
    for protection in loosest:
        step = begin("reconstruction", len(View))
        found += reconstruct(
            audited.ward,
            audited.persons,
            protection,
            cell=audited.cell,
            targets=asked.targets,
            seed=asked.seed,
            advanced=step,
        )
    return found


def _bounds(protection: Protection, asked: AuditSettings, step: Callable[[int], None]) -> Bounds:
    sealed = canary_words(protection, protection.spec.n_words)
    trials = run_trials(protection, sealed, asked.trials, asked.seed, step)
    lower = lower_bound(trials, DELTA)
    claimed = protection.epsilon_charged(protection.min_group)
    return Bounds(
        epsilon=protection.epsilon,
        claimed=claimed,
        lower=lower,
        mu_claimed=float(np.sqrt(2 * protection.rho(protection.min_group))),
        holds=max(lower.epsilon, lower.epsilon_gaussian) <= claimed,
    )
