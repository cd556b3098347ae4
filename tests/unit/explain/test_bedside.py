"""Segments of the gateway's window as players."""

import numpy as np
import pytest

from qepa_gateway.inference.windows import BEFORE, LEADS, LENGTH
from qepa_tools.explanation.bedside import SEGMENTS, explain_window, players
from qepa_uplink.bedside_models import NUMBERS


def test_every_input_belongs_to_one_segment_but_what_says_which_leads_there_are() -> None:
    inputs = np.concatenate(players())
    assert len(inputs) == len(set(inputs.tolist())) == LENGTH * 2 * LEADS + len(NUMBERS) - 1
    assert LENGTH * 2 * LEADS + NUMBERS.index("second_lead") not in inputs


def test_what_a_network_looks_at_is_what_gets_the_credit() -> None:
    def run(leads: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
        height = leads[:, BEFORE, 0]
        early = rhythm[:, NUMBERS.index("early")]
        p_wave = leads[:, BEFORE - 20, 0]
        return np.stack([p_wave, height * early + 2 * rhythm[:, NUMBERS.index("second_lead")]], axis=1)

    leads, rhythm = np.zeros((LENGTH, 2 * LEADS), np.float32), np.zeros(len(NUMBERS), np.float32)
    leads[BEFORE, 0] = 2
    leads[BEFORE - 20, 0] = 1
    rhythm[NUMBERS.index("early")] = 1
    rhythm[NUMBERS.index("second_lead")] = 1
    background = [np.zeros((3, LENGTH, 2 * LEADS), np.float32), np.zeros((3, len(NUMBERS)), np.float32)]
    found = explain_window(run, leads, rhythm, background)
    by_name = dict(zip(SEGMENTS, found.values.T, strict=True))
    assert by_name["P"] == pytest.approx([1, 0])
    assert by_name["QRS"] == pytest.approx([0, 1])
    assert by_name["RR"] == pytest.approx([0, 1])
    assert by_name["T"] == pytest.approx([0, 0])
    assert found.base == pytest.approx([0, 2])
    assert found.output == pytest.approx([1, 4])
