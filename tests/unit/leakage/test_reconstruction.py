"""Reading beats out of updates: all of it where nothing hides them, nothing where a sum and noise do."""

import numpy as np
import pytest

from qepa_board.learning.features import N_FEATURES
from qepa_tools.attacks.batch_learning import WORDS, local_updates
from qepa_tools.attacks.ward import synthetic_ward
from qepa_tools.leakage.protection import protections
from qepa_tools.leakage.reconstruction import View, reconstruct
from qepa_tools.leakage.single_beat import Puzzle, learnt, read_beats, read_one_beat

ZERO = np.zeros((1, WORDS), np.int32)


def update_of(beats, labels):
    return local_updates(ZERO, np.asarray(beats, np.int32)[None], np.asarray(labels, np.int32)[None, None])[0, 0]


@pytest.mark.parametrize("label", range(4))
def test_an_update_of_one_beat_is_that_beat(label):
    beat = np.random.default_rng(label).integers(-700, 701, N_FEATURES)
    features, found = read_one_beat(update_of(beat[None], [label]).astype(float))
    assert found == label
    assert np.abs(features - beat).max() <= 4  # of 256 a unit: the update's own rounding


def test_an_update_of_nothing_is_no_beat():
    features, _ = read_one_beat(np.zeros(WORDS))
    assert not features.any()


def test_the_attackers_model_of_learning_is_the_boards():
    rng = np.random.default_rng(1)
    beats, labels = rng.integers(-500, 501, (6, N_FEATURES)), np.array([0, 0, 2, 0, 1, 3])
    assert np.abs(learnt(ZERO[0], beats[None].astype(float), labels)[0] - update_of(beats, labels)).max() < 10


def test_two_beats_come_back_from_one_update():
    rng = np.random.default_rng(2)
    mean, deviation = np.zeros((2, N_FEATURES)), np.full((2, N_FEATURES), 200.0)
    beats, labels = rng.normal(0, 200, (2, N_FEATURES)).astype(int), np.array([0, 2])
    puzzle = Puzzle(words=ZERO[0], labels=labels, groups=np.arange(2), mean=mean, deviation=deviation)
    read = read_beats(update_of(beats, labels).astype(float), np.eye(WORDS), puzzle)
    assert ((read - beats) ** 2).sum() < 0.01 * (beats**2).sum()


def test_sums_and_noise_hide_what_an_update_shows():
    ward = synthetic_ward(patients=36, gateways=1, rounds=8, seed=3)
    (protection,) = protections([3.0], 8, 10)
    found = {e.view: e for e in reconstruct(ward, np.arange(36), protection, cell=12, targets=3, seed=1)}
    assert list(found) == list(View)
    assert found[View.UPDATE].beats[1] < 0.001
    assert found[View.UPDATE].mean_beat < 0.5
    for view in (View.UPDATE_NOISE, View.SUM, View.SUM_NOISE):
        assert found[view].beats[1] > 0.6, view
        assert found[view].mean_beat > 0.6, view
    (unprotected,) = protections([0.0], 8, 10)
    views = [e.view for e in reconstruct(ward, np.arange(36), unprotected, cell=12, targets=1, seed=1)]
    assert views == [View.UPDATE, View.SUM]
