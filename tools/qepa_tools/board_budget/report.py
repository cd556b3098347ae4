"""`qepa board budget`: every line says whether it was measured on a stand-in, estimated, or comes from a data sheet."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..command_line import show_table
from ..errors import ToolError
from .calibration import MEASURED, PUBLISHED, REFERENCE_US, esp32_factor, mean_ratio
from .currents import Chip, Currents, load_currents
from .energy import ENCRYPTION, REFERENCE_MJ, REFERENCE_MS, board_energy, board_stages
from .interpreters import I386_BYTECODE, I386_NATIVE, WASM
from .stages import Measured, measure

MEASURED_ON_STAND_IN = "measured"
ESTIMATED = "estimated"
DATA_SHEET = "data sheet"
NOT_CHECKED = "data sheet, not checked"


def run(chip: str = "esp32", *, battery_mah: float = 500.0, period_s: float = 30.0) -> dict[str, Any]:
    """Measure and compute; returns what `--json` prints. Raises ToolError: unknown chip, or nothing to measure on."""
    currents = load_currents()
    if chip not in currents.chips:
        raise ToolError(f"there are no currents for {chip}; there are for {', '.join(currents.chips)}")
    native, bytecode, wasm = measure((I386_NATIVE, I386_BYTECODE, WASM))
    return budget(native, bytecode, wasm, currents, currents.chips[chip], battery_mah=battery_mah, period_s=period_s)


def budget(
    native: Measured,
    bytecode: Measured,
    wasm: Measured,
    currents: Currents,
    chip: Chip,
    *,
    battery_mah: float,
    period_s: float,
) -> dict[str, Any]:
    """The budget from what was measured."""
    if native.kernels != "native":
        raise ToolError("the native kernels did not load on the i386 port: nothing to estimate a board with")
    stages = board_stages(native, bytecode, wasm, chip, currents)
    energy = board_energy(stages, native, chip, currents, battery_mah=battery_mah, period_s=period_s)
    return {
        "chip": chip.name,
        "labels": {
            "i386_us": MEASURED_ON_STAND_IN,
            "bytecode_us": MEASURED_ON_STAND_IN,
            "wasm_us": MEASURED_ON_STAND_IN,
            "board_us": ESTIMATED,
            "board_cycles": ESTIMATED,
        },
        "stages": [asdict(stage) for stage in stages],
        "calibration": {
            "label": ESTIMATED,
            "published_esp32_scores": PUBLISHED,
            "i386_scores_when_calibrated": MEASURED,
            "ratio": mean_ratio(),
            "reference_us_when_calibrated": REFERENCE_US,
            "reference_us_now": native.us["reference"],
            "factor": esp32_factor(native.us["reference"]),
        },
        "energy": {"label": ESTIMATED, "period_s": period_s, **asdict(energy)},
        "to_beat": {"encrypt_ms": REFERENCE_MS, "encrypt_mj": REFERENCE_MJ},
        "data_sheets": [
            {
                "what": what,
                "value": figure.value,
                "source": figure.source,
                "label": DATA_SHEET if figure.checked else NOT_CHECKED,
            }
            for what, figure in _used(currents, chip)
        ],
    }


def _used(currents: Currents, chip: Chip) -> list[tuple[str, Any]]:
    names = ("running_ma", "idle_ma", "ble_tx_ma", "ble_rx_ma", "coremark", "aes_mb_s", "sha256_mb_s")
    flash = ("page_program_ms", "sector_erase_ms", "write_ma")
    return [
        ("supply, V", currents.supply_v),
        *((f"{chip.name} {name}", getattr(chip, name)) for name in names),
        *((f"flash {name}", getattr(currents.flash, name)) for name in flash),
        ("max30003, mA", currents.sensors["max30003"]),
    ]


def show(result: dict[str, Any]) -> None:
    """Print the budget as tables."""
    chip = result["chip"]
    for table in (_stages(result), _energy(result), _sources(result)):
        show_table(table)
    calibration = result["calibration"]
    Console().print(
        f"{chip} from i386: times {calibration['factor']:.0f}, an estimate from MicroPython's own benchmarks "
        f"(published scores of an ESP32 against this port's: {calibration['ratio']:.0f} where that was calibrated).",
        style="dim",
    )


def _stages(result: dict[str, Any]) -> Table:
    chip = result["chip"]
    title = "A board's work, us a stage: an ECG at 256 samples a second, an update of 240 words"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("stage")
    table.add_column("per")
    for name in ("i386\nnative", "i386\nbytecode", "WebAs-\nsembly"):
        table.add_column(f"{name}\nmeasured", justify="right")
    table.add_column(f"{chip}\nestimate", justify="right")
    table.add_column("1,000\ncycles", justify="right")
    table.add_column("from")
    for row in result["stages"]:
        if row["name"] == ENCRYPTION:
            table.add_section()
        measured = (f"{row[key]:,.1f}" for key in ("i386_us", "bytecode_us", "wasm_us"))
        estimated = (f"{row['board_us']:,.0f}", f"{row['board_cycles'] / 1000:,.0f}")
        table.add_row(row["name"], row["per"], *measured, *estimated, row["basis"])
    return table


def _energy(result: dict[str, Any]) -> Table:
    energy, best = result["energy"], result["to_beat"]
    table = Table("what", "", "label", title=f"Energy on {result['chip']}, one update every {energy['period_s']:.0f} s")
    rows = (
        ("encrypting an update", f"{energy['encrypt_ms']:.2f} ms (to beat: {best['encrypt_ms']} ms)"),
        ("", f"{energy['encrypt_mj']:.2f} mJ (to beat: {best['encrypt_mj']} mJ)"),
        ("learning, quantizing, noise before it", f"{energy['learn_mj']:.2f} mJ"),
        ("keeping it in flash", f"{energy['flash_mj']:.2f} mJ"),
        ("sending it by Bluetooth LE, 1M PHY, 0 dBm", f"{energy['radio_mj']:.2f} mJ"),
        ("an update in all", f"{energy['update_mj']:.2f} mJ"),
        ("share of time the processor runs", f"{100 * energy['cpu_share']:.1f} %"),
        ("average current, processor never asleep", f"{energy['average_ma']:.1f} mA"),
        (f"a battery of {energy['battery_mah']:.0f} mAh lasts", f"{energy['battery_h']:.1f} h"),
        ("a second of waveform, sealed and sent", f"{energy['wave_mj_a_second']:.2f} mJ"),
        ("streaming waveforms all the time takes", f"{energy['wave_ma']:.2f} mA more"),
        ("and the battery then lasts", f"{energy['wave_battery_h']:.1f} h"),
    )
    for what, value in rows:
        table.add_row(what, value, energy["label"])
    return table


def _sources(result: dict[str, Any]) -> Table:
    table = Table("what", "value", "label", "source", title="Data sheets (hardware/wearable/currents.toml)")
    for row in result["data_sheets"]:
        table.add_row(row["what"], f"{row['value']:g}", Text(row["label"]), Text(row["source"]))
    return table
