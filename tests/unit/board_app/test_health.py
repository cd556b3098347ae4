"""What a board knows of itself: its battery, why it started, and whether new firmware works on it."""

import hashlib
import importlib
import json
import math
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from qepa_board.errors import BoardError
from qepa_board.keys.counters import Counters
from qepa_board.system import dock, self_test
from qepa_board.system.board_file import load_board, target_of
from qepa_board.system.flash import Flash
from qepa_board.system.health import reset_cause
from qepa_board.system.proof import GOOD_S, HEALTHY_S, LONGEST_TRIAL_S, Proof
from qepa_board.system.report import report
from qepa_board.system.self_test import check, known_answer
from qepa_boot import loader
from qepa_wire.frame import VECTOR
from qepa_wire.payloads import BATTERY_UNKNOWN, RESET_CAUSES

from ...vectors import make_wire_vectors as second
from .slot_rig import ROOT, encoded, release

RUNNING, LEAD_OFF, BUS_ERROR = 1, 2, 4


def voltage(charge):
    """Chen and Rincon-Mora 2006, eq. 2, in millivolts."""
    return 1000 * (-1.031 * math.exp(-35 * charge) + 3.685 + 0.2156 * charge - 0.1178 * charge**2 + 0.3201 * charge**3)


@pytest.fixture
def battery(monkeypatch):
    """The module, with an ADC that shows ``battery.microvolts``."""
    adc = SimpleNamespace(read_uv=lambda: state.microvolts)
    machine = MagicMock()
    machine.ADC.return_value = adc
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.delitem(sys.modules, "qepa_board.system.battery", raising=False)
    state = SimpleNamespace(module=importlib.import_module("qepa_board.system.battery"), microvolts=0)
    yield state
    sys.modules.pop("qepa_board.system.battery", None)


def test_the_charge_follows_the_curve_of_the_paper(battery):
    for percent in range(101):
        told = battery.module.charge_permille(round(voltage(percent / 100)))
        assert abs(told - 10 * percent) <= 15, percent


def test_charge_rises_with_voltage_and_stays_within_bounds(battery):
    told = [battery.module.charge_permille(millivolts) for millivolts in range(2654, 4401)]
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, 1000)
    for nonsense in (0, 2653, 4401, 9000):
        assert battery.module.charge_permille(nonsense) == BATTERY_UNKNOWN


def test_the_pin_sees_what_the_divider_leaves(battery):
    cell = battery.module.Battery({"adc": 1, "divider_permille": 500})
    battery.microvolts = 3803 * 500
    assert cell.permille() == 500


def test_low_has_a_margin_and_is_unknown_without_a_cell(battery):
    cell = battery.module.Battery({"adc": 1, "divider_permille": 500})
    seen = []
    for millivolts in (0, 3800, 3730, 3700, 3730, 3740, 0, 3730, 3700):
        battery.microvolts = millivolts * 500
        cell.permille()
        seen.append(cell.low)
    assert seen == [None, False, False, True, True, False, False, False, True]
    none = battery.module.Battery(None)
    assert (none.permille(), none.low) == (BATTERY_UNKNOWN, None)


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {},
        {"adc": 1},
        {"adc": "1", "divider_permille": 500},
        {"adc": 1, "divider_permille": 0},
        {"adc": 1, "divider_permille": 1001},
    ],
)
def test_a_battery_that_makes_no_sense_is_refused(battery, entry):
    with pytest.raises(BoardError):
        battery.module.Battery(entry)


def test_reset_causes_get_the_codes_of_hello(monkeypatch):
    machine = SimpleNamespace(PWRON_RESET=11, HARD_RESET=12, WDT_RESET=13, DEEPSLEEP_RESET=14, SOFT_RESET=15)
    monkeypatch.setitem(sys.modules, "machine", machine)
    told = []
    for cause in (11, 12, 13, 14, 15, 99):
        machine.reset_cause = lambda cause=cause: cause
        told.append(RESET_CAUSES[reset_cause()])
    assert told == ["power_on", "hard", "watchdog", "deep_sleep", "soft", "unknown"]
    machine.BROWNOUT_RESET = 99
    assert RESET_CAUSES[reset_cause()] == "brown_out"
    monkeypatch.setitem(sys.modules, "machine", None)
    assert reset_cause() == 0


