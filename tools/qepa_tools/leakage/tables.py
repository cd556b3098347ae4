"""The findings of an audit as tables."""

from ..recordings.table import Table
from .protection import DELTA
from .rates import Interval
from .reconstruction import BATCHES, Reconstruction
from .study import Attack, Audit, Setting
from .worlds import Observer

GOAL = 0.015  # largest advantage with privacy on

STAND_IN = "Simulated: the boards' learning and the server's rules on recordings; no radio, no encryption in the way."


def epsilon_name(epsilon: float) -> str:
    """Return how a row calls a budget."""
    return f"epsilon {epsilon:g}" if epsilon else "no protection"


def tables(audit: Audit) -> dict[str, Table]:
    """Return every table by a short name."""
    wards = list(dict.fromkeys(setting.ward for setting in audit.settings))
    found = {f"membership-{ward}": membership_table(audit, ward) for ward in wards}
    found["promises"] = promises_table(audit)
    found["reconstruction"] = reconstruction_table(audit)
    if audit.bounds:
        found["epsilon"] = epsilon_table(audit)
    return found


def membership_table(audit: Audit, ward: str) -> Table:
    """Return what each observer finds out in one ward."""
    (first, *_) = [setting for setting in audit.settings if setting.ward == ward]
    rows = [_attack_row(attack) for observer in Observer for attack in _of(audit, ward, observer)]
    cells = f"{first.cells} cells" if first.cells > 1 else "one cell"
    return Table(
        title=f"Who was in? {ward}: {first.members} of {first.patients} patients ({first.persons} persons)",
        columns=["observer, privacy", "AUC", "advantage %", "best threshold %", "TPR at 1 % FPR", "at 0.1 %"],
        rows=rows,
        notes=[
            f"LiRA, {first.worlds} shadow worlds, {cells} of {first.cell}, the stronger of its two variants. "
            "Brackets: 95 %, persons drawn anew; of the TPRs Clopper and Pearson. Advantage at thresholds set on "
            "other persons; with the best threshold of all it is above 0 by chance alone.",
            STAND_IN,
        ],
    )


def promises_table(audit: Audit) -> Table:
    """Return what each setting costs and what it promises."""
    return Table(
        title="What is promised, and what it costs",
        columns=[
            "ward, privacy",
            "accuracy",
            "macro F1",
            "epsilon charged",
            "any attacker %",
            "Gaussian noise %",
        ],
        rows=[_setting_row(setting) for setting in audit.settings],
        notes=[
            "Accuracy on people outside the ward. Largest advantage of anyone, whatever they know: from (epsilon, "
            f"delta) at delta {DELTA:g}, and from the same cost of a Gaussian mechanism."
        ],
    )


def reconstruction_table(audit: Audit) -> Table:
    """Return how much of beats comes back."""
    return Table(
        title="What of beats comes back? Error, 0: all, 1: no more than without the update",
        columns=[
            "what is seen",
            *(f"{n} beat{'s' * (n > 1)}" for n in BATCHES),
            "mean beat of half a minute",
            "its correlation",
            "label counts",
        ],
        rows=[_reconstruction_row(each) for each in audit.reconstructions],
        notes=[
            "Squared errors over those of the mean of other people, in the first round. Labels are given, but where "
            "they are counted. Every person is attacked with what others show."
        ],
    )


def epsilon_table(audit: Audit) -> Table:
    """Return lower and upper bounds on epsilon."""
    rows = [
        [
            epsilon_name(each.epsilon),
            f"{each.claimed:.2f}",
            f"{each.lower.epsilon_gaussian:.2f}",
            f"{each.lower.epsilon:.2f}",
            f"{each.lower.mu:.2f} of {each.mu_claimed:.2f}",
            "yes" if each.holds else "NO",
        ]
        for each in audit.bounds
    ]
    trials = audit.bounds[0].lower.trials
    return Table(
        title=f"Epsilon at delta {DELTA:g}: claimed, and refuted below",
        columns=["budget", "accountant (upper)", "lower, Gaussian", "lower, any mechanism", "mu", "holds"],
        rows=rows,
        notes=[
            f"A patient at the clipping bound, found or not found in {trials} worlds with and {trials} without; "
            "lower bounds hold with 95 %. The noise is the boards' own sampler over a seeded generator."
        ],
    )


def goal_lines(audit: Audit) -> list[str]:
    """Return one sentence for each ward: where the goal is reached, and where not."""
    lines = []
    for ward in dict.fromkeys(attack.ward for attack in audit.attacks):
        noisy = [attack for attack in audit.attacks if attack.ward == ward and attack.epsilon]
        if not noisy:
            continue
        reached = [a for a in noisy if a.stronger.advantage.value <= GOAL]
        sure = [a for a in reached if a.stronger.advantage.high <= GOAL]
        lines.append(
            f"{ward}: advantage of at most {100 * GOAL:.1f} % with noise: {len(reached)} of {len(noisy)} attacks"
            f"{_listed(reached)}; with the upper limit below it, too: {len(sure)}{_listed(sure)}."
        )
    return lines


def _listed(attacks: list[Attack]) -> str:
    return "".join(f"; {a.observer.value} at epsilon {a.epsilon:g}" for a in attacks).replace("; ", " (", 1) + (
        ")" if attacks else ""
    )


def _of(audit: Audit, ward: str, observer: Observer) -> list[Attack]:
    return [attack for attack in audit.attacks if attack.ward == ward and attack.observer is observer]


def _attack_row(attack: Attack) -> list[str]:
    best = attack.stronger
    return [
        f"{attack.observer.value}, {epsilon_name(attack.epsilon)}",
        _spread(best.auc, 1, 3),
        _spread(best.advantage, 100, 1),
        f"{100 * best.advantage_best:.1f}",
        _spread(best.tpr_at_1_percent, 100, 1) + " %",
        _spread(best.tpr_at_1_permille, 100, 2) + " %",
    ]


def _spread(of: Interval, factor: float, digits: int) -> str:
    value, low, high = (f"{factor * each + 0.0:.{digits}f}" for each in (of.value, of.low, of.high))
    return f"{value} ({low} to {high})"


def _setting_row(setting: Setting) -> list[str]:
    return [
        f"{setting.ward}, {epsilon_name(setting.epsilon)}",
        f"{setting.accuracy:.3f}",
        f"{setting.macro_f1:.3f}",
        "-" if setting.epsilon_charged is None else f"{setting.epsilon_charged:.2f}",
        f"{100 * setting.largest_advantage:.1f}",
        f"{100 * setting.gaussian_advantage:.1f}",
    ]


def _reconstruction_row(each: Reconstruction) -> list[str]:
    name = each.view.value + (f", epsilon {each.epsilon:g}" if each.epsilon else "")
    return [
        name,
        *(_error(each.beats[n]) for n in BATCHES),
        _error(each.mean_beat),
        f"{each.mean_beat_correlation + 0.0:.2f}",
        _error(each.label_counts),
    ]


def _error(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.2f}"
