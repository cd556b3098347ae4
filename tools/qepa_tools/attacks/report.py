"""What the study found, as a table, a figure and a record. All of it is labelled as simulated."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from .lying_gateway import LieResult
from .study import Result
from .ward import SimulatedWard

SIMULATED = "simulated: no board, no radio, no encryption; the server's own rules"


def table(results: Sequence[Result], ward: SimulatedWard) -> Table:
    """Return accuracy and macro F1 on held-out persons, for each scenario."""
    shown = Table(
        "attack",
        "hostile",
        "defence",
        "accuracy",
        "macro F1",
        "cells with one",
        "void",
        "caught",
        "wronged",
        "first",
        title=f"Hostile boards, {ward.source}, {len(ward.names)} patients ({SIMULATED})",
        box=None,
    )
    for result in results:
        scenario = result.scenario
        watched = bool(scenario.watch.value)
        shown.add_row(
            scenario.attack.value,
            f"{scenario.share:.0%}",
            scenario.defence,
            f"{result.accuracy:.3f}",
            f"{result.macro_f1:.3f}",
            f"{result.hostile_cells:.0%}",
            f"{result.voided_cells:.0%}",
            f"{result.caught}/{result.hostile}" if watched else "",
            str(result.wronged) if watched else "",
            "" if result.first_round is None else str(result.first_round),
        )
    return shown


def lies_table(lies: Sequence[LieResult]) -> Table:
    """Return which lies of a gateway opened."""
    shown = Table("a gateway that", "rounds", "opened", "refused", "blamed in round", title="Lying gateway", box=None)
    for lie in lies:
        refused = ", ".join(f"{reason} {count}" for reason, count in sorted(lie.reasons.items()))
        shown.add_row(lie.lie, str(lie.rounds), str(lie.opened), refused, str(lie.blamed_in_round or ""))
    return shown


def record(results: Sequence[Result], lies: Sequence[LieResult], ward: SimulatedWard) -> dict[str, object]:
    """Return all of it for JSON."""
    return {
        "simulated": True,
        "what": SIMULATED,
        "data": ward.source,
        "persons": ward.persons,
        "patients": len(ward.names),
        "rounds": len(ward.beats),
        "scenarios": [
            {
                "attack": result.scenario.attack.value,
                "share": result.scenario.share,
                "defence": result.scenario.defence,
                **{key: value for key, value in asdict(result).items() if key != "scenario"},
            }
            for result in results
        ],
        "lying_gateway": [asdict(lie) for lie in lies],
    }


def draw(results: Sequence[Result], ward: SimulatedWard, path: Path) -> None:
    """Write a figure: macro F1 by hostile share, one panel for each attack, one line for each defence."""
    import matplotlib as mpl  # noqa: PLC0415  # takes a second to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    honest = {result.scenario.defence: result.macro_f1 for result in results if not result.scenario.share}
    attacks = list(dict.fromkeys(result.scenario.attack for result in results if result.scenario.share))
    figure, panels = plt.subplots(1, max(1, len(attacks)), sharey=True, squeeze=False, figsize=(3.2 * len(attacks), 4))
    for panel, attack in zip(panels[0], attacks, strict=False):
        for defence, clean in honest.items():
            found = [r for r in results if r.scenario.attack is attack and r.scenario.defence == defence]
            points = sorted((r.scenario.share, r.macro_f1) for r in found)
            shares, scores = zip((0.0, clean), *points, strict=True)
            panel.plot([100 * share for share in shares], scores, marker="o", markersize=3, label=defence)
        panel.set_title(attack.value, fontsize=9)
        panel.set_xlabel("hostile patients (%)")
    panels[0][0].set_ylabel("macro F1, held-out persons")
    figure.suptitle(f"{ward.source}; {SIMULATED}", fontsize=9)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=7)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
