"""``qepa audit``: the server's log, without the server, and what learning tells about patients."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..command_line import JsonOption, fail
from ..errors import ToolError
from ..leakage.cli import privacy

app = typer.Typer(no_args_is_help=True, help="The server's audit log, and what learning tells of patients.")
app.command()(privacy)

LogArgument = Annotated[Path, typer.Argument(help="Exported log, or a server's state directory.")]
RootOption = Annotated[Path | None, typer.Option("--root", help="The offline root's public key.")]


def _root_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ToolError(f"Cannot read the root key {path}: {error.strerror}.") from error


@app.command()
def verify(
    log: LogArgument,
    *,
    root: RootOption = None,
    head: Annotated[list[str] | None, typer.Option("--head", help="SEQ:HASH as the server printed it.")] = None,
    anchor: Annotated[list[Path] | None, typer.Option("--anchor", help="Head that somebody countersigned.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check chain, signatures, and that nothing noted elsewhere is gone. Ends with 1 if the log is broken.

    With --root, heads that gateways countersigned are compared too, those that the server stores among them.
    """
    from qepa_server.audit.verification import verify_log  # noqa: PLC0415  # commands load only what they need
    from qepa_server.errors import AuditError  # noqa: PLC0415

    from .log_file import parse_head, read_anchor, read_log, verify_anchor  # noqa: PLC0415

    try:
        root_key = None if root is None else _root_key(root)
        noted = [parse_head(text) for text in head or ()]
        if anchor and root_key is None:
            raise ToolError("A countersigned head needs --root: without it anybody could have signed.")
        anchors = [read_anchor(path, root_key or b"") for path in anchor or ()]
        found = read_log(log)
    except ToolError as error:
        fail(error)
    try:
        try:
            anchors += [verify_anchor(record, root_key, "the log itself") for record in found.anchors if root_key]
        except ToolError as error:
            raise AuditError("audit", str(error)) from error
        report = verify_log(
            found.entries,
            found.seals,
            found.certificates,
            root_key=root_key,
            noted=[*noted, *(each for each, _ in anchors)],
        )
    except AuditError as error:
        if as_json:
            print(json.dumps({"whole": False, "reason": error.detail}))
        else:
            Console().print(f"[red]broken[/]: {error.detail}")
        raise typer.Exit(1) from error
    events = Counter(entry.event for entry in found.entries)
    result = {
        "whole": True,
        "entries": report.entries,
        "signatures": report.signatures,
        "signed_until": report.signed_until,
        "signatures_checked": root_key is not None,
        "heads_compared": len(noted) + len(anchors),
        "countersigned_by": sorted({name for _, name in anchors}),
        "head": str(report.head),
        "events": dict(sorted(events.items())),
    }
    if as_json:
        print(json.dumps(result))
        return
    _say(result)


def _say(result: dict[str, object]) -> None:
    console = Console(highlight=False)
    console.print(f"[green]whole[/]: {result['entries']} entries, {result['signatures']} signatures")
    if not result["signatures_checked"]:
        console.print("[yellow]no signature was checked[/]: name the root's public key with --root")
    if not result["heads_compared"]:
        console.print(
            "[yellow]a log that was cut off would pass[/]: compare with a head that was kept (--head, --anchor)"
        )
    console.print(f"head {result['head']}", soft_wrap=True)


@app.command()
def export(log: LogArgument) -> None:
    """Write the log to standard output, one JSON object a line, as `verify` reads it."""
    from .log_file import read_log  # noqa: PLC0415

    try:
        found = read_log(log)
    except ToolError as error:
        fail(error)
    for line in found.lines():
        print(line)


@app.command()
def countersign(
    log: LogArgument,
    identity: Annotated[Path, typer.Option("--identity", help="Keys of a gateway, dock or consent desk.")],
) -> None:
    """Sign the head with another party's key, for `verify --anchor`: keep it away from the server."""
    from qepa_server.audit.verification import verify_log  # noqa: PLC0415
    from qepa_server.errors import AuditError  # noqa: PLC0415
    from qepa_uplink.errors import UplinkError  # noqa: PLC0415
    from qepa_uplink.identity import Identity  # noqa: PLC0415

    from .log_file import anchor, read_log  # noqa: PLC0415

    try:
        found = read_log(log)
        report = verify_log(found.entries, found.seals, found.certificates, root_key=None)
        print(anchor(report.head, Identity.load(identity)))
    except (ToolError, AuditError, UplinkError) as error:
        fail(error)
