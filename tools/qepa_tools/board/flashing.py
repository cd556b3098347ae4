"""`qepa board flash`: from a bare chip to a board that samples, in steps that each can be cut and repeated."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ToolError
from ..firmware_build.bundle import Bundle
from .backup import write_backup
from .esp_image import FirmwareImage
from .first_sample import await_board, watch_start
from .flasher import ChipInfo, Flasher
from .install import BOARD_FILE, Installation, check_micropython, install, plan_installation, runs_from_rom
from .inventory import Inventory
from .label import write_label
from .pinmap import PinMap
from .screen import Screen
from .session import BoardError, BoardSession
from .station import StationConfig

_START_S = 20.0
_NO_ROM = (
    "This MicroPython has no ROM partition with room for the code, which takes %s bytes of the heap instead: "
    "firmware/README.md says how to build an image that has one."
)
_NO_SECRETS = frozenset((BOARD_FILE, "/qepa/slots", "/qepa/crashes"))


@dataclass(frozen=True, kw_only=True)
class FlashPlan:
    """What to do to the board at ``port``; what is None is left as it is."""

    port: str
    image: FirmwareImage | None = None
    bundle: Bundle | None = None
    profile: str | None = None
    erase_keys: bool = False
    dry_run: bool = False
    passphrase: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.image is None and self.bundle is None:
            raise ToolError("nothing to flash: give --image, --bundle or both.")
        if self.image is not None and self.bundle is not None and self.image.target != self.bundle.target:
            raise ToolError(f"the image is for {self.image.target} and the bundle for {self.bundle.target}.")


def flash(plan: FlashPlan, inventory: Inventory, screen: Screen) -> dict[str, Any]:
    """Carry ``plan`` out; returns what was done. Raises ToolError; the same call then goes on where it stopped."""
    done: dict[str, Any] = {"port": plan.port, "dry_run": plan.dry_run}
    kept = _keep(plan, inventory, screen, done)
    if plan.image is not None:
        _write_image(plan, plan.image, kept, inventory, screen, done)
    elif plan.erase_keys:
        raise ToolError("--erase-keys goes with --image: keys are erased while the chip is flashed.")
    if plan.dry_run and (plan.image is not None and not kept.answers):
        screen.say("The board has no MicroPython yet: what the bundle changes shows once it has.")
        return done
    if plan.bundle is not None:
        _install(plan, plan.bundle, inventory, screen, done)
    if plan.dry_run:
        screen.say("Nothing was written.")
    return done


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the board held before. ``answers``: whether its MicroPython did."""

    answers: bool
    secrets: bool


def _keep(plan: FlashPlan, inventory: Inventory, screen: Screen, done: dict[str, Any]) -> _Kept:
    """Back up everything in /qepa, if MicroPython answers and there is something that a board cannot do without."""
    try:
        with BoardSession(plan.port) as session:
            who = session.who()
            files = session.hashes(["/qepa"])
            secrets = not files.keys() <= _NO_SECRETS
            done["chip"] = who["id"]
            if secrets and not plan.dry_run:
                content = {}
                for count, path in enumerate(sorted(files), 1):
                    content[path] = session.read_file(path)
                    screen.step("back up", count, len(files))
                _report_backup(
                    write_backup(_folder(inventory), who["id"], content, plan.passphrase), plan, screen, done
                )
            return _Kept(True, secrets)
    except BoardError as error:
        if plan.image is None:
            raise
        screen.say(f"MicroPython does not answer on {plan.port}; asking the chip itself.")
        done["silent"] = str(error)
        return _Kept(False, False)


def _report_backup(path: Path, plan: FlashPlan, screen: Screen, done: dict[str, Any]) -> None:
    done["backup"] = str(path)
    sealed = "sealed with your passphrase" if plan.passphrase is not None else "readable by you alone"
    screen.say(f"[bold]Backup: {path}[/] holds this board's [bold red]secret keys[/], {sealed}. Delete it when done.")


