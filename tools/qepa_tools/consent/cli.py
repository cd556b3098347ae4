"""``qepa consent``: what a patient allows, and takes back."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.table import Table

from ..board.options import board_number
from ..command_line import JsonOption, fail, show_table
from ..errors import ToolError

if TYPE_CHECKING:
    from .desk import ConsentDesk

app = typer.Typer(no_args_is_help=True, help="The consent desk: what patients allow, signed, and taken back.")

_DAY_S = 86400
_HTTP_TIMEOUT_S = 30.0
T = TypeVar("T")

PatientArgument = Annotated[str, typer.Argument(help="The patient, as boards were enrolled for.")]
ServerOption = Annotated[str, typer.Option(help="The server's API.")]
IdentityOption = Annotated[Path, typer.Option(help="Keys and certificate of this desk (role consent).")]
DEFAULT_SERVER = "http://127.0.0.1:8080"
DEFAULT_IDENTITY = Path("consent.json")


@app.command()
def give(
    patient: PatientArgument,
    *,
    purpose: Annotated[
        Literal["care", "statistics", "learning"], typer.Option(help="care is live monitoring; the others are sums.")
    ] = "care",
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it holds.")] = 30,
    board: Annotated[
        list[int] | None, typer.Option(parser=board_number, help="Board it covers (repeatable; default: all of them).")
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be signed; sign nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a patient's consent and hand it to the server."""

    async def sign(desk: "ConsentDesk") -> dict[str, Any]:
        boards = tuple(board or ()) or await desk.boards_of(patient)
        if not boards:
            raise ToolError(f"the server knows no board of {patient}")
        covers = [f"{number:08x}" for number in boards]
        if dry_run:
            return {"consent_id": None, "boards": covers}
        consent_id = await desk.consent(patient, boards, valid_s=days * _DAY_S, purpose=purpose)
        return {"consent_id": consent_id.hex(), "boards": covers}

    done = _at_desk(server, identity, sign) | {"patient": patient, "purpose": purpose, "days": days}
    if as_json:
        print(json.dumps(done))
        return
    verb = "would allow" if dry_run else "allows"
    print(f"{patient} {verb} {purpose} for {days} days: boards {', '.join(done['boards'])}.")
    if not dry_run:
        print(f"Consent {done['consent_id']}; to take it back: qepa consent withdraw {done['consent_id']}")


@app.command()
def withdraw(
    consent_id: Annotated[str, typer.Argument(help="Which consent (`qepa consent show PATIENT`).")],
    *,
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    as_json: JsonOption = False,
) -> None:
    """Take a consent back, for good; docs/privacy.md says what that means for sums that were opened."""
    try:
        number = bytes.fromhex(consent_id)
    except ValueError:
        number = b""
    if len(number) != 16:
        fail(f"{consent_id} is no consent: 32 hexadecimal digits are.")
    _at_desk(server, identity, lambda desk: desk.withdraw(number))
    print(
        json.dumps({"consent_id": number.hex(), "withdrawn": True}) if as_json else f"Consent {number.hex()} is over."
    )


@app.command()
def show(
    patient: PatientArgument,
    *,
    server: ServerOption = DEFAULT_SERVER,
    identity: IdentityOption = DEFAULT_IDENTITY,
    as_json: JsonOption = False,
) -> None:
    """Show all that a patient ever signed."""
    signed = _at_desk(server, identity, lambda desk: desk.signed(patient))
    if as_json:
        print(json.dumps({"patient": patient, "consents": signed}))
        return
    table = Table("consent", "purpose", "boards", "from", "to", "now", box=None)
    for each in signed:
        state = "in force" if each["in_force"] else "over" if each["withdrawn_ms"] is None else "withdrawn"
        day = [time.strftime("%Y-%m-%d", time.gmtime(each[name])) for name in ("not_before_s", "not_after_s")]
        table.add_row(each["consent_id"], each["purpose"], " ".join(each["boards"]), *day, state)
    show_table(table)


def _at_desk(server: str, identity: Path, act: "Callable[[ConsentDesk], Awaitable[T]]") -> T:
    import httpx  # noqa: PLC0415  # commands load only what they need

    from qepa_uplink.errors import UplinkError  # noqa: PLC0415
    from qepa_uplink.identity import Identity  # noqa: PLC0415

    from .desk import ConsentDesk  # noqa: PLC0415

    async def visit() -> T:
        async with httpx.AsyncClient(base_url=server, timeout=_HTTP_TIMEOUT_S) as http:
            return await act(ConsentDesk(Identity.load(identity), http))

    try:
        return asyncio.run(visit())
    except (ToolError, UplinkError) as error:
        fail(error)
