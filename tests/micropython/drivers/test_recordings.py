"""What goes into a chip comes out of its driver: recordings of people, as the chip codes them, on both interpreters."""

import csv
import functools
import gzip

import numpy as np
import pytest

from qepa_tools.recordings import chip_codes
from qepa_tools.recordings.bidmc import load_bidmc
from qepa_tools.recordings.motion_set import load_motion
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.wrist_ppg import load_wrist

SECONDS = 8
STEPS_PER_MV = 400


def played(bench, chip, module, model, codes, *, every_ms=40, fs_hz=None, interrupt=21):
    """Play codes through the model of ``chip`` for SECONDS; what its driver read."""
    width = codes.shape[1]
    program = f"""
driver, chip = wired({chip!r}, {module!r}, {model!r}, FileFrames("codes.i32", {width}), {interrupt!r}, {fs_hz!r})
driver.start()
tell(play(driver, {1000 * SECONDS}, {every_ms}))
"""
    (got,) = bench(program, {"codes.i32": codes.astype("<i4").tobytes()})
    assert got["states"] == ["running"]
    assert (got["gaps"], got["lost"], got["faults"]) == ([], 0, 0)
    return got, [np.array(samples) for samples in got["samples"]]


def agree(samples, truth, within):
    """In order, none missing, none doubled, and each at most ``within`` from the truth."""
    assert len(samples) >= 0.97 * len(truth)
    np.testing.assert_allclose(samples, truth[: len(samples)], rtol=0, atol=within)


def steps(ecg_mv):
    return np.clip(np.rint(ecg_mv * STEPS_PER_MV), -2047, 2047)


def millivolts(recordings, name, fs_hz):
    record = load_wfdb(recordings / "mitdb", name)
    return chip_codes.resampled(counts_from_adc(record.samples)[: 360 * 60] / STEPS_PER_MV, 360, fs_hz)[
        : SECONDS * fs_hz
    ]


@pytest.mark.parametrize("record", ["101", "201"])
def test_max30003_ecg_of_the_arrhythmia_database(bench, recordings, record):
    ecg_mv = millivolts(recordings, record, 256)
    got, (ecg,) = played(bench, "max30003", "max30003", "Max30003", chip_codes.max30003(ecg_mv), every_ms=100)
    agree(ecg, steps(ecg_mv), 1)
    assert got["woken"] >= SECONDS * 256 // 32, "the watermark interrupt wakes the reader"


@pytest.mark.parametrize("fs_hz", [128, 512])
def test_max30003_at_other_rates(bench, recordings, fs_hz):
    ecg_mv = millivolts(recordings, "101", fs_hz)
    _, (ecg,) = played(bench, "max30003", "max30003", "Max30003", chip_codes.max30003(ecg_mv), fs_hz=fs_hz)
    agree(ecg, steps(ecg_mv), 1)


def test_max30003_ecg_of_an_icu_patient_without_an_interrupt(bench, recordings):
    record = load_bidmc(recordings / "bidmc", 2)
    ecg_mv = chip_codes.resampled(record.ecg - np.median(record.ecg), 125, 256)[: SECONDS * 256]
    codes = chip_codes.max30003(ecg_mv)
    got, (ecg,) = played(bench, "max30003", "max30003", "Max30003", codes, interrupt=None)
    agree(ecg, steps(ecg_mv), 1)
    assert got["woken"] == 0


def high_passed(counts, shift=9):
    """The first-order high pass that the ADS1292R's driver documents, in real numbers."""
    out, baseline = np.empty(len(counts)), counts[0]
    for i, value in enumerate(counts):
        out[i] = value - baseline
        baseline += out[i] / 2**shift
    return out


def test_ads1292r_ecg_and_respiration_of_an_icu_patient(bench, recordings):
    record = load_bidmc(recordings / "bidmc", 2)
    electrode_offset_mv = 150.0
    ecg_mv = chip_codes.resampled(record.ecg - np.median(record.ecg), 125, 250) + electrode_offset_mv
    resp = chip_codes.resampled(record.resp * 4096, 125, 250)
    skip = 250 * 150 // 1000  # while the chip's reference settles
    codes = chip_codes.ads1292r(resp, ecg_mv)[: SECONDS * 250]
    _, (ecg, breath) = played(bench, "ads1292r", "ads1292r", "Ads1292r", codes)
    agree(breath, codes[skip:, 0], 0)
    agree(ecg, high_passed(ecg_mv[skip : SECONDS * 250] * STEPS_PER_MV), 2)


