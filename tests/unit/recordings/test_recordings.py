"""Recordings: what a virtual board is fed, who lies in the ward, and one clear sentence where data are missing."""

from pathlib import Path

import numpy as np
import pytest
import wfdb

from qepa_tools.recordings import BeatLabel, DataError, Recording, find_data, synthetic_cohort, ward_split
from qepa_tools.recordings.board_beats import FeatureCache, board_beats, match_beats
from qepa_tools.recordings.evaluation import HeldOut, predict
from qepa_tools.recordings.physionet import load_all, load_wfdb
from qepa_tools.recordings.recording import UNCLASSIFIED, adc_from_millivolt, counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording


def write_record(folder: Path, name: str, symbols: str, lead: str = "MLII") -> None:
    """A WFDB record of 10 s with one annotation a second, written by wfdb itself."""
    t_s = np.arange(3600) / 360
    signal_mv = np.stack([np.sin(2 * np.pi * t_s), 0.5 * np.cos(2 * np.pi * t_s)], axis=1)
    wfdb.wrsamp(
        name, fs=360, units=["mV", "mV"], sig_name=["V5", lead], p_signal=signal_mv, fmt=["212", "212"],
        adc_gain=[200, 200], baseline=[1024, 1024], write_dir=str(folder),
    )  # fmt: skip
    if symbols:
        wfdb.wrann(name, "atr", sample=np.arange(len(symbols)) * 300 + 100, symbol=list(symbols), write_dir=str(folder))


def test_a_record_becomes_adc_words_and_aami_labels(tmp_path: Path) -> None:
    write_record(tmp_path, "r1", "N+LAV!FQ~")
    recording = load_wfdb(tmp_path, "r1")
    assert (recording.fs_hz, recording.duration_s, recording.synthetic) == (360, 10.0, False)
    assert recording.samples.dtype == np.uint16
    assert not (recording.samples & 0xF).any()
    counts = counts_from_adc(recording.samples)
    assert counts.max() == pytest.approx(200, abs=4)  # lead MLII, half a millivolt at 400 counts each
    assert [label.aami for label in recording.labels] == [0, 0, 1, 2, 3, UNCLASSIFIED]
    assert [label.sample for label in recording.labels] == [100, 700, 1000, 1300, 1900, 2200]


def test_adc_words_of_extreme_and_missing_values() -> None:
    words = adc_from_millivolt(np.array([0.0, 0.0, 0.0, 100.0, -100.0, np.nan, 1.0]))
    assert words.tolist() == [32768, 32768, 32768, 65520, 0, 32768, 32768 + 6400]
    assert counts_from_adc(words).tolist() == [0, 0, 0, 2047, -2048, 0, 400]
    assert adc_from_millivolt(np.full(3, np.nan)).tolist() == [32768] * 3


def test_flutter_and_pacing_are_marked(tmp_path: Path) -> None:
    write_record(tmp_path, "r1", "NN[!!]NN")
    write_record(tmp_path, "r2", "//f/N")
    recording, paced = load_all(tmp_path)
    assert recording.excluded == ((700, 1600),)
    assert not recording.paced
    assert paced.paced


def test_missing_and_broken_data_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no directory"):
        find_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no WFDB records"):
        find_data(tmp_path)
    with pytest.raises(DataError, match="no directory"):
        find_data(None, {"QEPA_DATA": str(tmp_path / "nowhere")}, tmp_path / "absent")
    assert find_data(None, {}, tmp_path / "absent") is None
    write_record(tmp_path, "bare", "")
    with pytest.raises(DataError, match="no beat annotations"):
        load_wfdb(tmp_path, "bare")
    write_record(tmp_path, "cut", "NNN")
    (tmp_path / "cut.dat").write_bytes(b"\0" * 10)
    with pytest.raises(DataError, match="can't be read"):
        load_wfdb(tmp_path, "cut")
    (tmp_path / "garbled.hea").write_text("not a header\n")
    with pytest.raises(DataError, match="can't be read"):
        load_wfdb(tmp_path, "garbled")
    write_record(tmp_path, "marks", "NNN")
    (tmp_path / "marks.atr").write_bytes(b"")
    with pytest.raises(DataError, match="marks"):
        load_wfdb(tmp_path, "marks")


def fake(name: str, person: str | None = None, classes: str = "NNN", paced: bool = False) -> Recording:
    labels = tuple(BeatLabel(k, "NSVF".index(symbol)) for k, symbol in enumerate(classes))
    return Recording(
        id=name, person=person or name, fs_hz=360, samples=np.zeros(9, np.uint16), labels=labels, paced=paced
    )


