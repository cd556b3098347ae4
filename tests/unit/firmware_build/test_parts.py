"""A board's firmware holds what its sensors and its transport need, nothing else, and fits its slot."""

import builtins
from array import array
from types import SimpleNamespace

import pytest

from qepa_board import sensing
from qepa_board.drivers import DRIVERS
from qepa_tools.board.install import check_sensors
from qepa_tools.board.pinmap import PinMap
from qepa_tools.errors import ToolError
from qepa_tools.firmware_build.bundle import MAX_MPY_BYTES, Bundle, compiled_firmware
from qepa_tools.firmware_build.parts import TRANSPORTS
from qepa_tools.firmware_build.sources import chosen_sources

PROFILES = PinMap.load().profiles
CHANNELS = {
    "ad8232": ("ecg",),
    "ads1292r": ("ecg", "resp"),
    "cgm": ("glucose",),
    "lsm6dso": ("ax", "ay", "az", "gx", "gy", "gz"),
    "max30003": ("ecg",),
    "max30101": ("red", "ir"),
    "tmp117": ("temperature",),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("profile", ["ecg", "ecg_resp"])  # the others are smaller by a fifth
def test_each_kind_of_board_has_its_firmware_in_96_kilobytes(profile: str, transport: str) -> None:
    files = compiled_firmware("esp32", chips=PROFILES[profile], transports=[transport])
    assert sum(map(len, files.values())) <= MAX_MPY_BYTES


@pytest.mark.parametrize("profile", PROFILES)
def test_whatever_the_board_will_import_is_there(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    present = chosen_sources(chips=PROFILES[profile])
    asked: set[str] = set()
    imported = builtins.__import__

    def note(name, globals=None, locals=None, fromlist=(), level=0):
        module = imported(name, globals, locals, fromlist, level)
        if module.__name__.startswith(("qepa_board", "qepa_wire")):
            asked.add(module.__name__)
        return module

    monkeypatch.setattr(sensing, "open_sensor", lambda entry, _flag: _driver(CHANNELS[entry["chip"]]))
    monkeypatch.setattr(builtins, "__import__", note)
    board = {"sensors": [{"chip": chip} for chip in PROFILES[profile]], "ecg_respiration": True}
    hub = sensing.Sensing(board, None, SimpleNamespace(fs_hz=256, mains_hz=50), lambda: 0)
    hub.second()
    monkeypatch.undo()
    assert asked
    assert asked <= present.keys()


def _driver(channels: tuple[str, ...]) -> SimpleNamespace:
    buffers = tuple(array("i", bytes(128)) for _ in channels)
    return SimpleNamespace(
        channels=channels,
        buffers=buffers,
        minutes=buffers[0],
        fs_hz=256 if "ecg" in channels else 100,
        state=0,
        contact=None,
    )


def test_nothing_of_other_sensors_comes_along() -> None:
    names = chosen_sources(chips=["cgm"], transports=["mqtt"])
    assert "qepa_board.drivers.cgm" in names
    for absent in ("drivers.max30003", "drivers.ad8232", "signals.ecg", "signals.optics", "transport.ble_connection"):
        assert f"qepa_board.{absent}" not in names


def test_without_a_choice_every_driver_is_there() -> None:
    names = chosen_sources()
    for module, _ in DRIVERS.values():
        assert f"qepa_board.drivers.{module}" in names


@pytest.mark.parametrize("choice", [{"chips": ["max99999"]}, {"transports": ["pigeon"]}])
def test_what_there_is_not_is_refused(choice: dict[str, list[str]]) -> None:
    with pytest.raises(ToolError, match=r"no (driver|transport)"):
        chosen_sources(**choice)


def test_a_bundle_says_for_which_sensors_it_has_no_driver() -> None:
    files = dict.fromkeys(["lib/qepa_board/drivers/cgm.mpy", "lib/qepa_board/drivers/thermometers.mpy"], b"")
    bundle = Bundle(manifest_bytes=b"", signature=b"", files=files)
    assert bundle.lacking(["cgm", "tmp117", "max30003", "unheard"]) == ["max30003", "unheard"]


def test_a_board_is_given_no_bundle_without_its_drivers() -> None:
    bundle = Bundle(manifest_bytes=b"", signature=b"", files={"lib/qepa_board/drivers/cgm.mpy": b""})
    check_sensors(bundle, {"sensors": [{"chip": "cgm"}]})
    with pytest.raises(ToolError, match="no driver for tmp117"):
        check_sensors(bundle, {"sensors": [{"chip": "cgm"}, {"chip": "tmp117"}]})
