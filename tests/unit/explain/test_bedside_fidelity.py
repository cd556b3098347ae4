"""Whether live reasons carry the answer: beats as the gateway had them, and the model asked again without a player."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from qepa_gateway.inference.reasons import CLASSES
from qepa_gateway.inference.windows import BEFORE_R, LEADS, LENGTH, BeatWindows
from qepa_tools.evaluation.cohort import Case
from qepa_tools.explanation.bedside_fidelity import (
    LiveBeat,
    bidmc_cases,
    judge,
    live_beats,
    live_rows,
    share_by_persons,
)
from qepa_tools.recordings.board_beats import BoardBeats, FeatureCache
from qepa_tools.recordings.recording import Recording
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import NUMBERS

SECOND = 250
EARLY = NUMBERS.index("early")


class Network:
    """V where the QRS is far from usual, S where a beat is early, else N: by one input each."""

    def run_rows(self, leads: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        place = np.where(np.abs(leads[:, BEFORE_R, 1]) > 1, 2, np.where(numbers[:, EARLY] > 0.5, 1, 0))
        return np.eye(4, dtype=np.float32)[place]


def inputs(qrs: float = 0.0, early: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    leads, numbers = np.zeros((1, LENGTH, 2 * LEADS), np.float32), np.zeros((1, len(NUMBERS)), np.float32)
    leads[0, BEFORE_R, 1], numbers[0, EARLY] = qrs, early
    return leads, numbers


def live(person: str, **of: float) -> LiveBeat:
    return LiveBeat(person=person, beat=inputs(**of), usual=inputs())


def case_of(name: str, n: int) -> tuple[Case, np.ndarray]:
    """A beat every 200 samples, each with a QRS of its own height."""
    peaks = SECOND + 200 * np.arange(n)
    signal = np.zeros((peaks[-1] + 2 * SECOND, 1), np.float32)
    signal[peaks, 0] = 100 + np.arange(n)
    recording = Recording(id=name, person=name, fs_hz=SECOND, samples=np.zeros(len(signal), np.uint16), labels=())
    none = np.zeros(0, np.int8)
    beats = BoardBeats(recording=name, samples=peaks, features=np.zeros((n, 17), np.int16), classes=none, missed=none)
    return Case(recording, beats), signal


def test_beats_are_read_as_the_gateway_had_them_and_not_before_it_knew_the_usual_one() -> None:
    (a, signal_a), (b, signal_b) = case_of("a", 40), case_of("b", 30)
    signals = {"a": signal_a, "b": signal_b}
    found = live_beats({"S": [(a, 3), (a, 30)], "V": [(a, 20), (b, 29)]}, lambda case: signals[case.recording.id])
    assert {name: [each.person for each in beats] for name, beats in found.items()} == {"S": ["a"], "V": ["a", "b"]}
    windows, peaks = BeatWindows(SECOND), a.beats.samples.tolist()
    for before, peak, after in zip([None, *peaks], peaks[:21], peaks[1:], strict=False):
        beat = windows.read(signal_a, 0, peak, before, after)
    assert beat is not None
    for mine, theirs in zip((*found["V"][0].beat, *found["V"][0].usual), (*beat, *windows.usual()), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_without_the_player_that_the_model_looks_at_the_answer_ends() -> None:
    judged = judge(Network(), [live("a", qrs=2), live("b", qrs=2, early=1), live("c", early=1)], CLASSES.index("V"))
    assert [each.person for each in judged] == ["a", "b"]  # c is called S
    for each in judged:
        assert PLAYERS[each.strongest] == each.part == "QRS"
        assert each.ends.tolist() == [name == "QRS" for name in PLAYERS]
        assert not each.ends[each.weakest]
        assert each.base == -1


def test_rows_say_what_ends_the_answer() -> None:
    beats = {"S": [live("a", early=1), live("b", early=1)], "V": []}
    rows = live_rows("live", Network(), beats, {"S": ("RR", "QRS"), "V": ("QRS",)})
    assert rows == [
        ["live, called S, 2 beats of 2 people: strongest is; usual beat not N", "RR 100 %, QRS 0 %; 0 %"],
        ["live, S ends without the strongest; any; the weakest player", "100 % (100 to 100); 14 %; 0 %"],
    ]


def test_intervals_are_over_people_and_not_over_their_beats() -> None:
    alike = share_by_persons(np.array([1.0, 0.0, 1.0, 0.0]), ["a", "a", "b", "b"])
    assert alike == pytest.approx((50, 50, 50))
    apart = share_by_persons(np.array([1.0, 1.0, 0.0, 0.0]), ["a", "a", "b", "b"])
    assert apart == pytest.approx((50, 0, 100))


def write(path: Path, names: str, rows: np.ndarray) -> None:
    with gzip.open(path, "wt", encoding="ascii") as file:
        file.write(names + "\n")
        np.savetxt(file, rows, delimiter=",", fmt="%.4f")


def test_people_of_bidmc_are_told_apart_and_their_beats_are_found(tmp_path: Path) -> None:
    t = np.arange(20 * 125) / 125
    ecg = np.exp(-((((t % 0.8) - 0.4) / 0.02) ** 2))
    for number in (2, 20, 21):
        start = tmp_path / f"bidmc_{number:02}"
        write(start.with_name(start.name + "_Signals.csv.gz"), "Time [s], RESP, PLETH, II", np.c_[t, t, t, ecg])
        write(start.with_name(start.name + "_Numerics.csv.gz"), "Time [s], HR, PULSE, RESP, SpO2", np.ones((20, 5)))
        write(start.with_name(start.name + "_Breaths.csv.gz"), "breaths ann1, breaths ann2", np.ones((3, 2)))
    cases = bidmc_cases(tmp_path, FeatureCache(tmp_path / "cache"), lambda names, _what: names)
    assert [case.person for case in cases] == ["bidmc_02", "bidmc_20", "bidmc_20"]
    assert {case.recording.fs_hz for case in cases} == {250}
    assert 15 <= len(cases[0].beats.samples) <= 26
    assert np.diff(cases[0].beats.samples) == pytest.approx(200, abs=2)
