"""Suspicion from cell sums: hostile patients and gateways are found, honest ones, also unusual ones, are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from scipy.stats import t as student

from qepa_server.robust.failures import Outcome, blame, tail_probability
from qepa_server.robust.suspicion import OpenedCell, Trace, critical, estimates, inseparable, traces
from qepa_server.robust.watch import Watch, WatchSettings

WORDS, BOUND = 40, 4096.0


def simulate(seed, *, rounds, hostile=0, factor=-8.0, patients=60, cell=12, variance=0.0, boards=1):
    """A watch after ``rounds`` with the last ``hostile`` patients sending ``factor`` times an honest update.

    p-0 is as unusual as an honest patient can be: at the bound, in a direction of its own.
    """
    rng = np.random.default_rng(seed)
    common = rng.normal(size=WORDS)
    own = rng.normal(size=(patients, WORDS))
    watch = Watch(WatchSettings(window=rounds, min_cells=min(24, rounds)))
    for round_ in range(1, rounds + 1):
        x = 0.3 * BOUND * common / np.linalg.norm(common) + 0.06 * BOUND * (own + rng.normal(size=own.shape))
        x[0] = 10 * BOUND * own[0]
        x *= np.minimum(1, BOUND / np.linalg.norm(x, axis=1))[:, None]
        x[patients - hostile :] *= factor
        noise = np.rint(rng.normal(0, np.sqrt(boards * variance), x.shape)) if variance else 0
        sums = np.rint(boards * x) + noise
        dealt = rng.permutation(patients).reshape(-1, cell)
        cells = [
            OpenedCell(tuple(f"p-{i}" for i in m), (boards,) * cell, sums[m].sum(0).astype(np.int64)) for m in dealt
        ]
        watch.add(round_, cells, [], honest_norm=BOUND, noise_variance=variance)
    return watch


def found(watch, kind):
    return {p for finding in watch.findings() if finding.kind == kind for p in finding.patients}


@pytest.mark.parametrize("hostile", [1, 4])
def test_patients_who_send_more_than_honest_ones_can_are_found_and_nobody_else(hostile):
    watch = simulate(1, rounds=40, hostile=hostile)
    assert found(watch, "excess") == {f"p-{i}" for i in range(60 - hostile, 60)}
    assert all(finding.may_quarantine for finding in watch.findings() if finding.kind == "excess")
    first = watch.scores()[0]
    assert first.patient in found(watch, "excess")
    assert first.excess > 5


def test_honest_wards_give_no_finding_that_quarantines_however_unusual_a_patient():
    for seed in range(25):
        assert not [f for f in simulate(seed, rounds=30).findings() if f.may_quarantine], seed


def test_noise_in_the_sums_is_no_suspicion_and_hides_no_attack():
    variance = (BOUND / 40) ** 2  # the noise of a cell is as long as two whole honest updates
    assert not found(simulate(3, rounds=40, variance=variance), "excess")
    assert found(simulate(3, rounds=60, hostile=3, variance=variance), "excess") == {"p-57", "p-58", "p-59"}


def test_more_boards_on_a_patient_are_more_room_for_the_honest():
    assert not found(simulate(2, rounds=40, boards=7), "excess")
    assert found(simulate(2, rounds=40, boards=7, hostile=2), "excess") == {"p-58", "p-59"}


def test_who_turns_the_sign_within_the_bound_is_shown_to_a_person_and_never_quarantined():
    watch = simulate(5, rounds=120, hostile=3, factor=-1.0)
    assert len({"p-57", "p-58", "p-59"} & found(watch, "opposes")) >= 2
    assert not [f for f in watch.findings() if f.may_quarantine]


def test_patients_who_share_every_cell_are_named_together_and_not_quarantined():
    rng = np.random.default_rng(0)
    watch = Watch(WatchSettings(window=40, min_cells=24))
    for round_ in range(40):
        pairs = rng.permutation(20)  # the patients 2 k and 2 k + 1 are always together
        cells = []
        for chosen in pairs.reshape(4, 5):
            names = [f"p-{i}" for k in chosen for i in (2 * k, 2 * k + 1)]
            total = rng.normal(0, 0.1 * BOUND, WORDS) / 6
            total[0] += 12 * BOUND * ("p-7" in names)
            cells.append(OpenedCell(tuple(names), (1,) * 10, np.rint(total).astype(np.int64)))
        watch.add(round_, cells, [], honest_norm=BOUND)
    (finding,) = [f for f in watch.findings() if f.kind == "excess"]
    assert finding.patients == ("p-6", "p-7")
    assert not finding.may_quarantine


def test_before_the_window_tells_patients_apart_nobody_is_found():
    rng = np.random.default_rng(8)
    watch = Watch(WatchSettings(window=40, min_cells=4))
    for round_ in range(6):  # six rounds of two cells cannot single out one of 24
        dealt = rng.permutation(24).reshape(2, 12)
        cells = [OpenedCell(tuple(f"p-{i}" for i in m), (1,) * 12, np.full(WORDS, 5000 * (3 in m))) for m in dealt]
        watch.add(round_, cells, [], honest_norm=BOUND)
    assert watch.findings() == []


def test_energy_and_opposition_by_hand():
    cells = [
        OpenedCell(("a", "b"), (1, 1), np.array([4, 0])),
        OpenedCell(("c", "d"), (1, 1), np.array([4, 0])),
        OpenedCell(("e", "f"), (2, 1), np.array([0, 3])),
    ]
    # means (2, 0), (2, 0), (0, 1): the median m is (2, 0), the third sum is (-6, 3) off n m = (6, 0).
    kept, centre = traces(7, cells, honest_norm=10.0, noise_variance=0.5)
    assert centre == 0.2
    assert [trace.energy for trace in kept] == pytest.approx([-0.02, -0.02, (45 - 3 * 2 * 0.5) / 100])
    assert [trace.against for trace in kept] == [0, 0, 12 / 4]
    assert traces(7, [], honest_norm=1.0) == ([], 0.0)


def test_estimates_are_exact_where_the_cells_tell_and_calibrated_under_noise():
    rng = np.random.default_rng(2)
    truth = {f"u{i}": float(i % 7) for i in range(20)}
    kept = [Trace(r, tuple(rng.choice(list(truth), 6, replace=False)), 0.0, 0.0) for r in range(400)]
    exact = [sum(truth[u] for u in trace.units) for trace in kept]
    for estimate in estimates(kept, exact, ridge=1e-9):
        assert estimate.value == pytest.approx(truth[estimate.units[0]], abs=1e-6)
    beyond = total = 0
    for _ in range(30):
        noisy = [value + rng.normal(0, 2) for value in exact]
        for e in estimates(kept, noisy):
            beyond += e.lower(2.0) > truth[e.units[0]]
            total += 1
    assert beyond / total < 0.05  # 0.023 of a normal law


def test_units_with_the_same_cells_are_one():
    kept = [Trace(1, ("a", "b", "c"), 0, 0), Trace(1, ("d",), 0, 0), Trace(2, ("a", "b"), 0, 0)]
    assert sorted(inseparable(kept)) == [("a", "b"), ("c",), ("d",)]


@pytest.mark.parametrize("alpha", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("freedom", [20, 60, 200])
def test_the_critical_value_is_students(alpha, freedom):
    assert critical(alpha, freedom) == pytest.approx(student.isf(alpha, freedom), rel=0.045)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.data())
def test_one_stratum_is_fishers_exact_test(cells, data):
    failed, own = data.draw(st.integers(0, cells)), data.draw(st.integers(0, cells))
    k = data.draw(st.integers(0, own))
    assert tail_probability([(cells, failed, own)], k) == pytest.approx(hypergeom.sf(k - 1, cells, failed, own))


def outcomes(seed, rounds, fails, *, gateways=3, each=24, cells=3, out_of_range=False):
    """Rounds of ``cells`` cells a gateway; ``fails(rng, gateway, members)`` tells whether one does not open."""
    rng = np.random.default_rng(seed)
    made = []
    for round_ in range(rounds):
        for g in range(gateways):
            for dealt in rng.permutation(each).reshape(cells, -1):
                name = f"gw-{g}"
                members = tuple((f"p-{g}-{i}", name) for i in dealt)
                failed = bool(fails(rng, name, {patient for patient, _ in members}))
                made.append(Outcome(round_, (name,), members, failed, failed and out_of_range))
    return made


def named(rounds):
    return {(party.kind, party.name) for party in blame(rounds, alpha=1e-5)}


def test_a_gateway_that_lies_now_and_then_is_named_and_none_of_its_patients():
    assert named(outcomes(1, 60, lambda rng, g, _: g == "gw-1" and rng.random() < 0.4)) == {("gateway", "gw-1")}


def test_a_patient_whose_boards_break_sums_is_named_and_not_the_gateway():
    assert named(outcomes(1, 40, lambda _rng, _g, members: "p-2-5" in members)) == {("patient", "p-2-5")}


def test_two_patients_of_one_gateway_are_both_named_once_rounds_tell():
    rounds = outcomes(3, 120, lambda _rng, _g, members: bool({"p-2-5", "p-2-9"} & members))
    assert named(rounds) == {("patient", "p-2-5"), ("patient", "p-2-9")}


def test_words_out_of_range_are_never_a_gateways_doing():
    rounds = outcomes(4, 60, lambda rng, g, _: g == "gw-1" and rng.random() < 0.4, out_of_range=True)
    assert named(rounds) == set()


def test_failures_at_random_name_nobody():
    for seed in range(20):
        assert named(outcomes(seed, 30, lambda rng, *_: rng.random() < 0.3)) == set(), seed


def test_a_gateway_with_one_cell_a_round_stands_for_its_patients():
    rounds = outcomes(5, 30, lambda _rng, _g, members: "p-1-1" in members, gateways=6, each=12, cells=1)
    assert named(rounds) == {("gateway", "gw-1")}


def test_settings_without_meaning_are_refused():
    for wrong in ({"window": 8, "min_cells": 9}, {"alpha": 0.0}, {"min_cells": 1}):
        with pytest.raises(ValueError, match="must hold"):
            WatchSettings(**wrong)
