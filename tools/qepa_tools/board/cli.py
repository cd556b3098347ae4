"""`qepa board`: flash, provision, dock, update, replace, doctor, inventory, virtual, and firmware bundles."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from ..board_budget.command import budget
from ..command_line import JsonOption, show_table
from ..errors import ToolError
from ..firmware_build.cli import build, keygen, sign
from ..order_options import DEFAULT_IDENTITY, IdentityOption, ReasonOption
from . import options
from .options import chosen_port, content

app = typer.Typer(no_args_is_help=True, help="Wearable boards: flash, provision, dock, update, replace.")
app.command()(build)
app.command()(sign)
app.command()(keygen)
app.command()(budget)


_CA_TOO_YOUNG = (
    "[yellow]The broker's authority is not valid in 1970, where a board's clock starts:[/] unless its boot.py sets the "
    "clock, the board will refuse the broker."
)


@app.command()
def flash(
    *,
    port: options.Port = None,
    serial: options.Serial = None,
    image: Annotated[Path | None, typer.Option(help="MicroPython for this chip (.bin).")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the image, from whom you trust.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Firmware bundle (qepa board build).")] = None,
    profile: Annotated[str | None, typer.Option(help="Sensor set in hardware/wearable/pinmap.toml.")] = None,
    erase_keys: Annotated[bool, typer.Option("--erase-keys", help="Erase its files, after a backup.")] = False,
    passphrase_file: Annotated[Path | None, typer.Option(help="Seal the backup with what this file holds.")] = None,
    station: Annotated[Path | None, typer.Option(help="Settings of the key dock: whose bedside to ask.")] = None,
    wait: options.Wait = 20.0,
    label: options.Label = None,
    directory: options.Directory = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Write MicroPython and firmware; keys are backed up first and stay. Cut off, the same command goes on."""
    from ..firmware_build.bundle import read_bundle  # noqa: PLC0415
    from .esp_image import read_image  # noqa: PLC0415
    from .flashing import FlashPlan, finish  # noqa: PLC0415
    from .flashing import flash as carry_out  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .station import load_station  # noqa: PLC0415

    with options.screen(as_json) as screen:
        if (image is None) != (sha256 is None):
            raise ToolError("an image comes with its SHA-256: give both --image and --sha256.")
        inventory, settings = Inventory(directory), None if station is None else load_station(station)
        plan = FlashPlan(
            port=chosen_port(port, serial),
            image=None if image is None else read_image(content(image), sha256 or ""),
            bundle=None if bundle is None else read_bundle(bundle),
            profile=profile,
            erase_keys=erase_keys,
            dry_run=dry_run,
            passphrase=None if passphrase_file is None else content(passphrase_file).decode().strip(),
        )
        done = carry_out(plan, inventory, screen)
        if not dry_run and bundle is not None:
            done |= finish(plan.port, done["chip"], inventory, screen, wait_s=wait, label=label, station=settings)
        screen.result(done)


