"""Windows of motion from recordings, baselines and figures, and a small network from end to end."""

import numpy as np
import pytest

from qepa_gateway.inference.motion_windows import LENGTH
from qepa_server.training.bedside.fitting import TrainSettings
from qepa_tools.recordings.motion_set import MotionRecord
from qepa_tools.recordings.places import find_data
from qepa_tools.training.activity import (
    LINEAR,
    MAJORITY,
    MEASURE,
    NETWORK,
    WAYS,
    accuracy,
    cross_validate,
    f1,
    macro_f1_interval,
    total,
    train,
)
from qepa_tools.training.activity_set import DEVICES, activity_set, activity_sets, board_activity
from qepa_uplink.readings import ACTIVITIES

QUICK = TrainSettings(epochs=4, draw=800, batch=32)


def steps(n, _what):
    return range(n)


def invented(subject, device="sw", seed=0):
    """Six seconds still, then six of swinging, in mg at 100 Hz: invented motion."""
    rng = np.random.default_rng(seed)
    t = np.arange(1200) / 100
    swing = np.where(t < 6, 0, 400 * np.sin(2 * np.pi * 2 * t))
    axes = np.array([rng.normal(0, 8, 1200), rng.normal(0, 8, 1200), 1000 + swing + rng.normal(0, 8, 1200)])
    labels = np.where(t < 6, "SEATED", "WALKING")
    return MotionRecord(
        subject=subject,
        name=f"{subject}_01",
        device=device,
        acceleration=np.rint(axes).astype(np.int32),
        labels=labels,
        orientation="",
    )


def people(n):
    return [activity_set([invented(f"s{k:02}", device, k)]) for k in range(1, n + 1) for device in DEVICES]


def test_a_window_has_the_label_of_its_middle():
    of = activity_set([invented("s01")])
    seated, walking = ACTIVITIES.index("seated"), ACTIVITIES.index("walking")
    assert of.windows.shape[1:] == (LENGTH, 4)
    middles = 5 * np.arange(len(of.classes)) + LENGTH // 2
    assert of.classes.tolist() == [seated if m < 150 else walking for m in middles]


def test_the_boards_own_measure_stands_beside_each_window():
    record = invented("s01")
    of = activity_set([record])
    assert of.activity_mg[0] == board_activity(record)[LENGTH - 1] < 50
    assert of.activity_mg[-1] > 150


def test_people_are_judged_by_models_of_others_and_still_and_moving_are_told_apart():
    sets = people(4)
    judged = cross_validate(sets, 2, QUICK, steps)
    assert set(judged.tallies) == set(WAYS)
    for device in DEVICES:
        assert sorted(judged.tallies[NETWORK][device]) == ["s01", "s02", "s03", "s04"]
        assert accuracy(total(judged.tallies[MAJORITY][device])) < 0.7
        for way in (NETWORK, LINEAR, MEASURE):
            assert accuracy(total(judged.tallies[way][device])) > 0.8
    assert judged.agreement > 0.95


def test_the_same_seed_gives_the_same_network():
    sets = people(1)
    once = TrainSettings(epochs=1, draw=200, batch=50)
    first, again = (train(sets, once, range) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_f1_and_its_interval():
    tally = np.diag([2, 2, 2, 2, 0])
    assert f1(tally)[:4] == [1.0] * 4
    assert np.isnan(f1(tally)[4])
    low, high = macro_f1_interval({"a": tally, "b": np.roll(tally, 1, axis=1)}, draws=200)
    assert 0 <= low < high <= 1


def test_a_person_of_the_recordings_has_all_five_activities():
    data = find_data()
    if data is None:
        pytest.skip("no recordings beside the checkout")
    sets = activity_sets(data.parent / "motion", lambda names, _what: names[:1], subjects=("s01",))
    assert [(each.subject, each.device) for each in sets] == [("s01", "sw")]
    assert set(sets[0].classes) == set(range(len(ACTIVITIES)))
