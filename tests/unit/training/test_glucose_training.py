"""Glucose data sets, the error grid, warnings before a low, and a small network from end to end."""

import numpy as np
import pytest

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.glucose_windows import PRESENT
from qepa_server.training.bedside.fitting import TrainSettings
from qepa_tools.recordings.cgm import GlucoseRecord, load_cgm
from qepa_tools.recordings.places import find_data
from qepa_tools.training.clarke import ZONES, zones
from qepa_tools.training.forecasts import baselines, by_forecast, fit_glucose, run_int8
from qepa_tools.training.glucose import HALF_HOUR
from qepa_tools.training.glucose_set import glucose_set, real_readings
from qepa_tools.training.hypoglycaemia import Warnings, threshold_for, warnings
from qepa_uplink.bedside_models import GLUCOSE_30


def record(mg_dl, *, step_s=300, subject="x"):
    mg_dl = np.asarray(mg_dl, np.int64)
    return GlucoseRecord(subject=subject, t_s=step_s * np.arange(len(mg_dl)), mg_dl=mg_dl)


def person(mg_dl, **about):
    return glucose_set("invented", record(mg_dl, **about))


def wave(days=2, seed=0):
    """Invented glucose: slow swings around 110 mg/dL, down to about 55."""
    rng = np.random.default_rng(seed)
    t = np.arange(288 * days)
    swing = 55 * np.sin(2 * np.pi * t / (60 + 20 * rng.random()) + rng.random())
    return np.rint(110 + swing + rng.normal(0, 2, len(t)))


def test_changes_are_those_to_real_readings_and_unknown_without_one():
    of = person([100, 101, 102, 103, 104, 105, 106, 110, 120])
    assert of.at.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert of.changes[:, HALF_HOUR].tolist()[:1] == [18]
    assert np.isnan(of.changes[1:, HALF_HOUR]).all()
    assert of.changes[:, 0].tolist()[:4] == [3, 3, 6, 15]


def test_low_ahead_counts_readings_until_then_but_not_the_present_one():
    of = person([90, 80, 69, 75, 80, 85, 90, 95, 100, 100])
    assert of.low[:, HALF_HOUR].tolist() == [False] * 8
    of = person([90, 90, 90, 90, 90, 90, 90, 90, 69, 90])
    assert of.low[:, HALF_HOUR].tolist() == [True] * 6 + [False] * 2
    assert of.low[:, 0].tolist() == [False] * 3 + [True] * 3 + [False] * 2


def test_readings_made_up_between_real_ones_are_taken_out():
    real = np.array([100, 130, 115, 90, 140, 180, 160, 120])
    between = np.rint(np.interp(np.arange(3 * 7 + 1), 3 * np.arange(8), real))
    kept = real_readings(record(between))
    assert kept.mg_dl.tolist() == real.tolist()
    assert np.diff(kept.t_s).tolist() == [900] * 7
    assert real_readings(record(wave())) is None  # nothing straight: no telling


def test_hupa_ucm_is_interpolated_and_big_ideas_is_not():
    data = find_data()
    if data is None:
        pytest.skip("no recordings beside the checkout")
    told = {
        name: [real_readings(each) is not None for each in load_cgm(data.parent / "cgm", name)]
        for name in ("HUPA-UCM", "BIG IDEAs")
    }
    assert (sum(told["HUPA-UCM"]), len(told["HUPA-UCM"])) == (22, 24)
    assert not any(told["BIG IDEAs"])


@pytest.mark.parametrize(
    ("reference", "told", "zone"),
    [
        (100, 119, "A"), (60, 65, "A"), (200, 250, "B"), (100, 130, "B"), (150, 20, "C"), (100, 215, "C"),
        (250, 100, "D"), (50, 100, "D"), (200, 60, "E"), (60, 190, "E"),
    ],
)  # fmt: skip
def test_the_error_grid_of_clarke(reference, told, zone):
    assert ZONES[zones(np.array([reference * 1.0]), np.array([told * 1.0]))[0]] == zone


FALLING = [120] * 6 + [110, 100, 90, 80, 75, 65, 60, 60, 60] + [120] * 12


def by_value(of):
    return [-each.record.mg_dl[each.at].astype(float) for each in of]


