"""The tables of signal figures: what is counted, on whom, and one clear sentence where data are missing."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from qepa_tools.recordings import BeatLabel, DataError, Recording
from qepa_tools.recordings.bidmc import BidmcRecord, load_bidmc, reported
from qepa_tools.recordings.cgm import SETS, load_cgm
from qepa_tools.recordings.motion_set import load_motion
from qepa_tools.recordings.noise_stress import is_noisy
from qepa_tools.recordings.peak_detectors import PeakCache
from qepa_tools.recordings.peak_tables import score
from qepa_tools.recordings.places import find_data, find_sets
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.respiration_tables import reference_rate
from qepa_tools.recordings.study import main
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_tools.recordings.table import Table, number, percent
from qepa_tools.recordings.wrist_ppg import load_wrist


def compressed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def bidmc_record(folder: Path, number_: int, order: str = "PLETH, RESP, II") -> None:
    """A record of two seconds whose channels are 1, 2 and 3."""
    values = {"PLETH": "1", "RESP": "2", "II": "3"}
    row = ",".join(values[name] for name in order.split(", "))
    compressed(folder / f"bidmc_{number_:02}_Signals.csv.gz", f"Time [s], {order}\n" + f"0,{row}\n" * 250)
    compressed(
        folder / f"bidmc_{number_:02}_Numerics.csv.gz", "Time [s], HR, PULSE, RESP, SpO2\n" + "0,60,61,12,97\n" * 2
    )
    compressed(
        folder / f"bidmc_{number_:02}_Breaths.csv.gz",
        "breaths ann1 [signal sample no], breaths ann2 [signal sample no]\n125,130\n250,\n",
    )


def test_no_patient_is_tuned_on_and_reported_on() -> None:
    assert [n for n in range(1, 34) if reported(n)] == [
        2, 4, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 21, 22, 23, 24, 26, 28, 30, 32,
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["PLETH, RESP, II", "II, PLETH, RESP"])
def test_channels_are_found_by_name(tmp_path: Path, order: str) -> None:
    bidmc_record(tmp_path, 3, order)
    record = load_bidmc(tmp_path, 3)
    assert (record.pleth[0], record.resp[0], record.ecg[0]) == (1, 2, 3)
    assert [marks.tolist() for marks in record.breaths] == [[1.0, 2.0], [1.04]]
    assert (record.seconds, record.resp_rate.tolist()) == (2, [12, 12])


def test_light_falls_when_blood_comes_and_red_is_what_it_is_said_to_be() -> None:
    wave = np.array([0.0, 1.0, 0.0, 1.0])
    none = np.zeros(0)
    record = BidmcRecord(
        number=1, ecg=none, pleth=wave, resp=none, hr_bpm=none, pulse_bpm=none, resp_rate=none, spo2=none,
        breaths=(none, none),
    )  # fmt: skip
    infrared, red = record.infrared_counts(), record.red_counts(0.5)
    assert infrared[1] < infrared[0]
    shares = [np.ptp(light) / light.mean() for light in (red, infrared)]
    assert shares[0] / shares[1] == pytest.approx(0.5, rel=0.01)


def test_a_reference_is_what_two_annotators_agree_on() -> None:
    marks = np.arange(0, 40, 4.0)
    assert reference_rate((marks, marks + 0.3), 36) == pytest.approx(15)
    assert reference_rate((marks, np.arange(0, 40, 3.0)), 36) is None
    assert reference_rate((marks, marks[:2]), 36) is None


def test_noise_is_on_for_two_minutes_of_four_from_the_fifth_on() -> None:
    assert [is_noisy(60 * minute * 360 + 1, 360) for minute in range(13)] == [
        False, False, False, False, False, True, True, False, False, True, True, False, False,
    ]  # fmt: skip


def test_score_counts_where_it_is_told_to() -> None:
    recording = Recording(
        id="x", person="x", fs_hz=360, samples=np.zeros(2000, np.uint16), excluded=((1500, 1800),),
        labels=tuple(BeatLabel(sample, 0) for sample in (100, 500, 900, 1600)),
    )  # fmt: skip
    assert score([102, 700, 905, 1601], recording, lambda _: True, 2000) == (2, 1, 1)
    assert score([102, 700, 905, 1601], recording, lambda sample: sample < 600, 2000) == (1, 1, 0)
    assert score([102, 700, 905, 1601], recording, lambda _: True, 850) == (1, 1, 1)


def test_detectors_agree_on_a_plain_ecg_and_are_asked_once(tmp_path: Path) -> None:
    recording = synthetic_recording(5, 0, 30)
    counts = counts_from_adc(recording.samples)
    cache = PeakCache(tmp_path)
    for detector in ("board", "xqrs", "gqrs"):
        found = cache.peaks(detector, counts, 360)
        hit, missed, _ = score(found, recording, lambda sample: sample > 5 * 360, 28 * 360)
        assert hit > 20
        assert missed <= 1
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cache.peaks("xqrs", counts, 360)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    with pytest.raises(DataError, match="no detector"):
        cache.peaks("other", counts, 360)


def test_what_a_glucose_monitor_shows_beyond_its_range_is_a_number(tmp_path: Path) -> None:
    compressed(
        tmp_path / SETS["Hall 2018"] / "x-files" / "p.csv.gz",
        "timestamp,glucose_value_mg_dl\n2020-01-01 00:05:00,Low\n2020-01-01 00:00:00,70.4\n2020-01-01 00:10:00,High\n",
    )
    (record,) = load_cgm(tmp_path, "Hall 2018")
    assert (record.subject, record.t_s.tolist(), record.mg_dl.tolist()) == ("p", [0, 300, 600], [70, 39, 401])


def test_missing_and_broken_sets_are_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for load in (
        lambda: load_cgm(tmp_path, "HUPA-UCM"),
        lambda: load_motion(tmp_path, "sw"),
        lambda: load_wrist(tmp_path),
    ):
        with pytest.raises(DataError, match="holds no"):
            load()
    with pytest.raises(DataError, match="can't be read"):
        load_bidmc(tmp_path, 1)
    (tmp_path / "s1_walk.edf").write_bytes(b"not an EDF")
    with pytest.raises(DataError, match="can't be read as EDF"):
        load_wrist(tmp_path)
    with pytest.raises(DataError, match="no directory"):
        find_sets(tmp_path / "nowhere")
    assert main(["glucose", "--data", str(tmp_path)]) == 2
    assert "holds no glucose readings" in capsys.readouterr().err


def test_a_table_is_aligned_or_markdown() -> None:
    table = Table(
        title="T", columns=["name", "Se %"], rows=[["a", percent(1, 3)], ["long name", number(None)]], notes=["N."]
    )
    assert table.text().splitlines() == ["T", "name       Se %", "a          33.3", "long name     -", "N."]
    assert table.markdown().splitlines() == [
        "**T**", "", "| name | Se % |", "| --- | --- |", "| a | 33.3 |", "| long name | - |", "", "N.",
    ]  # fmt: skip
    assert percent(0, 0) == number(float("nan")) == "-"
    assert [number(-0.04), number(-0.06), number(2.345, 2)] == ["0.0", "-0.1", "2.35"]


def test_the_command_prints_what_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in SETS.values():
        rows = "".join(f"2020-01-01 {k // 12:02}:{5 * (k % 12):02}:00,{60 + 4 * (k % 40)}\n" for k in range(200))
        compressed(tmp_path / "cgm" / folder / "x-files" / "p.csv.gz", "timestamp,glucose_value_mg_dl\n" + rows)
    assert main(["glucose", "--markdown", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| Hall 2018 | 1 | 200 |" in printed
    assert main(["glucose", "--markdown", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed


def test_sets_lie_around_the_records_of_mitdb() -> None:
    found = find_data()
    if found is None:
        pytest.skip("no recordings here")
    assert find_sets() == found.parent
