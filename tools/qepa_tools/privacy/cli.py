"""The `qepa privacy` commands."""

import json
import time
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..command_line import JsonOption, fail, show_table
from ..errors import ToolError

if TYPE_CHECKING:
    from .plan import Choice

app = typer.Typer(help="What patients have spent of their privacy budgets, and what a budget buys.")

ConfigOption = Annotated[Path, typer.Option("--config", help="The server's configuration (TOML).")]


@app.callback(invoke_without_command=True)
def privacy(context: typer.Context, config: ConfigOption = Path("server.toml"), *, as_json: JsonOption = False) -> None:
    """Show what each patient (by pseudonym) has spent and has left, for each purpose, in the present period."""
    if context.invoked_subcommand is not None:
        return
    from qepa_server.config import load  # noqa: PLC0415  # commands load only what they need
    from qepa_server.errors import ServerError  # noqa: PLC0415

    from .spending import read_database, spendings  # noqa: PLC0415

    try:
        settings = load(config)
        rows = spendings(settings, read_database(settings.state_dir / "server.db"), int(1000 * time.time()))
    except (ServerError, ToolError) as error:
        fail(error)
    if as_json:
        print(json.dumps({"patients": [asdict(row) for row in rows]}))
        return
    table = Table("patient", "purpose", "rounds", "spent (epsilon)", "budget", "left", "rounds left at least", box=None)
    for row in rows:
        spent = f"{row.spent_epsilon:.3f}" if row.spent_epsilon is not None else "no bound"
        if row.noiseless_rounds:
            spent += f" ({row.noiseless_rounds} sums without noise)"
        limited = row.budget_epsilon is not None and row.left_share is not None
        table.add_row(
            row.patient,
            row.purpose,
            str(row.rounds),
            spent,
            f"{row.budget_epsilon:g} at delta {row.delta:g}" if limited else "no limit",
            f"{row.left_share:.1%}" if limited else "-",
            str(row.rounds_left) if limited else "-",
        )
    show_table(table)


@app.command("plan")
def plan(
    *,
    epsilon: Annotated[float, typer.Option(help="Budget of a patient for each purpose.")] = 8.0,
    delta: Annotated[float, typer.Option(help="Its delta.")] = 1e-6,
    patients: Annotated[int, typer.Option(help="Patients of the ward, one board each.")] = 200,
    rounds: Annotated[list[int] | None, typer.Option(help="Rounds that the budget is to last (repeatable).")] = None,
    group: Annotated[list[int] | None, typer.Option(help="Least patients of a cell (repeatable).")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The tables of docs/privacy.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what noise a budget needs and how exact sums then are: computed, not measured."""
    from .plan import choices  # noqa: PLC0415

    if epsilon <= 0 or not 0 < delta < 1 or patients < 1:
        fail(ToolError("epsilon and patients must be above 0, delta between 0 and 1"))
    wanted, groups = rounds or [1, 10, 100, 1000], group or [10, 20, 50]
    if min(wanted) < 1 or min(groups) < 1:
        fail(ToolError("rounds and groups must be above 0"))
    found = {
        purpose: choices(purpose, epsilon=epsilon, delta=delta, rounds=wanted, groups=groups, patients=patients)
        for purpose in ("statistics", "learning")
    }
    if as_json:
        print(json.dumps({purpose: [asdict(choice) for choice in rows] for purpose, rows in found.items()}))
        return
    for purpose, rows in found.items():
        head = _HEADS[purpose]
        cells = [_cells(choice, len(head)) for choice in rows]
        if markdown:
            print("\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *cells)) + "\n")
            continue
        table = Table(*head, title=f"{purpose}: epsilon {epsilon:g} at delta {delta:g}", box=None)
        for row in cells:
            table.add_row(*row)
        show_table(table)


_COMMON = ("rounds", "min_group", "q_max", "clip_norm", "noise_variance", "noise / bound")
_HEADS = {
    "statistics": (*_COMMON, "error of a count", "of mean heart rate, bpm"),
    "learning": (*_COMMON, "noise of the mean update / bound"),
}


def _cells(choice: "Choice", width: int) -> tuple[str, ...]:
    from .plan import noise_of  # noqa: PLC0415

    if not choice.q_max:
        return (str(choice.rounds), str(choice.min_group), "none", *[""] * (width - 3))
    common = (
        str(choice.rounds),
        str(choice.min_group),
        str(choice.q_max),
        str(choice.clip_norm),
        str(ceil(choice.noise_variance)),
        f"{noise_of(choice):.2f}",
    )
    if choice.noise_to_clip is None:
        return (*common, f"{choice.count_se:.2f}", f"{choice.mean_se_bpm:.2f}")
    return (*common, f"{choice.noise_to_clip:.3f}")