def _folder(inventory: Inventory) -> Path:
    return inventory.directory / "backups"


def _write_image(
    plan: FlashPlan, image: FirmwareImage, kept: _Kept, inventory: Inventory, screen: Screen, done: dict[str, Any]
) -> None:
    with Flasher(plan.port, screen.step) as flasher:
        info = flasher.info()
        done |= {"target": info.target, "mac": info.mac, "chip": info.mac.replace(":", "")}
        flasher.check(image, info, keys_may_go=plan.erase_keys)
        if plan.dry_run:
            parts = flasher.differing(image)
            done["image_bytes"] = sum(len(data) for _, data in parts)
            screen.say(f"{info.description} {info.mac}: {done['image_bytes']:,} bytes of the image differ.")
            return
        if not kept.answers:
            _back_up_partition(flasher, info, plan, inventory, screen, done)
        if plan.erase_keys:
            flasher.erase_files(info)
            done["keys_erased"] = True
            screen.say("The board's files, keys among them, are erased.")
        done["image_bytes"] = flasher.write(image)
    screen.say(f"{info.description} {info.mac}: {done['image_bytes']:,} bytes written, all of them verified.")
    inventory.note(done["chip"], target=info.target, image_sha256=image.sha256, seen_s=int(time.time()))


def _back_up_partition(
    flasher: Flasher, info: ChipInfo, plan: FlashPlan, inventory: Inventory, screen: Screen, done: dict[str, Any]
) -> None:
    """A board that does not answer may still hold keys: keep its whole file system."""
    content = flasher.read_files_partition(info)
    if content is not None:
        path = write_backup(_folder(inventory), info.mac.replace(":", ""), {"vfs partition": content}, plan.passphrase)
        _report_backup(path, plan, screen, done)


def _install(plan: FlashPlan, bundle: Bundle, inventory: Inventory, screen: Screen, done: dict[str, Any]) -> None:
    record = None if plan.profile is None else PinMap.load().board_record(bundle.target, plan.profile)
    session = await_board(plan.port, _START_S)
    try:
        who = session.who()
        check_micropython(who)
        changes = plan_installation(session, bundle, record)
        done |= _installation_record(bundle, changes)
        screen.say(_installation_line(bundle, changes))
        done["code"] = "rom" if runs_from_rom(session, bundle) else "ram"
        if done["code"] == "ram":
            screen.say(_NO_ROM % f"{bundle.mpy_bytes:,}")
        if plan.dry_run:
            return
        install(session, changes, screen.step)
        session.reset()
    finally:
        session.__exit__(None, None, None)
    inventory.note(done["chip"], target=bundle.target, version=bundle.version, seen_s=int(time.time()))
    if plan.profile is not None:
        inventory.note(done["chip"], profile=plan.profile)


def _installation_record(bundle: Bundle, changes: Installation) -> dict[str, Any]:
    return {
        "version": bundle.version,
        "slot": changes.slot,
        "files_written": len(changes.files),
        "bytes_written": changes.size,
    }


def _installation_line(bundle: Bundle, changes: Installation) -> str:
    if changes.is_done:
        return f"Version {bundle.version} is in slot {changes.slot} already."
    return (
        f"Version {bundle.version} to slot {changes.slot}: {len(changes.files)} files, {changes.size:,} bytes differ."
    )


def finish(
    port: str,
    chip: str,
    inventory: Inventory,
    screen: Screen,
    *,
    wait_s: float,
    label: Path | None,
    station: StationConfig | None = None,
) -> dict[str, Any]:
    """Wait for the board's first sample and write its label; returns what came of it."""
    done: dict[str, Any] = {}
    if wait_s > 0:
        running = watch_start(port, wait_s, station)
        done["running"] = running.record
        screen.say(f"Board: {running.summary}.")
    if label is not None:
        write_label(inventory.note(chip), label)
        done["label"] = str(label)
        screen.say(f"Label: {label}")
    return done
