"""The budget's arithmetic, its labels, and that its program runs on the interpreter it is for."""

import json

import pytest
from typer.testing import CliRunner

from qepa_tools.board_budget import report
from qepa_tools.board_budget.calibration import REFERENCE_US, esp32_factor, mean_ratio
from qepa_tools.board_budget.currents import load_currents
from qepa_tools.board_budget.energy import ENCRYPTION, REFERENCE_MJ, WAVEFORM, air_us, board_energy, board_stages
from qepa_tools.board_budget.interpreters import I386_BYTECODE, I386_NATIVE, WASM
from qepa_tools.board_budget.stages import Measured, measure
from qepa_tools.cli import app
from qepa_tools.errors import ToolError
from qepa_tools.unix_port.runtime import find_unix_port

# What issue and readers are promised, in order.
STAGES = ["sample", "filter", "R peak", "features", "classify", WAVEFORM, "learn", "quantize", "noise", "keystream"]
STAGES += ["masks", "check", "mac", "fragments", ENCRYPTION, "flash write"]

US = {
    "reference": REFERENCE_US,
    "sample": 170.0,
    "filter": 14.0,
    "r_peak": 18.0,
    "features_of_a_beat": 36.0,
    "classify_a_beat": 2.0,
    "learn": 1000.0,
    "quantize": 110.0,
    "noise": 4000.0,
    "keystream": 21.0,
    "keystream_aes": 15.0,
    "keystream_aes_bytes": 5792.0,
    "masks": 2.0,
    "check": 5.5,
    "mac": 19.0,
    "mac_sha": 5.0,
    "mac_sha_bytes": 1188.0,
    "fragments": 5.0,
    "encrypt_update": 90.0,
    "flash_write": 130.0,
    "frame_bytes": 1028.0,
    "n_fragments": 5.0,
    "beats_per_s": 1.4,
    "wave": 60.0,
    "wave_bytes": 600.0,
    "wave_fragments": 3.0,
}


def measured(interpreter: str, kernels: str = "bytecode", **changed: float) -> Measured:
    return Measured(interpreter=interpreter, kernels=kernels, us=US | changed)


NATIVE, BYTECODE, BROWSER = measured(I386_NATIVE, "native"), measured(I386_BYTECODE), measured(WASM)


def stages(chip: str = "esp32", native: Measured = NATIVE):
    currents = load_currents()
    return {s.name: s for s in board_stages(native, BYTECODE, BROWSER, currents.chips[chip], currents)}


def test_every_stage_is_there_in_order():
    assert list(stages()) == STAGES


def test_a_machine_twice_as_fast_is_scaled_twice_as_much():
    fast = measured(
        I386_NATIVE, "native", **{name: us / 2 for name, us in US.items() if name in ("reference", "learn")}
    )
    assert esp32_factor(REFERENCE_US) == pytest.approx(mean_ratio())
    assert stages(native=fast)["learn"].board_us == pytest.approx(stages()["learn"].board_us)


def test_ciphers_are_estimated_from_the_accelerators_throughput():
    aes_us = US["keystream_aes_bytes"] / 8.2
    assert stages()["keystream"].board_us == pytest.approx(6.0 * mean_ratio() + aes_us)
    quicker = measured(I386_NATIVE, "native", keystream=7.0, keystream_aes=1.0)
    assert stages(native=quicker)["keystream"].board_us == pytest.approx(stages()["keystream"].board_us)


def test_cycles_are_those_of_the_chips_clock():
    for chip, mhz in (("esp32", 240), ("esp32s3", 240), ("esp32c6", 160)):
        stage = stages(chip)["learn"]
        assert stage.board_cycles == pytest.approx(stage.board_us * mhz)


def test_energy_adds_up():
    currents = load_currents()
    chip = currents.chips["esp32"]
    energy = board_energy(list(stages().values()), NATIVE, chip, currents, battery_mah=500.0, period_s=30.0)
    assert energy.encrypt_mj == pytest.approx(energy.encrypt_ms * 3.3 * 68 / 1000)
    assert energy.encrypt_mj < REFERENCE_MJ
    parts = energy.encrypt_mj + energy.learn_mj + energy.flash_mj + energy.radio_mj
    assert energy.update_mj == pytest.approx(parts)
    assert chip.idle_ma.value < energy.average_ma < chip.running_ma.value
    assert energy.battery_h * energy.average_ma == pytest.approx(500.0)
    assert energy.wave_battery_h * (energy.average_ma + energy.wave_ma) == pytest.approx(500.0)
    radio_ma = (600 + 3 * 22) * 8e-6 * chip.ble_tx_ma.value + 3 * 380e-6 * chip.ble_rx_ma.value
    assert radio_ma < energy.wave_ma < radio_ma + 0.5


def test_more_fragments_keep_the_radio_on_longer():
    assert air_us(1028, 5) < air_us(1028, 50)
    assert air_us(0, 1)[1] == 380


def test_every_figure_of_the_table_names_its_source():
    currents = load_currents()
    figures = [*currents.sensors.values(), currents.supply_v]
    figures += [value for chip in currents.chips.values() for value in (chip.running_ma, chip.idle_ma, chip.ble_tx_ma)]
    assert all(figure.source and figure.value > 0 for figure in figures)


def test_every_line_is_labelled_and_nothing_unchecked_passes_for_checked():
    currents = load_currents()
    result = report.budget(
        NATIVE, BYTECODE, BROWSER, currents, currents.chips["esp32c6"], battery_mah=500.0, period_s=30.0
    )
    json.dumps(result)
    assert result["labels"] == {
        "i386_us": "measured",
        "bytecode_us": "measured",
        "wasm_us": "measured",
        "board_us": "estimated",
        "board_cycles": "estimated",
    }
    assert result["energy"]["label"] == result["calibration"]["label"] == "estimated"
    labels = {row["what"]: row["label"] for row in result["data_sheets"]}
    assert labels["esp32c6 running_ma"] == "data sheet, not checked"
    assert set(labels.values()) <= {"data sheet", "data sheet, not checked"}


def test_without_native_kernels_there_is_no_estimate():
    currents = load_currents()
    with pytest.raises(ToolError, match="native kernels"):
        report.budget(BYTECODE, BYTECODE, BROWSER, currents, currents.chips["esp32"], battery_mah=1.0, period_s=1.0)


def test_a_table_that_lacks_something_is_refused(tmp_path):
    path = tmp_path / "currents.toml"
    path.write_text('supply_v = { value = 3.3, source = "x", checked = true }\n')
    with pytest.raises(ToolError, match=r"currents\.toml is no table of currents: 'chips'"):
        load_currents(path)


def test_an_unknown_chip_ends_the_command_with_one_sentence():
    result = CliRunner().invoke(app, ["board", "budget", "--chip", "z80"])
    assert result.exit_code == 2
    assert "there are no currents for z80; there are for esp32, esp32s3, esp32c6" in result.output


@pytest.mark.skipif(find_unix_port() is None, reason="NO i386 MICROPYTHON: the budget's program did not run")
def test_the_program_measures_every_stage_within_its_limits():
    """Limits four times over: this machine is shared."""
    (native,) = measure([I386_NATIVE])
    assert native.kernels == "native"
    assert US.keys() <= native.us.keys()
    assert native.us["encrypt_update"] < 4 * 150
    assert native.us["ecg_second"] < 4 * 1000
    assert native.us["frame_bytes"] == 1028
    assert native.us["wave_bytes"] == 36 + 32 + 12 + 2 * 4 + 2 * 256