def test_a_warning_before_an_episode_counts_with_its_lead_time():
    of = [person(FALLING)]
    found = warnings(of, by_value(of), -95, 5)
    assert (found.episodes, found.foretold, found.false) == (1, 1, 0)
    assert found.lead_s.tolist() == [900]  # from the reading of 90 to that of 65
    assert (found.sensitivity, found.false_a_day) == (1.0, 0.0)


def test_a_warning_that_nothing_follows_is_false_once_and_hysteresis_keeps_it_one():
    of = [person([120] * 6 + [94, 96, 94, 96, 94, 96, 120] + [130] * 20)]
    assert warnings(of, by_value(of), -95, 5).false == 1
    assert warnings(of, by_value(of), -95, 0).false == 3


def test_a_dip_of_ten_minutes_is_no_episode_and_rising_for_ten_does_not_end_one():
    dip = [person([120] * 5 + [65, 65, 80] + [120] * 5)]
    assert warnings(dip, by_value(dip), -95, 5).episodes == 0
    two = [person([120] * 5 + [65] * 5 + [72, 72] + [65] * 5 + [120] * 6 + [65] * 5)]
    assert warnings(two, by_value(two), -95, 5).episodes == 2


def test_no_warning_stands_once_glucose_is_low():
    of = [person(FALLING)]
    assert warnings(of, by_value(of), -60, 0).foretold == 0


def test_the_threshold_keeps_to_the_rate_and_comes_from_other_people():
    of = [person(wave(4, seed), subject=str(seed)) for seed in range(3)]
    rate = warnings(of, by_value(of), threshold_for(of, by_value(of), 2.0, 5), 5).false_a_day
    assert 0 < rate <= 2.0


def test_warnings_of_people_add_up():
    of = [person(FALLING), person(FALLING)]
    both, one = warnings(of, by_value(of), -95, 5), warnings(of[:1], by_value(of[:1]), -95, 5)
    assert Warnings.sum([one, one]).sensitivity == both.sensitivity
    assert Warnings.sum([one, one]).days == pytest.approx(both.days)


def test_the_straight_line_goes_on_and_the_last_reading_stays():
    of = [person(np.arange(60, 300, 4))]
    ways = baselines(of, of, HALF_HOUR)
    np.testing.assert_allclose(ways["straight line"].changes[0][4:], 24, atol=0.01)
    assert not ways["last reading"].changes[0].any()
    assert ways["ridge"].risks[0][10] == -(of[0].record.mg_dl[of[0].at[10]] + ways["ridge"].changes[0][10])


def test_a_small_network_fits_the_contract_and_int8_answers_as_float_does():
    train = [person(wave(3, seed), subject=str(seed)) for seed in range(4)]
    unseen = [person(wave(1, 9), subject="9")]
    network, blob = fit_glucose(train, HALF_HOUR, TrainSettings(epochs=6, draw=4000, batch=256, rate=5e-3))
    model = load_model(GLUCOSE_30, blob)
    told = run_int8(blob, unseen)
    exact = np.asarray(network(unseen[0].windows, training=False))
    within = np.abs(exact) < 100 * model.output_step  # beyond it int8 stands at its end
    answers = np.column_stack([told.changes[0] / 100, told.risks[0] / 8])
    assert np.quantile(np.abs(answers - exact)[within], 0.99) < 3 * model.output_step
    known = np.isfinite(unseen[0].changes[:, HALF_HOUR])
    error = (told.changes[0] - unseen[0].changes[:, HALF_HOUR])[known]
    held = unseen[0].changes[known, HALF_HOUR]
    assert np.sqrt((error**2).mean()) < 0.8 * np.sqrt((held**2).mean())
    assert by_forecast(unseen, told.changes).risks[0].shape == (len(unseen[0].at),)


def test_windows_of_a_set_mark_what_is_missing():
    mg_dl = np.delete(wave(1), [100, 101, 102])
    of = GlucoseRecord(
        subject="gap", t_s=300 * np.delete(np.arange(288), [100, 101, 102]), mg_dl=mg_dl.astype(np.int64)
    )
    rows = glucose_set("invented", of)
    after = int(np.flatnonzero(rows.record.t_s[rows.at] == 300 * 110)[0])
    assert np.flatnonzero(rows.windows[after][:, PRESENT] == 0).tolist() == [14, 15, 16]
