"""A clinician's labels as the board takes them: none is lost without a word."""

import numpy as np
import pytest

from qepa_board.errors import BoardError
from qepa_board.signals.vitals import Vitals
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_wire.payloads import Label


@pytest.fixture
def vitals(counts_of, push):
    vitals = Vitals(360, 60)
    push(vitals.pipeline, counts_of(synthetic_recording(4, 0, 40)))
    return vitals


def labels_of(vitals):
    return [vitals.pipeline.beats[k].label for k in range(4)]


def test_labels_of_no_class_are_refused_and_the_others_taken(vitals):
    at = [vitals.pipeline.beats[k].sample_index for k in (1, 2)]
    before = labels_of(vitals)
    with pytest.raises(BoardError) as refused:
        vitals.label([Label(1, at[0], 200), Label(1, at[1], 2)])
    assert refused.value.reason == "label"
    assert labels_of(vitals) == [*before[:2], 2, before[3]]


def test_a_label_waits_for_its_beat_ten_seconds_and_then_the_console_tells(vitals, push, capsys):
    vitals.label([Label(1, 10**8, 1)])
    for _ in range(9):
        push(vitals.pipeline, np.zeros(360))
        vitals.second(False)
    assert not capsys.readouterr().out
    push(vitals.pipeline, np.zeros(360))
    vitals.second(False)
    assert capsys.readouterr().out == "qepa: a label of no beat\n"
    vitals.second(False)
    assert not capsys.readouterr().out
