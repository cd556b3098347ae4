"""``qepa audit privacy``."""

import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from ..command_line import JsonOption, fail
from ..errors import ToolError


def privacy(
    *,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    epsilon: Annotated[str, typer.Option(help="Budgets, separated by commas; 0: no protection.")] = "0,8,3,1",
    shadows: Annotated[int, typer.Option(help="Shadow worlds of the ward; of people four times as many.")] = 96,
    rounds: Annotated[int, typer.Option(help="Rounds of learning, which a budget is to last.")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the work: for a look.")] = False,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Invented beats, also where there are some.")] = False,
    seed: Annotated[int, typer.Option(help="Who is a member where, and all noise.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write report.json, report.html and plots there.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Sign the report with these keys (ML-DSA-65).")] = None,
    verify: Annotated[Path | None, typer.Option(help="Check a report instead; needs --root.")] = None,
    root: Annotated[Path | None, typer.Option(help="The offline root's public key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Attack learning as the ward does it: who was in, what of beats comes back, and is epsilon what is claimed.

    Takes minutes. Ends with 1 if a lower bound refutes an epsilon that is claimed.
    """
    if verify is not None:
        _verify(verify, root, as_json)
        return
    from qepa_uplink.errors import UplinkError  # noqa: PLC0415  # commands load only what they need
    from qepa_uplink.identity import Identity  # noqa: PLC0415

    from .plots import draw_all  # noqa: PLC0415
    from .report import facts_of, write_report  # noqa: PLC0415
    from .study import AuditSettings, run_audit  # noqa: PLC0415
    from .tables import goal_lines, tables  # noqa: PLC0415
    from .wards import Size, audited_wards  # noqa: PLC0415

    try:
        if shadows < 24 or rounds < 1:
            raise ToolError("--shadows has to be 24 at least, --rounds 1.")
        if identity is not None and out is None:
            raise ToolError("--identity signs the report that --out writes: name a directory.")
        signer = None if identity is None else Identity.load(identity)
        size = Size(worlds=shadows, people_worlds=4 * shadows, rounds=rounds)
        asked = AuditSettings(epsilons=_epsilons(epsilon), rounds=rounds, seed=seed)
        if quick:
            size = size.quick()
            asked = asked.quick()
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            reading = progress.add_task("beats as the board finds them", total=None)
            wards, source = audited_wards(data, size, seed, synthetic=synthetic)
            progress.remove_task(reading)
            audit = run_audit(wards, asked, _begin(progress))
        facts = facts_of(
            audit,
            source=source,
            size=size,
            asked=asked,
            versions={name: version(name) for name in ("qepa", "numpy", "scipy", "dp-accounting")}
            | {"python": platform.python_version()},
            made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        path = None if out is None else write_report(out, facts, audit, draw_all(audit), signer)
    except (ToolError, UplinkError, ValueError, OSError) as error:
        fail(error)
    if as_json:
        print(json.dumps({**facts, "signed": signer is not None}))
    else:
        print("\n\n".join([*(table.text() for table in tables(audit).values()), *goal_lines(audit)]))
        if path is not None:
            print(f"\n{path}: {f'signed by {signer.name}' if signer else 'UNSIGNED, name keys with --identity'}")
    if not all(each.holds for each in audit.bounds):
        raise typer.Exit(1)


def _begin(progress: Progress) -> Callable[[str, int], Callable[[int], None]]:
    def begin(what: str, steps: int) -> Callable[[int], None]:
        task = progress.add_task(what, total=steps)
        return lambda done: progress.advance(task, done)

    return begin


def _epsilons(text: str) -> tuple[float, ...]:
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 <= each <= 100 for each in found):
        raise ToolError(f"{text[:40]!r} is no list of budgets from 0 to 100, as 0,8,3,1.")
    return found


def _verify(report: Path, root: Path | None, as_json: bool) -> None:
    from .report import verify_report  # noqa: PLC0415

    try:
        if root is None:
            raise ToolError("--verify needs --root: without it anybody could have signed.")
        try:
            key = root.read_bytes()
        except OSError as error:
            raise ToolError(f"Cannot read the root key {root}: {error.strerror}.") from error
        facts, subject = verify_report(report, key)
    except ToolError as error:
        if as_json:
            print(json.dumps({"holds": False, "reason": str(error)}))
            raise typer.Exit(1) from error
        fail(error)
    found = {"holds": True, "signed_by": subject.name, "role": subject.role, "made_at": facts["made_at"]}
    if as_json:
        print(json.dumps({**found, "files": sorted(facts["files"])}))
        return
    Console(highlight=False).print(
        f"[green]holds[/]: signed by {subject.name} ({subject.role}), made {facts['made_at']}; "
        f"{len(facts['files'])} files beside it are what was signed"
    )
