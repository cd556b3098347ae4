"""``qepa quarantine``: who has no part in sums; let in again under a person's signature."""

import json
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from ..command_line import JsonOption, fail
from ..errors import ToolError
from ..order_options import DEFAULT_IDENTITY, DEFAULT_SERVER, IdentityOption, ReasonOption, ServerOption

app = typer.Typer(no_args_is_help=True, help="Patients and gateways that have no part in sums.")


@app.command("list")
def list_held(*, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Show who is quarantined, and why."""
    from ..orders import OrderDesk  # noqa: PLC0415  # commands load only what they need

    try:
        held = OrderDesk(server).ask("GET", "/api/state").json()["quarantines"]
    except ToolError as error:
        fail(error)
    if as_json:
        print(json.dumps({"quarantines": held}))
        return
    table = Table("kind", "name", "since round", "why", box=None)
    for each in held:
        table.add_row(each["kind"], each["name"], str(each["round"]), each["sentence"])
    Console().print(table if held else "Nobody is quarantined.")


@app.command()
def end(
    kind: Annotated[Literal["patient", "gateway"], typer.Argument(help="Which of the two it is.")],
    name: Annotated[str, typer.Argument(help="Who.")],
    *,
    reason: ReasonOption = "",
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    as_json: JsonOption = False,
) -> None:
    """Let a patient or gateway take part in sums again; older evidence counts no more."""
    from qepa_uplink.releases import QuarantineOrder  # noqa: PLC0415

    from ..orders import OrderDesk  # noqa: PLC0415

    try:
        desk = OrderDesk(server, identity)
        done = desk.post("/v1/quarantines", desk.sign(QuarantineOrder, kind=kind, name=name, reason=reason))
    except ToolError as error:
        fail(error)
    print(json.dumps(done) if as_json else f"The {kind} {name} takes part in sums again.")
