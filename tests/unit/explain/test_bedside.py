"""Segments of the gateway's window and its rhythm as players: their credit, its error, and their words."""

import numpy as np
import pytest

from qepa_gateway.inference.reasons import players
from qepa_gateway.inference.windows import BEFORE_R, LEADS, LENGTH
from qepa_tools.explanation.bedside import (
    OtherBeats,
    explain_at_bedside,
    explain_window,
    standard_errors,
)
from qepa_tools.explanation.bedside_story import draw, read_model
from qepa_tools.explanation.bedside_table import called
from qepa_tools.training.beat_set import BeatSet
from qepa_uplink.beat_reasons import PLAYERS, phrases
from qepa_uplink.bedside_models import NUMBERS, regularity

CLASSES = ("N", "S", "V", "F")


def numbers(**values: float) -> np.ndarray:
    assert set(values) <= set(NUMBERS)
    return np.array([values.get(name, 0.0) for name in NUMBERS], np.float32)


def words(**values: float) -> dict[str, str]:
    return phrases(dict(zip(NUMBERS, map(float, numbers(**values)), strict=True)))


def others(n: int, *, second_lead: float = 0.0) -> OtherBeats:
    """Flat beats, each of a person of its own."""
    return OtherBeats(
        leads=np.zeros((n, LENGTH, 2 * LEADS), np.float32),
        numbers=np.tile(numbers(second_lead=second_lead), (n, 1)),
        persons=np.arange(n),
    )


def test_every_input_belongs_to_one_player_but_what_says_which_leads_there_are() -> None:
    inputs = np.concatenate(players())
    assert len(inputs) == len(set(inputs.tolist())) == LENGTH * 2 * LEADS + len(NUMBERS) - 1
    assert LENGTH * 2 * LEADS + NUMBERS.index("second_lead") not in inputs


def test_what_a_network_looks_at_is_what_gets_the_credit() -> None:
    def run(leads: np.ndarray, rows: np.ndarray) -> np.ndarray:
        height = leads[:, BEFORE_R, 0]
        early = rows[:, NUMBERS.index("early")]
        p_wave = leads[:, BEFORE_R - 20, 0]
        return np.stack([p_wave, height * early + 2 * rows[:, NUMBERS.index("second_lead")]], axis=1)

    leads = np.zeros((LENGTH, 2 * LEADS), np.float32)
    leads[BEFORE_R, 0] = 2
    leads[BEFORE_R - 20, 0] = 1
    found = explain_window(run, leads, numbers(early=1, second_lead=1), others(3))
    by_name = dict(zip(PLAYERS, found.values.T, strict=True))
    assert by_name["P"] == pytest.approx([1, 0])
    assert by_name["QRS"] == pytest.approx([0, 1])
    assert by_name["RR before"] == pytest.approx([0, 1])
    for nothing in ("T", "baseline", "RR after", "rhythm"):
        assert by_name[nothing] == pytest.approx([0, 0])
    assert found.base == pytest.approx([0, 2])
    assert found.output == pytest.approx([1, 4])


def test_the_error_is_over_people_and_not_over_their_beats() -> None:
    by_row = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [3.0, 5.0]])
    persons = np.array([7, 7, 7, 9])
    assert standard_errors(by_row, persons) == pytest.approx([np.std([1, 3], ddof=1) / np.sqrt(2), 0])
    assert standard_errors(by_row, np.zeros(4, np.int64)) == [None, None]


def test_a_second_lead_counts_only_against_second_leads() -> None:
    both = OtherBeats(
        leads=np.ones((4, LENGTH, 2 * LEADS), np.float32),
        numbers=np.stack([numbers(second_lead=k % 2) for k in range(4)]),
        persons=np.arange(4),
    )
    assert both.with_leads_of(numbers(second_lead=1)).persons.tolist() == [1, 3]
    one = both.with_leads_of(numbers())
    assert one.leads[:, :, :2].all()
    assert not one.leads[:, :, 2:].any()
    with pytest.raises(ValueError, match="two leads, those of other people have one"):
        others(2).with_leads_of(numbers(second_lead=1))


