"""What the dock shows of a board's health."""

from qepa_boot import loader
from qepa_boot.crash import read_crashes
from qepa_wire.payloads import BATTERY_UNKNOWN

from .board_file import load_board
from .health import reset_cause


def report(flash, slots):
    """A record for JSON; ``slots`` is a BoardSlots. No secrets."""
    record = slots.record
    battery = load_board(flash).get("battery")
    if battery is not None:
        from .battery import Battery  # noqa: PLC0415  not on every board

        battery = Battery(battery).permille()
    return {
        "slot": slots.name,
        "version": slots.version,
        "code": "rom" if loader.in_rom else "ram",
        "mode": ("normal", "safe", "trial")[slots.mode],
        "last_trial": ("none", "confirmed", "rolled back")[record.outcome],
        "crashes": record.crashes,
        "battery_permille": None if battery == BATTERY_UNKNOWN else battery,
        "update": slots.pending_version(),
        "crash_log": read_crashes(flash),
        "reset_cause": reset_cause(),
        "free_flash": slots.files(slots.slot).free()[0],
    }