def test_max30101_pulse_wave_of_an_icu_patient(bench, recordings):
    record = load_bidmc(recordings / "bidmc", 2)
    infrared = chip_codes.resampled(record.infrared_counts(), 125, 100)[: SECONDS * 100]
    red = chip_codes.resampled(record.red_counts(0.6), 125, 100)[: SECONDS * 100]  # synthetic: the set has one colour
    codes = chip_codes.max30101(red, infrared)
    got, (red_out, infrared_out) = played(bench, "max30101", "max30101", "Max30101", codes, every_ms=200)
    agree(red_out, codes[:, 0], 0)
    agree(infrared_out, codes[:, 1], 0)
    assert got["woken"] >= SECONDS * 100 // 34


@functools.cache
def wrist(recordings, name):
    return next(record for record in load_wrist(recordings / "wrist_ppg") if record.name == name)


@pytest.mark.parametrize("fs_hz", [50, 400])
def test_max30102_wrist_while_walking_without_an_interrupt(bench, recordings, fs_hz):
    light = wrist(recordings, "s2_walk").light[256 * 60 :]
    codes = chip_codes.max30101(*[chip_codes.resampled(light, 256, fs_hz)[: SECONDS * fs_hz]] * 2)
    _, (_, infrared) = played(bench, "max30102", "max30101", "Max30101", codes, fs_hz=fs_hz, interrupt=None)
    agree(infrared, codes[:, 1], 0)


def test_max86150_light_and_ecg_of_a_runner_in_step(bench, recordings):
    record = wrist(recordings, "s5_run")
    light = chip_codes.resampled(record.light, 256, 200)[: SECONDS * 200]
    ecg_mv = chip_codes.resampled(record.ecg - np.median(record.ecg), 256, 200)[: SECONDS * 200]
    ecg_mv /= np.abs(ecg_mv).max() / 1.5  # the export has no absolute scale
    codes = chip_codes.max86150(0.7 * light, light, ecg_mv)
    _, (red, infrared, ecg) = played(bench, "max86150", "max86150", "Max86150", codes)
    agree(red, codes[:, 0] // 2, 0)
    agree(infrared, codes[:, 1] // 2, 0)
    agree(ecg, steps(ecg_mv), 1)


@functools.cache
def walker(recordings):
    return load_motion(recordings / "motion", "sw")[0]


def turns_dps(recordings, record):
    """The gyroscope of a motion recording, rows x, y, z in degrees a second, as many samples as its acceleration."""
    path = recordings / "motion" / record.subject / f"{record.name}_{record.device}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    at = np.linspace(0, len(rows) - 1, record.acceleration.shape[1])
    return np.degrees([np.interp(at, np.arange(len(rows)), [float(r[f"{axis}_gyro"]) for r in rows]) for axis in "xyz"])


@pytest.mark.parametrize(("chip", "model", "fs_hz"), [("lsm6dso", "Lsm6dso", 104), ("mpu6050", "Mpu6050", 100)])
@pytest.mark.parametrize("interrupt", [21, None])
def test_motion_of_somebody_who_stands_up_and_walks(bench, recordings, chip, model, fs_hz, interrupt):
    record = walker(recordings)
    milli_g = record.acceleration[:, : SECONDS * fs_hz].astype(float)
    dps = turns_dps(recordings, record)[:, : SECONDS * fs_hz]
    codes = getattr(chip_codes, chip)(milli_g, dps)
    _, samples = played(bench, chip, chip, model, codes, every_ms=150, interrupt=interrupt)
    for axis in range(3):
        agree(samples[axis], milli_g[axis], 1)
        agree(samples[3 + axis], 10 * dps[axis], 1)


@pytest.mark.parametrize(("chip", "model"), [("tmp117", "Tmp117"), ("max30205", "Max30205")])
def test_skin_temperature_once_a_second(bench, chip, model):
    # No recording has skin temperature: a synthetic rise, and a sensor that was left in the cold.
    celsius = np.concatenate([np.linspace(31.3, 34.1, 10), [-3.27, 36.6, 42.0]])
    codes = getattr(chip_codes, chip)(celsius)
    program = f"""
driver, chip = wired({chip!r}, "thermometers", {model!r}, FileFrames("codes.i32", 1), None)
driver.start()
tell(play(driver, 12500, 100))
"""
    (got,) = bench(program, {"codes.i32": codes.astype("<i4").tobytes()})
    assert got["states"] == ["running"]
    agree(np.array(got["samples"][0]), 100 * celsius[:12], 1)
    assert len(got["samples"][0]) in (11, 12)
