"""The pin map, hardware/wearable/pinmap.toml: what is wired where, checked against what each chip's pins can do."""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ToolError

_IN_WHEEL = Path(__file__).with_name("pinmap.toml")
_IN_CHECKOUT = Path(__file__).parents[3] / "hardware" / "wearable" / "pinmap.toml"
_ANY_TARGET = ("unix", "wasm")
_BUS_LINES = {"spi": {"sck": "out", "mosi": "out", "miso": "in"}, "i2c": {"scl": "both", "sda": "both"}}


class PinError(ToolError):
    """The pin map asks for what a chip cannot do."""


@dataclass(frozen=True, slots=True)
class ChipPins:
    """Pins of one chip by what they can do."""

    pins: frozenset[int]
    input_only: frozenset[int]
    strapping: frozenset[int]
    flash: frozenset[int]
    console: frozenset[int]
    adc: frozenset[int]
    spi: frozenset[int]
    i2c: frozenset[int]

    def complaint(self, pin: int, use: str) -> str | None:
        """Why ``pin`` cannot serve as ``use`` (in, out, both or adc); None if it can."""
        reasons = {
            "belongs to the flash": pin in self.flash,
            "belongs to the console": pin in self.console,
            "does not exist on every package": pin not in self.pins,
            "is sampled at reset (strapping pin)": pin in self.strapping,
            "is an input only": use in ("out", "both") and pin in self.input_only,
            "has no ADC1 channel": use == "adc" and pin not in self.adc,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


class PinMap:
    """A parsed pin map. ``complaints()`` is empty for one that can be built."""

    def __init__(self, record: dict[str, Any]) -> None:
        """Raises PinError for a record that is no pin map."""
        try:
            self._chips = {name: _chip_pins(chip) for name, chip in record["chips"].items()}
            self._sensors: dict[str, dict[str, Any]] = record["sensors"]
            self._boards: dict[str, dict[str, Any]] = record["boards"]
            self.profiles: dict[str, list[str]] = record["profiles"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PinError(f"the pin map cannot be read: {error!r}.") from error

    @classmethod
    def load(cls, path: Path | None = None) -> "PinMap":
        """Read ``path``, by default the project's own. Raises PinError."""
        path = path or (_IN_CHECKOUT if _IN_CHECKOUT.is_file() else _IN_WHEEL)
        try:
            return cls(tomllib.loads(path.read_text()))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PinError(f"{path} cannot be read: {error}.") from error

    @property
    def targets(self) -> list[str]:
        """Boards it describes."""
        return sorted(self._boards)

    def chips_of(self, profiles: Iterable[str]) -> list[str]:
        """Sensors of all ``profiles``. Raises PinError for one that there is not."""
        chips: list[str] = []
        for profile in profiles:
            if profile not in self.profiles:
                raise PinError(f"no sensor set {profile}: choose one of {', '.join(self.profiles)}.")
            chips += [chip for chip in self.profiles[profile] if chip not in chips]
        return chips

    def board_record(self, target: str, profile: str) -> dict[str, Any]:
        """What /qepa/board.json holds for a board of ``target`` with the sensors of ``profile``. Raises PinError.

        Virtual targets (unix, wasm) are wired like an ESP32.
        """
        if target not in self._boards and target not in _ANY_TARGET:
            raise PinError(f"no pin map for {target}: there is one for {', '.join(self.targets)}.")
        board = self._boards["esp32" if target in _ANY_TARGET else target]
        sensors = [self._entry(board, name) for name in self.chips_of([profile])]
        record = {"target": target, "profile": profile, "sensors": sensors}
        return record | ({"battery": dict(board["battery"])} if "battery" in board else {})

    def complaints(self) -> list[str]:
        """What cannot be built: pins that cannot do it, pins used twice, buses that are not there."""
        return [
            f"{target}, {profile}: {complaint}"
            for target in self.targets
            for profile in self.profiles
            for complaint in self._complaints(target, profile)
        ]

    def _entry(self, board: dict[str, Any], name: str) -> dict[str, Any]:
        try:
            sensor = self._sensors[name]
            entry: dict[str, Any] = {"chip": name}
            if "bus" in sensor:
                entry["bus"] = {"kind": sensor["bus"], **board[sensor["bus"]]}
            wiring = dict(board.get(name, {}))
            if set(wiring) != set(sensor["lines"]):
                raise PinError(f"{name} is wired with {sorted(wiring)} and needs {sorted(sensor['lines'])}.")
        except KeyError as error:
            raise PinError(f"the pin map says nothing about {error} of {name}.") from error
        if "cs" in wiring:
            entry["bus"]["cs"] = wiring.pop("cs")
        return {**entry, **wiring, **sensor.get("settings", {})}

    def _complaints(self, target: str, profile: str) -> Iterator[str]:
        if target not in self._chips:
            yield "the chip's pins are not described"
            return
        chip, used = self._chips[target], dict[int, str]()
        for pin, name, use in self._uses(target, profile):
            if (complaint := chip.complaint(pin, use)) is not None:
                yield f"GPIO {pin} ({name}) {complaint}"
            if used.setdefault(pin, name) != name:
                yield f"GPIO {pin} is both {used[pin]} and {name}"
        for kind, number in self._buses(target, profile):
            if number not in getattr(chip, kind):
                yield f"there is no {kind.upper()} {number}"

    def _uses(self, target: str, profile: str) -> Iterator[tuple[int, str, str]]:
        """(pin, what it is called, in, out, both or adc) of a board; a bus that sensors share comes once for each."""
        record = self.board_record(target, profile)
        if "battery" in record:
            yield record["battery"]["adc"], "battery", "adc"
        for entry in record["sensors"]:
            lines = self._sensors[entry["chip"]]["lines"]
            bus = entry.get("bus", {})
            for line, use in _BUS_LINES.get(bus.get("kind", ""), {}).items():
                yield bus[line], f"{bus['kind']} {line}", use
            for line, use in lines.items():
                yield bus["cs"] if line == "cs" else entry[line], f"{entry['chip']} {line}", use

    def _buses(self, target: str, profile: str) -> Iterator[tuple[str, int]]:
        for entry in self.board_record(target, profile)["sensors"]:
            if "bus" in entry:
                yield entry["bus"]["kind"], entry["bus"]["id"]


def _chip_pins(record: dict[str, Any]) -> ChipPins:
    ranges = ("pins", "input_only", "strapping", "flash", "console", "adc")
    return ChipPins(
        **{name: _numbers(record[name]) for name in ranges}, spi=frozenset(record["spi"]), i2c=frozenset(record["i2c"])
    )


def _numbers(text: str) -> frozenset[int]:
    """ "0-2 5" is 0, 1, 2 and 5."""
    numbers: set[int] = set()
    for word in text.split():
        low, _, high = word.partition("-")
        numbers.update(range(int(low), int(high or low) + 1))
    return frozenset(numbers)
