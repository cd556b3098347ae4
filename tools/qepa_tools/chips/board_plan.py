# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""What hangs on a virtual board: /chips.json, a list of entries as in board.json's "sensors", each with "codes" on top.

    [{"chip": "max30003", "bus": {"kind": "spi", "id": 1, "cs": 5}, "int": 4, "codes": "/ecg.i32"}, ...]

codes: a file of int32, little endian, in the chip's own codes and channel order (qepa_tools.recordings.chip_codes), or
"adc" for a max30003 on the WebAssembly port: the record that the host feeds to the board's ADC.
"""

import json

from . import wiring
from .chip import FileFrames

FILE = "/chips.json"
_CHIPS = {  # chip: (module, class, codes a sample)
    "ads1292r": ("ads1292r", "Ads1292r", 2),
    "lsm6dso": ("lsm6dso", "Lsm6dso", 6),
    "max30003": ("max30003", "Max30003", 1),
    "max30101": ("max30101", "Max30101", 2),
    "max30102": ("max30101", "Max30101", 2),
    "max30205": ("thermometers", "Max30205", 1),
    "max86150": ("max86150", "Max86150", 3),
    "mpu6050": ("mpu6050", "Mpu6050", 6),
    "tmp117": ("thermometers", "Tmp117", 1),
}


def read_plan(path=FILE):
    """The entries, or None if there is no plan."""
    try:
        with open(path) as file:
            return json.load(file)
    except OSError:
        return None


def connect(plan, adc=None):
    """Power the chips of a plan and wire them; ``adc`` is the source that "adc" means."""
    for entry in plan:
        if entry["chip"] not in _CHIPS:
            continue  # an ad8232 is analogue: machine's ADC stands in for it
        module, name, width = _CHIPS[entry["chip"]]
        model = getattr(__import__(__name__.rsplit(".", 1)[0] + "." + module, None, None, (name,)), name)
        source = adc if entry["codes"] == "adc" else FileFrames(entry["codes"], width)
        bus = entry["bus"]
        chip = model(source)
        if bus["kind"] == "spi":
            wiring.on_spi(chip, bus["id"], bus["cs"], entry.get("int"))
        else:
            wiring.on_i2c(chip, bus["id"], bus.get("addr"), entry.get("int"))
        wiring.named[entry["chip"]] = chip
