"""Any WFDB directory: other rates and units are read, and what can't be judged is named with its reason."""

from pathlib import Path

import numpy as np
import pytest

from qepa_tools.evaluation.cohort import Cohort, read_cohort, read_persons
from qepa_tools.recordings import DataError
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.recording import counts_from_adc


def cohort(folder: Path, **options) -> Cohort:
    return read_cohort(folder, FeatureCache(folder / "cache"), lambda names, _: names, **options)


@pytest.mark.parametrize(("unit", "fs"), [("mV", 360), ("uV", 360), ("V", 250), ("mV", 128), ("uV", 1000)])
def test_units_and_rates_of_other_databases(write_record, tmp_path: Path, unit: str, fs: int) -> None:
    write_record(tmp_path, "plain")
    write_record(tmp_path, "other", unit=unit, fs=fs, lead="II")
    plain, other = load_wfdb(tmp_path, "plain"), load_wfdb(tmp_path, "other")
    assert other.fs_hz == (fs if 200 <= fs <= 500 else 360)
    assert other.duration_s == pytest.approx(20, abs=0.01)
    heights = [np.ptp(counts_from_adc(r.samples).astype(int)) for r in (plain, other)]
    assert heights[1] == pytest.approx(heights[0], rel=0.5)  # of two synthetic persons
    (case,) = cohort(tmp_path, names=["other"]).cases
    assert case.beats.sensitivity() > 0.8


def test_gaps_are_gaps_at_any_rate(write_record, tmp_path: Path) -> None:
    write_record(tmp_path, "r", fs=128, gap=slice(1280, 1408))
    recording = load_wfdb(tmp_path, "r")
    assert (counts_from_adc(recording.samples)[3610:3950] == 0).all()
    assert counts_from_adc(recording.samples)[:3590].any()


def test_what_cannot_be_judged_is_named_and_the_rest_goes_on(write_record, tmp_path: Path) -> None:
    write_record(tmp_path, "good")
    write_record(tmp_path, "bare", symbols="")
    write_record(tmp_path, "gone", gap=slice(0, 7000))
    write_record(tmp_path, "late", shift=9000)
    write_record(tmp_path, "off", shift=-90)  # a quarter of a second beside every beat
    write_record(tmp_path, "pace", symbols="/")
    write_record(tmp_path, "only", symbols="Q")
    write_record(tmp_path, "resp", unit="NU")
    write_record(tmp_path, "slow", fs=50)
    (tmp_path / "junk.hea").write_text("junk\n")
    found = cohort(tmp_path)
    assert [case.recording.id for case in found.cases] == ["good"]
    expected = {
        "bare": "no beat annotations", "gone": "samples are missing", "late": "belong to another record",
        "off": "near .* % of its annotations only", "pace": "Paced", "only": "None of its annotated beats",
        "resp": r"no lead in volts; its signals: MLII \(NU\)", "slow": "50 samples a second", "junk": "can't be read",
    }  # fmt: skip
    assert set(found.left_out) == set(expected)
    for name, why in expected.items():
        with pytest.raises(DataError, match=why):
            raise DataError(found.left_out[name])


def test_nothing_usable_is_one_error_with_all_reasons(write_record, tmp_path: Path) -> None:
    write_record(tmp_path, "bare", symbols="")
    with pytest.raises(DataError, match=r"No record .*\n  bare: .*no beat annotations"):
        cohort(tmp_path)
    with pytest.raises(DataError, match="holds no record x, y; it holds bare"):
        cohort(tmp_path, names=["x", "bare", "y"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no WFDB records"):
        cohort(tmp_path / "empty")


def test_a_lead_by_name(write_record, tmp_path: Path) -> None:
    write_record(tmp_path, "r", lead="V5")
    assert len(cohort(tmp_path, lead="V5").cases) == 1
    with pytest.raises(DataError, match=r"no lead II in volts; its signals: V5 \(mV\)"):
        cohort(tmp_path, lead="II")


def test_who_a_record_is_of(write_record, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_record(tmp_path, name)
    file = tmp_path / "persons"
    file.write_text("a, one\nb,one\n")
    assert cohort(tmp_path, persons=read_persons(file)).persons == ("c", "one")
    file.write_text("a;one\n")
    with pytest.raises(DataError, match="line 1"):
        read_persons(file)
    with pytest.raises(DataError, match="can't be read"):
        read_persons(tmp_path / "absent")
