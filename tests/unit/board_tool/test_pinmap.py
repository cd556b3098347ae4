"""The pin map: every board in it can be built, and what cannot be built is found."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qepa_tools.board.pinmap import PinError, PinMap

FILE = Path(__file__).parents[3] / "hardware" / "wearable" / "pinmap.toml"


@pytest.fixture
def record() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(FILE.read_text()))


def test_every_board_in_the_project_can_be_built() -> None:
    pins = PinMap.load()
    assert pins.complaints() == []
    assert pins.targets == ["esp32", "esp32c6", "esp32s3"]
    assert set(pins.profiles) == {"ecg", "ecg_resp", "ppg", "motion_temp", "cgm", "demo_ad8232"}


def test_a_board_record_is_what_drivers_open() -> None:
    record = PinMap.load().board_record("esp32s3", "ecg")
    bus = {"kind": "spi", "id": 1, "sck": 12, "mosi": 11, "miso": 13, "cs": 14}
    assert record["sensors"] == [{"chip": "max30003", "bus": bus, "int": 21, "fs_hz": 256}]
    assert record["battery"] == {"adc": 1, "divider_permille": 500}
    both = PinMap.load().board_record("esp32", "motion_temp")["sensors"]
    assert [entry["chip"] for entry in both] == ["lsm6dso", "tmp117"]
    assert both[0]["bus"] == both[1]["bus"]


@pytest.mark.parametrize("target", ["esp32", "esp32s3", "esp32c6"])
@pytest.mark.parametrize("profile", ["ecg", "ecg_resp", "ppg", "motion_temp", "cgm", "demo_ad8232"])
def test_every_sensor_in_it_has_a_driver_at_that_rate(target: str, profile: str) -> None:
    import ast

    drivers = FILE.parents[2] / "firmware" / "qepa_board" / "drivers"
    tree = ast.parse((drivers / "__init__.py").read_text())
    known = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert {entry["chip"] for entry in PinMap.load().board_record(target, profile)["sensors"]} <= set(known)


def test_a_virtual_board_is_wired_like_an_esp32() -> None:
    pins = PinMap.load()
    assert pins.board_record("unix", "ppg")["sensors"] == pins.board_record("esp32", "ppg")["sensors"]


@pytest.mark.parametrize(
    ("target", "chip", "line", "pin", "complaint"),
    [
        ("esp32", "max30003", "int", 0, "strapping"),
        ("esp32", "max30003", "cs", 35, "input only"),
        ("esp32", "max30003", "cs", 8, "flash"),
        ("esp32", "max30003", "int", 3, "console"),
        ("esp32", "max30003", "int", 24, "does not exist"),
        ("esp32", "ad8232", "out", 25, "ADC1"),
        ("esp32s3", "max30003", "int", 46, "strapping"),
        ("esp32s3", "max30003", "cs", 19, "console"),
        ("esp32s3", "max30003", "cs", 36, "flash"),
        ("esp32s3", "ad8232", "out", 14, "ADC1"),
        ("esp32c6", "max30003", "int", 9, "strapping"),
        ("esp32c6", "max30003", "cs", 25, "flash"),
        ("esp32c6", "max30003", "cs", 13, "console"),
    ],
)
def test_pins_that_cannot_do_it(
    record: dict[str, Any], target: str, chip: str, line: str, pin: int, complaint: str
) -> None:
    record["boards"][target][chip][line] = pin
    complaints = PinMap(record).complaints()
    assert any(complaint in each and f"GPIO {pin} " in each and each.startswith(target) for each in complaints)


def test_a_pin_used_twice(record: dict[str, Any]) -> None:
    record["boards"]["esp32"]["max30003"]["int"] = 23
    assert any("GPIO 23 is both" in each for each in PinMap(record).complaints())


def test_a_bus_the_chip_has_not(record: dict[str, Any]) -> None:
    record["boards"]["esp32c6"]["spi"]["id"] = 2
    assert any("no SPI 2" in each for each in PinMap(record).complaints())


def test_what_makes_no_sense_is_refused(record: dict[str, Any]) -> None:
    pins = PinMap(record)
    with pytest.raises(PinError, match="no pin map for esp8266"):
        pins.board_record("esp8266", "ecg")
    with pytest.raises(PinError, match="choose one of ecg"):
        pins.board_record("esp32", "eeg")
    record["boards"]["esp32"]["max30003"] = {"cs": 27}
    with pytest.raises(PinError, match="needs"):
        PinMap(record).board_record("esp32", "ecg")
    with pytest.raises(PinError, match="cannot be read"):
        PinMap({})
