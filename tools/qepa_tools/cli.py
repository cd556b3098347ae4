"""The ``qepa`` command."""

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .attacks.cli import attack
from .audit.cli import app as audit_app
from .board.cli import app as board_app
from .command_line import Commands, JsonOption, fail, show_table
from .consent.cli import app as consent_app
from .errors import ToolError
from .evaluation.cli import evaluate
from .explanation.cli import explain
from .kme.cli import app as kme_app
from .link.cli import app as link_app
from .model.cli import app as model_app
from .privacy.cli import app as privacy_app
from .quarantine.cli import app as quarantine_app
from .root.cli import app as root_app
from .simulation.cli import simulate
from .training.cli import app as train_app

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    help="QEPA: boards encrypt, a gateway adds, a server opens only sums. `qepa ward` shows it all on one machine.",
    pretty_exceptions_enable=False,
)
gateway_app = typer.Typer(no_args_is_help=True, help="The gateway daemon at the bedside.")
server_app = typer.Typer(no_args_is_help=True, help="The hospital server.")
app.add_typer(gateway_app, name="gateway")
app.add_typer(server_app, name="server")
app.add_typer(link_app, name="link")
app.add_typer(board_app, name="board")
app.add_typer(kme_app, name="kme")
app.add_typer(consent_app, name="consent")
app.add_typer(privacy_app, name="privacy")
app.add_typer(audit_app, name="audit")
app.add_typer(train_app, name="train")
app.add_typer(root_app, name="root")
app.add_typer(model_app, name="model")
app.add_typer(quarantine_app, name="quarantine")
simulate_app = typer.Typer(help="What no bench can show, simulated and labelled as such.")
simulate_app.callback(invoke_without_command=True)(simulate)
simulate_app.command("attack")(attack)
app.command("evaluate")(evaluate)
app.command("explain")(explain)
app.add_typer(simulate_app, name="simulate")

ConfigOption = Annotated[Path, typer.Option("--config", help="Configuration file (TOML).")]


class Benchmark(StrEnum):
    """Names of the benchmarks."""

    LIGHTHE = "lighthe"
    LINK = "link"
    GATEWAY = "gateway"
    BOARD = "board"
    LEARNING = "learning"