def test_no_person_is_on_both_sides_and_paced_ones_on_neither() -> None:
    recordings = [fake(str(k)) for k in range(20)] + [fake("201", "p"), fake("202", "p"), fake("104", paced=True)]
    for seed in range(30):
        ward, held_out = ward_split(recordings, seed)
        assert len({r.person for r in ward}) == len(ward) == 12
        assert not {r.person for r in ward} & {r.person for r in held_out}
        assert "104" not in {r.id for r in ward + held_out}
        assert ("201" in {r.id for r in ward}) != ({"201", "202"} <= {r.id for r in held_out})
    assert [r.id for r in ward_split(recordings, 3)[0]] == [r.id for r in ward_split(recordings, 3)[0]]


def test_both_sides_have_every_class_where_possible() -> None:
    rich = ["S" * 60 + "V" * 120 + "F" * 9]
    recordings = [fake(f"n{k}") for k in range(20)] + [fake(f"r{k}", classes=rich[0]) for k in range(2)]
    for seed in range(20):
        ward, held_out = ward_split(recordings, seed)
        assert sum(r.id.startswith("r") for r in ward) == sum(r.id.startswith("r") for r in held_out) == 1


def test_too_few_persons() -> None:
    with pytest.raises(DataError, match="12 patients"):
        ward_split([fake(str(k)) for k in range(11)], 1)


def test_synthetic_cohort_is_seeded_normal_and_says_so() -> None:
    first, second = synthetic_cohort(1, 2, 20), synthetic_cohort(1, 2, 20)
    assert all(
        np.array_equal(a.samples, b.samples) and a.labels == b.labels for a, b in zip(first, second, strict=True)
    )
    assert not np.array_equal(first[0].samples, synthetic_cohort(2, 1, 20)[0].samples)
    assert not np.array_equal(first[0].samples, first[1].samples)
    assert all(r.synthetic and {label.aami for label in r.labels} == {0} for r in first)
    rr_s = np.diff([label.sample for label in synthetic_recording(3, 0, 120).labels]) / 360
    assert 0.55 < rr_s.mean() < 1.2
    assert 0.005 < rr_s.std() / rr_s.mean() < 0.1


def test_matching_is_one_to_one_and_nearest_first() -> None:
    partner, missed = match_beats([100, 130, 500], [104, 160, 900], 360)
    assert partner == [0, 1, None]
    assert missed == [2]
    assert match_beats([100, 103], [104], 360) == ([None, 0], [])
    assert match_beats([100], [155], 360) == ([None], [0])
    assert match_beats([100], [154], 360) == ([0], [])


def test_cache_computes_once_and_survives_damage(tmp_path: Path) -> None:
    recording = synthetic_recording(1, 0, 20)
    cache = FeatureCache(tmp_path / "cache")
    fresh = cache.beats(recording, 20)
    again = cache.beats(recording, 20)
    assert cache.computed == 1
    assert np.array_equal(fresh.features, again.features)
    (damaged,) = (tmp_path / "cache").iterdir()
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert np.array_equal(cache.beats(recording, 20).features, fresh.features)
    assert cache.computed == 2
    cache.beats(recording, 10)
    cache.beats(synthetic_recording(1, 1, 20), 20)
    assert cache.computed == 4


def test_evaluation_counts_what_the_model_answers(tmp_path: Path) -> None:
    recordings = [synthetic_recording(1, k, 30) for k in range(2)]
    held_out = HeldOut(recordings, FeatureCache(tmp_path), 30)
    always_v = [0] * 72
    always_v[2 * 18 + 17] = 4096
    result = held_out.evaluate(always_v)
    assert result.accuracy == 0.0
    assert result.majority == 1.0
    assert result.confusion[0] == (0, 0, result.beats, 0)
    assert (result.sensitivity[0], result.ppv[2], result.f1[2]) == (0.0, 0.0, None)
    assert held_out.evaluate([0] * 72).accuracy == 1.0
    assert result.persons == 2


@pytest.mark.parametrize("hidden", [0, 10])
def test_numpy_prediction_is_the_boards(hidden: int) -> None:
    from array import array

    from qepa_board.learning import network

    rng = np.random.default_rng(0)
    features = rng.integers(-1024, 1025, (200, 17)).astype(np.int16)
    shape = network.ModelShape(hidden=hidden)
    words = rng.integers(-32767, 32768, shape.words).tolist()
    rows = [array("h", row.tobytes()) for row in features]
    expected = [network.predict(shape, array("i", words), x, array("i", bytes(16))) for x in rows]
    assert len(set(expected)) > 1
    assert predict(words, features, hidden).tolist() == expected


def test_beats_in_flutter_are_not_counted() -> None:
    recording = synthetic_recording(1, 0, 30)
    middle = (10 * 360, 20 * 360)
    without = Recording(
        id="x", person="x", fs_hz=360, samples=recording.samples, excluded=(middle,),
        labels=tuple(label for label in recording.labels if not middle[0] <= label.sample < middle[1]),
    )  # fmt: skip
    assert board_beats(without, 30).ppv() == 1.0
    assert board_beats(without, 30).sensitivity() == 1.0