def test_the_shipped_model_calls_an_early_wide_beat_v_by_its_qrs() -> None:
    model = read_model()
    assert model.trained_on
    t = np.arange(LENGTH) - BEFORE_R
    usual = np.exp(-((t / 2.5) ** 2)) + 0.2 * np.exp(-(((t - 30) / 8) ** 2))
    wide = np.exp(-((t / 9) ** 2)) - 0.4 * np.exp(-(((t - 30) / 8) ** 2))
    leads = np.zeros((LENGTH, 2 * LEADS), np.float32)
    leads[:, 0], leads[:, 1] = wide, wide - usual
    own = numbers(
        early=0.8, pre_to_usual=-1.2, pre_to_local=-1.2, post_to_usual=1.0, unlike=0.5, unlike_q=0.5, unlike_s=0.5,
        unlike_r=0.2, unlike_t=0.3, breadth=0.5, area=0.8,
    )  # fmt: skip
    background = others(4)
    background.leads[:, :, 0] = usual
    why = explain_at_bedside(model.run, leads, own, background, classes=CLASSES)
    assert (why.answer, why.rival) == ("V", "N")
    assert why.reasons[0].feature == "QRS"
    assert why.reasons[0].contribution > 0
    assert why.start + sum(why.parts.values()) == pytest.approx(why.lead)
    assert sum(why.probabilities.values()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="cannot be compared with V"):
        explain_at_bedside(model.run, leads, own, background, classes=CLASSES, rival="V")


def test_a_beat_in_words() -> None:
    said = words(
        pre_to_usual=-4 * 0.24, pre_to_local=-0.9, post_to_usual=4 * 0.1, height=0.3, unlike_p=0.02, unlike_t=0.15,
        unlike_q=0.3, unlike_r=0.3, unlike_s=0.3, breadth=0.5,
    )  # fmt: skip
    assert said["RR before"] == "came 24 % early by the usual interval"
    assert said["RR after"] == "the next beat came 10 % late by the usual interval"
    assert said["rhythm"] == "a regular rhythm up to then"
    assert said["P"] == "where the P wave is, like this patient's usual"
    assert said["T"] == "ST segment and T wave 15 % of the QRS's height off this patient's usual"
    assert said["QRS"] == (
        "QRS 30 % of its height off this patient's usual, 30 % taller, over 30 % of the usual height for 144 ms"
    )
    assert set(said) == set(PLAYERS)


def test_words_undo_what_an_irregular_rhythm_takes_off() -> None:
    said = words(unequal=0.4, pre_to_usual=-0.2 * regularity(0.4), pre_to_local=-0.1)
    assert said["RR before"] == "came 20 % early by the usual interval"
    assert said["rhythm"] == "an irregular rhythm: 40 % of the last intervals unlike the one before"
    assert "too irregular" in words(unequal=0.8)["RR before"]
    assert words()["RR after"] == "the next beat came in time, or no interval is known"


def test_beats_of_others_are_two_of_each_person_and_never_ones_own(person) -> None:
    cases = [person(name, seed) for seed, name in enumerate("abc")]
    sets = [made_set(case, level) for level, case in enumerate(cases)]
    drawn = draw(sets)
    assert sorted(drawn.persons.tolist()) == [0, 0, 1, 1, 2, 2]
    assert sorted(drawn.leads[:, 0, 0].tolist()) == [0, 0, 1, 1, 2, 2]
    beats = called(StandIn(), sets)
    assert [len(of) for of in beats.values()] == [15, 0]
    for beat in beats["S"]:
        level = "abc".index(beat.person)
        assert (beat.leads[0, 0], level in beat.others.leads[:, 0, 0].tolist()) == (level, False)


def made_set(case, level: float) -> BeatSet:
    n = 100
    return BeatSet(
        case=case,
        index=np.arange(n),
        leads=np.full((n, LENGTH, 2 * LEADS), level, np.float16),
        numbers=np.zeros((n, len(NUMBERS)), np.float32),
    )


class StandIn:
    """Calls every beat S."""

    def run(self, leads: np.ndarray, _numbers: np.ndarray) -> np.ndarray:
        return np.tile(np.array([0, 1, 0, 0], np.float32), (len(leads), 1))
