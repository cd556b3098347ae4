"""``qepa model``: which models are where; pushed and taken back under a person's signature."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table

from ..command_line import JsonOption, fail, folded, show_table
from ..errors import ToolError
from ..evaluation.cli import CACHE
from ..evaluation.cli import evaluate as judge
from ..order_options import DEFAULT_IDENTITY, DEFAULT_SERVER, IdentityOption, ReasonOption, ServerOption

if TYPE_CHECKING:
    from .desk import ReleaseDesk

app = typer.Typer(no_args_is_help=True, help="Models of boards and gateways: versions, cards, releases.")

NameArgument = Annotated[str, typer.Argument(help="board, or a model of the gateways: ecg-beats, ecg-quality, ...")]
_EVERY_S = 2.0


@app.command("list")
def list_models(
    *,
    server: ServerOption = DEFAULT_SERVER,
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing it until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the newest version of each model, and how far it is at each gateway."""
    with _desk(server) as desk:
        if as_json:
            print(json.dumps({"models": desk.lines()}))
            return
        if not follow:
            show_table(_lines(desk.lines()))
            return
        with Live(_lines(desk.lines()), console=Console()) as live:
            try:
                while True:
                    time.sleep(_EVERY_S)
                    live.update(_lines(desk.lines()))
            except KeyboardInterrupt:
                return


@app.command()
def show(
    name: NameArgument,
    version: Annotated[int, typer.Argument(min=0, help="Which; 0 is the newest.")] = 0,
    *,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show a version's card: what was measured, on whom, and what is not known."""
    with _desk(server) as desk:
        if as_json:
            print(json.dumps(desk.card(name, version) | {"versions": desk.history(name)}))
            return
        Console().print(Markdown(desk.page(name, version)))
        table = Table("version", "state", "origin", "made", "why", box=None)
        for each in desk.history(name):
            made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(each["created_ms"] / 1000))
            table.add_row(f"v{each['version']}", each["state"], each["origin"], made, each["reason"])
        show_table(table)


@app.command()
def evaluate(
    name: NameArgument = "board",
    *,
    version: Annotated[int, typer.Option(min=0, help="Which; 0 is the newest.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    records: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write report.html and plots (PNG) there.")] = None,
    cache: Annotated[Path, typer.Option(help="Where computed features are kept.")] = CACHE,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Judge a version that the server holds on recordings, as `qepa evaluate` does."""
    if name != "board":
        fail("recordings judge the board's model; figures of the others are on their cards (qepa model show).")
    from qepa_wire.model import decode_model  # noqa: PLC0415  # commands load only what they need

    from ..evaluation.model import BoardModel, save_model  # noqa: PLC0415

    with _desk(server) as desk, tempfile.TemporaryDirectory() as folder:
        about = desk.card(name, version)
        model = decode_model(desk.blob(name, about["version"]))
        # What was learned in the ward began as another version: whom that had seen must not judge this one either.
        measured = desk.card(name, about["began"] or about["version"])["card"].get("measured", {})
        seen = frozenset(measured.get("trained_on", ()))
        path = Path(folder) / f"board-v{model.version}.json"
        save_model(path, BoardModel(words=tuple(model.words), hidden=model.hidden, trained_on=seen, card=measured))
        judge(data=data, records=records, model=str(path), out=out, cache=cache, as_json=as_json)


@app.command()
def push(
    file: Annotated[Path, typer.Argument(help="A board's model (JSON), or NAME.tflite with its card NAME.json.")],
    *,
    reason: ReasonOption = "",
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file; sign nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a model and hand it to the server: one board or gateway tries it, then all get it."""
    from .files import read_model  # noqa: PLC0415

    with _desk(server, identity) as desk:
        found = read_model(file)
        done: dict[str, Any] = {"name": found.name, "bytes": len(found.blob), "dry_run": dry_run}
        if not dry_run:
            done |= desk.push(found.name, found.blob, found.card, reason)
        if as_json:
            print(json.dumps(done))
        elif dry_run:
            print(f"{file} fits {found.name}; nothing was signed.")
        else:
            print(f"{found.name} is version {done['version']} now; one tries it first: qepa model list --follow")


@app.command()
def rollback(
    name: NameArgument,
    *,
    to: Annotated[int, typer.Option(min=0, help="Version to go back to; 0: the last one that held.")] = 0,
    reason: ReasonOption = "",
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    as_json: JsonOption = False,
) -> None:
    """Take the newest version back: its forerunner is released again under a new number."""
    with _desk(server, identity) as desk:
        made = desk.roll_back(name, to, reason)
        if as_json:
            print(json.dumps(made))
        else:
            print(f"{name} goes back as version {made['version']}; what came between is withdrawn.")


@contextmanager
def _desk(server: str, identity: Path | None = None) -> "Iterator[ReleaseDesk]":
    from .desk import ReleaseDesk  # noqa: PLC0415

    try:
        yield ReleaseDesk(server, identity)
    except ToolError as error:
        fail(error)


def _lines(lines: list[dict[str, Any]]) -> Table:
    table = Table("model", "version", "state", "origin", "gateway", "there", "boards with it", "why", box=None)
    for line in lines:
        first = (line["name"], f"v{line['version']}", line["state"], line["origin"])
        why = line["reason"]
        for each in line["gateways"] or [None]:
            table.add_row(*first, *_at(each), why)
            first, why = ("", "", "", ""), ""
    return folded(table)


def _at(each: dict[str, Any] | None) -> tuple[str, str, str]:
    if each is None:
        return "--", "--", "--"
    version = "--" if each["version"] is None else f"v{each['version']}"
    there = " ".join(filter(None, (version, each["stage"], each.get("refused"))))
    if each.get("errors"):
        there += f", {each['errors']} errors"
    boards = f"{each['with_it']} of {each['boards']}" if "boards" in each else ""
    return each["gateway"], there, boards