def test_the_board_file_is_an_object_or_absent(flash):
    assert load_board(flash) == {}
    flash.files["board.json"] = b'{"target": "esp32c6"}'
    assert target_of(load_board(flash)) == "esp32c6"
    for wrong in (b"[]", b"{", b""):
        flash.files["board.json"] = wrong
        with pytest.raises(BoardError) as refused:
            load_board(flash)
        assert refused.value.reason == "board"


@pytest.mark.parametrize(
    ("platform", "machine", "target"),
    [
        ("esp32", "Generic ESP32 module with ESP32", "esp32"),
        ("esp32", "Generic ESP32S3 module with ESP32S3", "esp32s3"),
        ("esp32", "ESP32-C6 module with ESP32C6", "esp32c6"),
        ("webassembly", "JS with Emscripten", "wasm"),
        ("linux", "linux [GCC 14.2.0] version", "unix"),
    ],
)
def test_without_a_board_file_the_interpreter_tells_the_target(monkeypatch, platform, machine, target):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(_machine=machine))
    assert target_of({}) == target


def test_the_known_answer_is_that_of_the_second_implementation():
    top, size = 2**31 - 1, 4 * 4 + 16
    masks = [
        second.f(second.prf(key, label), 1, 1, 0, 5, size)
        for key, label in ((second.LINK, b"qepa/1/link/mask"), (second.END, b"qepa/1/end/mask"))
    ]
    sealed = second.seal([1, -1, top, -top], masks, 1, 5)
    assert known_answer() == hashlib.sha256(second.frame(VECTOR, 9, sealed)).digest()


class FakeSlots:
    def __init__(self, on_trial):
        self.on_trial = on_trial
        self.proved = 0

    def prove(self):
        self.proved += 1
        self.on_trial = False


@pytest.fixture
def docked(flash):
    Counters.create(flash)
    return flash


def test_the_checks_pass_on_a_board_that_works_and_leave_nothing(docked):
    files = dict(docked.files)
    check(docked, [RUNNING, LEAD_OFF, BUS_ERROR])
    assert docked.files == files


def test_each_check_finds_its_fault(docked, monkeypatch):
    def fails(*states):
        with pytest.raises(BoardError) as found:
            check(docked, states)
        return str(found.value)

    assert fails() == "self_test: sensors"
    assert fails(RUNNING, 77) == "self_test: sensors"
    monkeypatch.setattr(docked, "write", lambda *_: None)
    assert fails(RUNNING) == "self_test: flash"
    monkeypatch.undo()
    docked.files["counters"] = b"altered"
    assert fails(RUNNING) == "counters: altered"
    monkeypatch.setattr(self_test, "known_answer", lambda: bytes(32))
    assert fails(RUNNING) == "self_test: wire"


def test_a_trial_needs_samples_and_a_connection(docked):
    slots = FakeSlots(True)
    proof = Proof(docked, slots)
    assert not proof.second([RUNNING], False, True)
    assert not proof.second([RUNNING], True, False)
    assert proof.second([RUNNING], True, True)
    assert (slots.proved, proof.done) == (1, True)
    assert not proof.second([RUNNING], True, True)
    assert slots.proved == 1


def test_a_trial_without_a_network_needs_a_long_while_of_samples(docked):
    slots = FakeSlots(True)
    proof = Proof(docked, slots)
    told = [proof.second([LEAD_OFF], True, False) for _ in range(GOOD_S)]
    assert told == [False] * (GOOD_S - 1) + [True]


def test_a_trial_that_comes_to_nothing_ends(docked):
    proof = Proof(docked, FakeSlots(True))
    for _ in range(LONGEST_TRIAL_S - 1):
        proof.second([BUS_ERROR], False, True)
    with pytest.raises(BoardError) as failed:
        proof.second([BUS_ERROR], False, True)
    assert failed.value.reason == "self_test"


def test_a_trial_that_fails_a_check_ends_at_once(docked):
    docked.files["counters"] = b"altered"
    slots = FakeSlots(True)
    with pytest.raises(BoardError):
        Proof(docked, slots).second([RUNNING], True, True)
    assert slots.proved == 0


def test_a_confirmed_slot_is_healthy_after_a_while_of_samples(docked):
    slots = FakeSlots(False)
    proof = Proof(docked, slots)
    for _ in range(HEALTHY_S - 1):
        proof.second([RUNNING], True, False)
    assert slots.proved == 0
    proof.second([RUNNING], True, False)
    assert slots.proved == 1


