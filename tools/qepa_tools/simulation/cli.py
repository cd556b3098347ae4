"""``qepa simulate``: a hospital on this machine."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..command_line import JsonOption, fail, folded
from ..errors import ToolError
from .plan import SimulationPlan


def simulate(
    context: typer.Context,
    *,
    boards: Annotated[int, typer.Option(help="Boards; patients wear as many each as there are for them.")] = 1500,
    gateways: Annotated[int, typer.Option(help="Gateways.")] = 50,
    patients: Annotated[int, typer.Option(help="Patients.")] = 200,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 5,
    dropouts: Annotated[float, typer.Option(help="Share of the boards that stay silent, others each round.")] = 0.0,
    dead_gateways: Annotated[int, typer.Option(help="Gateways that lose power in each round.")] = 0,
    epsilon: Annotated[float, typer.Option(help="Privacy budget of each patient and purpose; 0: no noise.")] = 0.0,
    delta: Annotated[float, typer.Option(help="Delta of the budget.")] = 1e-6,
    seed: Annotated[int, typer.Option(help="Values of boards, and who is silent or dead when.")] = 1,
    period: Annotated[float, typer.Option(help="Seconds between the beginnings of two rounds, at least.")] = 10.0,
    collect: Annotated[float, typer.Option(help="Seconds that gateways wait for boards.")] = 20.0,
    settle: Annotated[float, typer.Option(help="Seconds that gateways wait for each other.")] = 5.0,
    gateway_processes: Annotated[int, typer.Option(help="Processes that the gateways share; 0: a fifth as many.")] = 0,
    embedded_broker: Annotated[
        bool, typer.Option("--embedded-broker", help="Not mosquitto even if installed.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report, figures, logs and all state.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the true server and gateways with many light boards over a true broker, and measure their rounds."""
    if context.invoked_subcommand is not None:
        return
    try:
        plan = SimulationPlan(
            boards=boards,
            gateways=gateways,
            patients=patients,
            rounds=rounds,
            dropouts=dropouts,
            dead_gateways=dead_gateways,
            epsilon=epsilon,
            delta=delta,
            seed=seed,
            period_s=period,
            collect_within_s=collect,
            settle_within_s=settle,
            gateway_processes=gateway_processes,
            out=out,
        )
        if out is not None and out.exists() and any(out.iterdir()):
            raise ToolError(f"the folder {out} is not empty: a simulation begins with nothing")
        if out is not None:
            found = _run(plan, out, embedded_broker=embedded_broker)
        else:
            with tempfile.TemporaryDirectory(prefix="qepa-simulation-") as folder:
                found = _run(plan, Path(folder), embedded_broker=embedded_broker)
    except (ToolError, OSError) as error:
        fail(error)
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, Console(), out)
    raise typer.Exit(0 if found["ok"] else 1)


def _run(plan: SimulationPlan, folder: Path, *, embedded_broker: bool) -> dict[str, Any]:
    from .measures import document  # noqa: PLC0415  # commands load only what they need
    from .report import write_report  # noqa: PLC0415

    outcome = asyncio.run(_simulate(plan, folder, embedded_broker=embedded_broker))
    found = document(plan, outcome)
    if plan.out is not None:
        write_report(found, folder)
        (folder / "simulation.json").write_text(json.dumps(found, indent=1))
    return found


async def _simulate(plan: SimulationPlan, folder: Path, *, embedded_broker: bool) -> Any:
    from .hospital import SimulatedHospital  # noqa: PLC0415

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def step(title: str, total: int) -> Callable[[], None]:
            task = progress.add_task(title, total=total)
            return lambda: progress.advance(task)

        async with SimulatedHospital(plan, folder, embedded_broker=embedded_broker) as hospital:
            await hospital.start(step)
            done = step("rounds", plan.rounds)
            return await hospital.follow(lambda _number, _state: done())


def _show(found: dict[str, Any], console: Console, out: Path | None) -> None:
    plan = found["plan"]
    names = (
        "round",
        "",
        "announce",
        "first frame",
        "last frame",
        "to model",
        "waited",
        "boards",
        "sums",
        "void",
        "wrong",
    )
    table = Table(
        *names,
        title=f"{plan['boards']} boards, {plan['gateways']} gateways, {plan['patients']} patients; ms",
        caption=found["what"],
        box=None,
    )
    keys = ("number", "state", "announce_ms", "first_frame_ms", "last_frame_ms", "model_ms", "waited_ms")
    for each in found["rounds"]:
        row = [*(each[key] for key in keys), each["contributors"], each["summed"], each["void"], each["wrong"]]
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(folded(table))
    for purpose, spent in (found["privacy"] or {}).items():
        most, budget = spent["spent_epsilon_most"], spent["budget_epsilon"]
        console.print(f"{purpose}: epsilon {most} of {budget:g} spent at delta {spent['delta']:g}, by whom most")
    if found["note"]:
        console.print(f"[red]{found['note']}[/]")
    if out is not None:
        console.print(f"{out / 'simulation.html'}")