@app.command()
def ward(
    *,
    boards: Annotated[int, typer.Option(help="Virtual boards, one patient each.")] = 12,
    gateways: Annotated[int, typer.Option(help="Gateways, each with its own optical link.")] = 1,
    rounds: Annotated[int, typer.Option(help="End after so many rounds; 0 runs until Ctrl-C.")] = 0,
    speed: Annotated[float, typer.Option(help="Times real time.")] = 1.0,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    seed: Annotated[int, typer.Option(help="Which patients, where their recordings start, the link's noise.")] = 1,
    period: Annotated[float, typer.Option(help="Seconds of ward time between rounds.")] = 30.0,
    mains: Annotated[int, typer.Option(help="Mains frequency where the data was recorded, Hz.")] = 60,
    hidden: Annotated[int, typer.Option(help="Hidden units of the model; 0: softmax regression.")] = 0,
    state: Annotated[Path | None, typer.Option(help="Folder that survives restarts.")] = None,
    unplug: Annotated[str | None, typer.Option(help="BOARD@ROUND: that board loses power in that round.")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the ward page on 127.0.0.1.")] = True,
    page_port: Annotated[int, typer.Option(help="Port of the page.")] = 8470,
    as_json: JsonOption = False,
) -> None:
    """Run a whole ward on this machine: real recordings, real firmware, a virtual optical link."""
    from .ward.plan import Unplug, WardPlan  # noqa: PLC0415  # commands load only what they need
    from .ward.run import run_ward  # noqa: PLC0415

    try:
        plan = WardPlan(
            boards=boards,
            gateways=gateways,
            rounds=rounds,
            speed=speed,
            data=data,
            seed=seed,
            period_s=period,
            mains_hz=mains,
            hidden=hidden,
            state=state,
            unplug=Unplug.parse(unplug) if unplug else None,
            page_port=page_port if page else None,
        )
        code = run_ward(plan, as_json=as_json)
    except ToolError as error:
        fail(error)
    raise typer.Exit(code)


@gateway_app.command("run")
def gateway_run(config: ConfigOption) -> None:
    """Run a gateway until it is stopped."""
    from qepa_gateway.main import run  # noqa: PLC0415

    raise typer.Exit(run(config))


@server_app.command("run")
def server_run(config: ConfigOption) -> None:
    """Run the server until it is stopped."""
    from qepa_server.main import run  # noqa: PLC0415

    raise typer.Exit(run(config))


@app.command()
def doctor(
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records.")] = None, as_json: JsonOption = False
) -> None:
    """Say what this machine lacks and how to get it. Ends with 1 if the ward could not run."""
    from dataclasses import asdict  # noqa: PLC0415

    from .doctor import examine  # noqa: PLC0415

    findings = examine(data)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        marks = {"ok": "[green]ok[/]", "optional": "[yellow]optional[/]", "missing": "[red]missing[/]"}
        table = Table("what", "", "found", "to do", box=None)
        for finding in findings:
            table.add_row(finding.what, marks[finding.verdict], finding.found, finding.remedy)
        show_table(table)
    raise typer.Exit(any(finding.verdict == "missing" for finding in findings))


@app.command()
def bench(
    name: Annotated[Benchmark | None, typer.Argument(help="Which; all there are if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for plots.")] = None,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records, of learning.")] = None,
    write: Annotated[Path | None, typer.Option(help="Document whose tables are replaced: server/LEARNING.md.")] = None,
    chapter: Annotated[str, typer.Option(help="Only this chapter of learning.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure, as ratios against a peer or the machine's own limit in the same run."""
    from .benchmarks import board, gateway, learning, lighthe, link  # noqa: PLC0415

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    measuring = progress.add_task("measuring ...", total=None)

    def say(what: str) -> None:
        progress.update(measuring, description=f"measuring: {what}")

    def advanced(done: int, every: int) -> None:
        progress.update(measuring, completed=done, total=every)

    known: dict[Benchmark, Callable[[], dict[str, object]]] = {
        Benchmark.LIGHTHE: lambda: lighthe.run(say, out),
        Benchmark.GATEWAY: lambda: gateway.run(say),
        Benchmark.BOARD: board.run,
        Benchmark.LINK: link.run,
        Benchmark.LEARNING: lambda: learning.run(say, data, write, chapter, advanced),
    }
    wanted = [name] if name is not None else list(known)
    try:
        with progress:
            results = [known[each]() for each in wanted]
    except ToolError as error:
        fail(error)
    if as_json:
        print(json.dumps(results[0] if name is not None else results))
    else:
        for result in results:
            for table in _bench_tables(result):
                show_table(table)
            for sentence in result.get("missing", ()):  # type: ignore[attr-defined]  # a list of strings
                Console().print(f"not compared: {sentence}")
    failed = [sentence for result in results for sentence in result.get("failed", ())]  # type: ignore[attr-defined]
    if failed:
        print("\n".join(f"qepa: {sentence}" for sentence in failed), file=sys.stderr)
        raise typer.Exit(1)


def _bench_tables(result: dict[str, object]) -> list[Table]:
    """Lists of rows become tables, numbers the caption of the first."""
    numbers = {key: value for key, value in result.items() if isinstance(value, float | int)}
    caption = ", ".join(f"{key} {value:,.0f}" for key, value in numbers.items())
    tables = []
    for name, rows in result.items():
        if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
            continue
        title, below = (str(result["what"]), caption) if name == "rows" else (name, None)
        table = Table(*rows[0], title=title, caption=below)
        for row in rows:
            table.add_row(*(f"{value:,.3f}" if isinstance(value, float) else str(value) for value in row.values()))
        tables.append(table)
    return tables


if __name__ == "__main__":
    app()
