"""``qepa simulate attack``: hostile boards and a lying gateway against the server's rules."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from ..command_line import JsonOption, fail
from ..errors import ToolError

if TYPE_CHECKING:
    from .ward import SimulatedWard


def attack(
    *,
    patients: Annotated[int, typer.Option(min=20, help="Simulated patients, one board each.")] = 112,
    gateways: Annotated[int, typer.Option(min=1, help="Gateways they are at.")] = 4,
    persons: Annotated[int, typer.Option(min=2, help="Persons whose recordings they are cut from.")] = 14,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of learning.")] = 60,
    shares: Annotated[str, typer.Option(help="Hostile shares of the patients, in percent.")] = "5,10,20,30",
    cell: Annotated[int, typer.Option(min=5, help="Patients of a cell.")] = 12,
    seed: Annotated[int, typer.Option(help="Who is hostile, who is held out, how cells fall.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    minutes: Annotated[float, typer.Option(help="How much of each recording.")] = 30.0,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Invented beats, also where there are some.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a figure there (PNG).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate attackers against each aggregator, on persons the model never saw, and a gateway that lies."""
    from qepa_server.robust.choice import Rule  # noqa: PLC0415  # commands load only what they need

    from .attackers import Attack  # noqa: PLC0415
    from .lying_gateway import LIES, lying_gateway  # noqa: PLC0415
    from .report import draw, lies_table, record, table  # noqa: PLC0415
    from .study import StudySettings, run_study, scenarios  # noqa: PLC0415

    try:
        wanted = scenarios(Attack, _shares(shares), list(Rule))
        settings = StudySettings(seed=seed, cell_target=cell, min_group=max(5, cell - 2))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            reading = progress.add_task("beats", total=None)
            ward = _ward(data, synthetic, patients, gateways, persons, rounds, minutes, seed)
            progress.remove_task(reading)
            learning = progress.add_task("rounds", total=rounds)
            results = run_study(ward, wanted, settings, lambda n: progress.advance(learning, n))
            lying = progress.add_task("lies", total=len(LIES))
            lies = lying_gateway(40, seed, lambda n: progress.advance(lying, n))
        if plot is not None:
            draw(results, ward, plot)
    except (ToolError, OSError) as error:
        fail(error)
    if as_json:
        print(json.dumps(record(results, lies, ward)))
        return
    console = Console()
    console.print(table(results, ward))
    console.print(lies_table(lies))


def _shares(text: str) -> list[float]:
    try:
        found = [float(part) / 100 for part in text.split(",")]
    except ValueError as error:
        raise ToolError(f"{text[:40]!r} is no list of shares in percent, as 5,10,30.") from error
    if not all(0 < share < 0.5 for share in found):
        raise ToolError("A hostile share is above 0 and below 50 percent.")
    return found


def _ward(
    data: Path | None,
    synthetic: bool,
    patients: int,
    gateways: int,
    persons: int,
    rounds: int,
    minutes: float,
    seed: int,
) -> "SimulatedWard":
    from ..recordings.physionet import load_all  # noqa: PLC0415
    from ..recordings.places import find_data  # noqa: PLC0415
    from .ward import default_cache, recorded_ward, synthetic_ward  # noqa: PLC0415

    found = None if synthetic else find_data(data)
    if found is None:
        return synthetic_ward(patients=patients, gateways=gateways, rounds=rounds, seed=seed)
    return recorded_ward(
        load_all(found),
        default_cache(),
        persons=persons,
        patients=patients,
        gateways=gateways,
        rounds=rounds,
        minutes=minutes,
        seed=seed,
    )