def test_a_confirmed_slot_goes_on_when_flash_takes_no_record(docked):
    def full():
        raise BoardError("flash", "cannot write slots")

    slots = FakeSlots(False)
    slots.prove = full
    proof = Proof(docked, slots)
    for _ in range(HEALTHY_S + 1):
        proof.second([RUNNING], True, False)
    assert proof.done


IDENTITY = {
    "board": 7, "gateway": "gw-1", "broker": {"host": "127.0.0.1", "port": 1883}, "fs_hz": 360, "rekey_s": 30,
    "end_key": "11" * 32, "cohort_key": "22" * 32, "model_root": "00000001" + "33" * 56, "firmware_root": ROOT.hex(),
}  # fmt: skip


@pytest.fixture
def at_dock(tmp_path, monkeypatch, capsys):
    """``at_dock(name, *arguments)`` is the answer of a call of the dock to a board with version 1 in slot a."""
    for name, value in (("ROOT", str(tmp_path)), ("slot", None), ("booted", False)):
        monkeypatch.setattr(loader, name, value)
    monkeypatch.setattr(dock, "Flash", lambda: Flash(str(tmp_path / "qepa")))
    for path, content in release(1).slot_files.items():
        file = tmp_path / "a" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    loader.Files(str(tmp_path / "qepa"))
    (tmp_path / "qepa/board.json").write_text('{"target": "unix"}')
    loader.Slots(loader.Files(str(tmp_path / "qepa")), loader.version_of).choose(1)
    monkeypatch.setattr(loader, "slot", 1)

    def call(name, *arguments):
        getattr(dock, name)(*arguments)
        return json.loads(capsys.readouterr().out)

    return call


def test_an_update_by_the_calls_of_the_dock(at_dock):
    deaf = release(2)
    new = release(2, more={"lib/qepa_board/transport/connection.mpy": b"what this board is reached by"})
    arguments = encoded(new.manifest_bytes), encoded(new.signature)
    assert at_dock("update_begin", *arguments)["reason"] == "firmware_root"
    assert at_dock("provision", json.dumps(IDENTITY))["ok"]
    assert at_dock("update_begin", encoded(deaf.manifest_bytes), encoded(deaf.signature))["reason"] == "profile"
    begun = at_dock("update_begin", *arguments)
    assert (begun["ok"], begun["slot"]) == (True, "b")
    assert at_dock("status")["update"] == 2
    for path, size, there in begun["missing"]:
        assert there == 0
        for at in range(0, size, 4096):
            answer = at_dock("update_write", path, at, encoded(new.files[path][at : at + 4096]))
            assert answer["ok"], answer
    assert at_dock("update_finish") == {"ok": True, "version": 2, "reset": True}
    status = at_dock("status")
    assert (status["slot"], status["version"], status["mode"], status["update"]) == ("a", 1, "normal", 0)
    assert status["free_flash"] > 0
    assert loader.Slots(loader.Files(loader.ROOT + "/qepa"), loader.version_of).trial == 2


def test_the_dock_says_what_an_argument_lacks(at_dock):
    assert at_dock("update_begin", "AAA", "AAA")["reason"] == "argument"
    assert at_dock("update_begin", 5, 5)["reason"] == "argument"
    assert at_dock("update_write", "lib/x", 0, "A" * 50000)["reason"] == "argument"
    assert at_dock("update_write", "lib/x", 0, encoded(b"x"))["reason"] == "update"
    assert at_dock("update_finish")["reason"] == "update"
    assert at_dock("choose", "c")["reason"] == "incomplete"
    assert at_dock("choose", "a") == {"ok": True, "slot": "a", "reset": True}


def test_status_tells_no_secret(at_dock):
    at_dock("provision", json.dumps(IDENTITY))
    text = json.dumps(at_dock("status"))
    assert not any(IDENTITY[name] in text for name in ("end_key", "cohort_key"))
    assert json.loads(text)["battery_permille"] is None


def test_a_report_names_what_went_wrong(tmp_path, monkeypatch):
    from qepa_board.system.slots import BoardSlots
    from qepa_boot.crash import note_crash

    monkeypatch.setattr(loader, "ROOT", str(tmp_path))
    flash = Flash(str(tmp_path / "qepa"))
    note_crash(flash, "a", ValueError("x"))
    told = report(flash, BoardSlots(flash))
    assert told["crash_log"] == ["a: ValueError in an unknown place"]
    assert (told["last_trial"], told["crashes"], told["mode"]) == ("none", 0, "normal")
