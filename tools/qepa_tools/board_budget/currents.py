"""Reads hardware/wearable/currents.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ToolError

_IN_WHEEL = Path(__file__).with_name("currents.toml")
_IN_CHECKOUT = Path(__file__).parents[3] / "hardware" / "wearable" / "currents.toml"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number from a data sheet. checked: it was compared with a copy of the source."""

    value: float
    source: str
    checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A processor: currents in mA with its radio off (running, idle) and on, speed of one core and of its crypto."""

    name: str
    clock_mhz: int
    running_ma: Figure
    idle_ma: Figure
    ble_tx_ma: Figure
    ble_rx_ma: Figure
    coremark: Figure
    aes_mb_s: Figure
    sha256_mb_s: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashChip:
    """The flash memory beside it."""

    page_bytes: int
    page_program_ms: Figure
    sector_erase_ms: Figure
    write_ma: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Currents:
    """The whole table."""

    supply_v: Figure
    chips: dict[str, Chip]
    flash: FlashChip
    sensors: dict[str, Figure]


def load_currents(path: Path | None = None) -> Currents:
    """Read the table; raises ToolError for one that lacks something."""
    path = path or (_IN_WHEEL if _IN_WHEEL.is_file() else _IN_CHECKOUT)
    try:
        record = tomllib.loads(path.read_text())
        return Currents(
            supply_v=_figure(record["supply_v"]),
            chips={name: Chip(name=name, **_figures(chip)) for name, chip in record["chips"].items()},
            flash=FlashChip(**_figures(record["flash"])),
            sensors={name: _figure(sensor) for name, sensor in record["sensors"].items()},
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ToolError(f"{path.name} is no table of currents: {error}.") from error


def _figures(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _figure(value) if isinstance(value, dict) else value for name, value in record.items()}


def _figure(record: dict[str, Any]) -> Figure:
    return Figure(float(record["value"]), str(record["source"]), bool(record["checked"]))