@app.command()
def provision(
    *,
    station: options.Station,
    board: options.Number,
    patient: Annotated[str, typer.Option(help="Pseudonym of who wears it.")],
    gateway: Annotated[str, typer.Option(help="Gateway at that bedside.")],
    suite: Annotated[str, typer.Option(help="Link masks: aes256, or otp while it has blocks.")] = "aes256",
    patient_boards: Annotated[int, typer.Option(min=1, help="Boards that this patient wears, this one too.")] = 1,
    broker_ca: Annotated[Path | None, typer.Option(help="TLS to the broker, by this authority (PEM).")] = None,
    broker_user: Annotated[str | None, typer.Option(help="User at the broker.")] = None,
    broker_password_file: Annotated[Path | None, typer.Option(help="Its password; else it is asked for.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Also if it is provisioned: its end key ends.")] = False,
    port: options.Port = None,
    serial: options.Serial = None,
    wait: options.Wait = 20.0,
    label: options.Label = None,
    directory: options.Directory = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Enrol a board with the server and give it its identity, over the cable."""
    from .flashing import finish  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .provisioning import Enrolment  # noqa: PLC0415
    from .provisioning import provision as carry_out  # noqa: PLC0415
    from .session import BoardSession  # noqa: PLC0415
    from .station import load_station  # noqa: PLC0415

    with options.screen(as_json) as screen:
        inventory, chosen = Inventory(directory), chosen_port(port, serial)
        enrolment = Enrolment(board, patient, gateway, renew, suite, patient_boards)
        settings = load_station(station).with_broker(ca=broker_ca, user=broker_user, password_file=broker_password_file)
        password = options.asked_password(settings.broker)
        with BoardSession(chosen) as session:
            done = carry_out(session, settings, enrolment, inventory, password=password, dry_run=dry_run)
            if done["ca_too_young"]:
                screen.say(_CA_TOO_YOUNG)
            screen.say(f"Board {board:08x} of {gateway} {'would be' if dry_run else 'is'} enrolled.")
            session.reset()
        if not dry_run:
            done |= finish(chosen, done["chip"], inventory, screen, wait_s=wait, label=label, station=settings)
        screen.result(done | {"dry_run": dry_run})


@app.command()
def dock(
    *,
    station: options.Station,
    pads: Annotated[int, typer.Option(min=0, help="Pads to load: link keys of 32 bytes.")] = 64,
    blocks: Annotated[int, typer.Option(min=0, help="One-time blocks to load, for alerts and suite otp.")] = 0,
    block_bytes: Annotated[int, typer.Option(help="Bytes of a block, at most a key of Alice's KME.")] = 1024,
    port: options.Port = None,
    serial: options.Serial = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Load quantum key from Alice's key management entity onto a board, over the cable."""
    from .provisioning import KeyLoad, load_keys  # noqa: PLC0415
    from .session import BoardSession  # noqa: PLC0415
    from .station import load_station  # noqa: PLC0415

    with options.screen(as_json) as screen:
        load, settings = KeyLoad(pads=pads, blocks=blocks, block_bytes=block_bytes), load_station(station)
        with BoardSession(chosen_port(port, serial)) as session:
            done = load_keys(session, settings, load, dry_run=dry_run)
            session.reset()
        for key, what in (("pads", "pads"), ("block_bytes", "bytes of one-time blocks")):
            before = done[f"{key}_before"]
            screen.say(f"Board {done['board']:08x}: {before:,} {what} before, {done.get(key, before):,} now.")
        screen.result(done | {"dry_run": dry_run})


@app.command()
def update(
    bundle: Annotated[Path, typer.Argument(help="Signed firmware bundle.")],
    *,
    port: options.Port = None,
    serial: options.Serial = None,
    directory: options.Directory = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Send a signed release into the slot not in use; the board tries it, and goes back if it does not work."""
    from ..firmware_build.bundle import read_bundle  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .session import BoardSession  # noqa: PLC0415
    from .updating import update as carry_out  # noqa: PLC0415

    with options.screen(as_json) as screen, BoardSession(chosen_port(port, serial)) as session:
        chip = session.who()["id"]
        done = carry_out(session, read_bundle(bundle), screen, dry_run=dry_run)
        session.reset()
        if dry_run:
            screen.say(f"Would go from version {done['from']} to {done['to']}; nothing was written.")
        else:
            Inventory(directory).note(chip, version=done["version"], seen_s=int(time.time()))
            screen.say(f"Version {done['to']} is on trial in slot {done['slot']}; qepa board doctor tells how it went.")
        screen.result(done | {"dry_run": dry_run})


@app.command()
def release(
    bundle: Annotated[Path, typer.Argument(help="Signed firmware bundle.")],
    *,
    station: options.Station,
    board: Annotated[
        list[int] | None, typer.Option(parser=options.board_number, help="Only this one (again for more).")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Name of the line it belongs to: by default target and sensors.")
    ] = None,
    reason: ReasonOption = "",
    identity: IdentityOption = DEFAULT_IDENTITY,
    directory: options.Directory = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Sign an order to release a bundle to all boards of the inventory that it fits: one first, then the others."""
    from ..firmware_build.bundle import read_bundle  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .releasing import release as carry_out  # noqa: PLC0415
    from .station import load_station  # noqa: PLC0415

    with options.screen(as_json) as screen:
        done = carry_out(
            read_bundle(bundle),
            bundle,
            load_station(station),
            Inventory(directory).boards(),
            identity,
            reason=reason,
            only=board,
            kind=kind,
            dry_run=dry_run,
        )
        for_whom = f"{len(done['boards'])} boards of kind {done['kind']}"
        screen.say(f"Version {done['version']} {'would be' if dry_run else 'is'} released for {for_whom}.")
        screen.result(done | {"dry_run": dry_run})


@app.command()
def replace(
    old: Annotated[int, typer.Argument(parser=options.board_number, help="Number of the broken board.")],
    new: Annotated[int, typer.Argument(parser=options.board_number, help="Number for the new one, which is attached.")],
    *,
    station: options.Station,
    port: options.Port = None,
    serial: options.Serial = None,
    wait: options.Wait = 20.0,
    label: options.Label = None,
    directory: options.Directory = None,
    dry_run: options.DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Give a broken board's patient a new board; the old one's key ends, and no counter is copied."""
    from .flashing import finish  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .provisioning import replace_board  # noqa: PLC0415
    from .session import BoardSession  # noqa: PLC0415
    from .station import load_station  # noqa: PLC0415

    with options.screen(as_json) as screen:
        inventory = Inventory(directory)
        known = inventory.by_number(old)
        if known is None:
            raise ToolError(
                f"board {old:08x} is not in the inventory in {inventory.directory}: was it provisioned there?"
            )
        settings, chosen = load_station(station), chosen_port(port, serial)
        password = options.asked_password(settings.broker)
        with BoardSession(chosen) as session:
            done = replace_board(session, settings, known, new, inventory, screen, password=password, dry_run=dry_run)
            session.reset()
        if not dry_run:
            done |= finish(chosen, done["chip"], inventory, screen, wait_s=wait, label=label, station=settings)
        screen.result(done | {"dry_run": dry_run})


@app.command()
def doctor(
    *,
    port: options.Port = None,
    serial: options.Serial = None,
    directory: options.Directory = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with this machine as a flasher and, with a port, with a board. Ends with 1 if something is."""
    from .examination import WRONG, examine_board, examine_machine  # noqa: PLC0415
    from .inventory import Inventory  # noqa: PLC0415
    from .ports import serial_ports  # noqa: PLC0415
    from .session import BoardSession  # noqa: PLC0415

    with options.screen(as_json) as screen:
        findings = list(examine_machine(Inventory(directory)))
        if port or serial or len(serial_ports()) == 1:
            with BoardSession(chosen_port(port, serial)) as session:
                findings += examine_board(session)
                session.reset()
        screen.result({"findings": [asdict(finding) for finding in findings]})
    if not as_json:
        colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
        table = Table("what", "", "found", "to do", box=None)
        for each in findings:
            table.add_row(each.what, f"[{colours[each.verdict]}]{each.verdict}[/]", each.found, each.remedy)
        show_table(table)
    raise typer.Exit(any(each.verdict == WRONG for each in findings))


@app.command()
def inventory(*, directory: options.Directory = None, as_json: JsonOption = False) -> None:
    """List the boards that were flashed or provisioned from here."""
    from .inventory import Inventory  # noqa: PLC0415

    with options.screen(as_json) as screen:
        boards = Inventory(directory).boards()
        screen.result({"boards": [asdict(board) for board in boards]})
    if as_json:
        return
    heads = ["target", "sensors", "version", "gateway", "patient", "seen"]
    if any(each.replaced_by is not None for each in boards):
        heads.append("")
    whole = (Column("board", no_wrap=True), Column("chip", no_wrap=True))
    table = Table(*whole, *heads, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for each in boards:
        number = "" if each.board is None else f"{each.board:08x}"
        seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.seen_s)) if each.seen_s else ""
        gone = "" if each.replaced_by is None else f"replaced by {each.replaced_by:08x}"
        row = (
            number,
            each.id,
            each.target,
            each.profile,
            str(each.version or ""),
            each.gateway,
            each.patient,
            seen,
            gone,
        )
        table.add_row(*row[: len(table.columns)])
    show_table(table)


@app.command()
def virtual(
    *,
    kind: Annotated[str, typer.Option(help="unix: i386 words, a board's heap. wasm: runs everywhere.")] = "unix",
    count: Annotated[int, typer.Option(min=1, max=300, help="Boards.")] = 1,
    directory: Annotated[Path, typer.Option("--dir", help="Their flash, which survives.")] = Path("virtual-boards"),
    chip: Annotated[str, typer.Option(help="esp32, esp32s3 or esp32c6: what the loader says it is.")] = "esp32",
    blank: Annotated[bool, typer.Option("--blank", help="New ones come without MicroPython.")] = False,
    heap_kb: Annotated[int, typer.Option(min=64, help="Heap of the unix port, in kB.")] = 160,
    rfc2217: Annotated[bool, typer.Option("--rfc2217", help="Serve RFC 2217 with DTR and RTS (slow).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Virtual boards behind pseudo-terminals, until Ctrl-C; every other command runs against them."""
    from .virtual import VirtualPlan, run_virtual  # noqa: PLC0415

    with options.screen(as_json):
        plan = VirtualPlan(
            kind=kind, count=count, directory=directory, chip=chip, blank=blank, rfc2217=rfc2217, heap_kb=heap_kb
        )
        run_virtual(plan, as_json=as_json)
