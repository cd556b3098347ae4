"""What this board is made of, as the flashing tool wrote it from the pin map: board.json; pins, no secrets."""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import json
import sys

from ..errors import BoardError

FILE = "board.json"


def load_board(flash):
    """The record, empty if there is none; raises BoardError("board") if it is not a JSON object."""
    data = flash.read(FILE)
    if data is None:
        return {}
    try:
        record = json.loads(data)
    except ValueError:
        raise BoardError("board", "board.json is not JSON")
    if not isinstance(record, dict):
        raise BoardError("board", "board.json is not an object")
    return record


def target_of(record):
    """For which boards firmware must be built to run here: as board.json says, else as the interpreter does."""
    named = record.get("target")
    if isinstance(named, str):
        return named
    if sys.platform == "esp32":
        chip = getattr(sys.implementation, "_machine", "").upper()
        return "esp32s3" if "ESP32S3" in chip else "esp32c6" if "ESP32C6" in chip else "esp32"
    return "wasm" if sys.platform == "webassembly" else "unix"


def needs_of(record, transport):
    """Modules of qepa_board without which a board of this ``record`` would be deaf or blind; ``transport`` or None."""
    from ..drivers import DRIVERS  # noqa: PLC0415  who runs has it already

    needs = []
    for sensor in record.get("sensors", ()):
        name = "drivers/" + DRIVERS.get(sensor.get("chip"), ("",))[0]
        if len(name) > 8 and name not in needs:
            needs.append(name)
    if transport is not None:
        needs.append("transport/ble_connection" if transport == "ble" else "transport/connection")
    return needs
