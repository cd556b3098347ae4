"""What a simulation is made of, the noise that its budget asks for, and how its figures are judged."""

import numpy as np
import pytest

from qepa_server.privacy.accountant import epsilon
from qepa_server.rounds.ledger import SUMMED, SumRecord
from qepa_tools.errors import ToolError
from qepa_tools.simulation.measures import Truth
from qepa_tools.simulation.noise import noise_for
from qepa_tools.simulation.plan import SimulationPlan
from qepa_tools.simulation.report import write_report


def test_boards_and_patients_are_spread_evenly_and_a_patient_has_one_gateway():
    plan = SimulationPlan()
    worn = plan.boards_of_patients()
    assert (sum(worn), min(worn), max(worn)) == (1500, 7, 8)
    gateways = [plan.gateway_of(patient) for patient in range(plan.patients)]
    assert sorted(set(gateways)) == sorted(plan.gateway_names)
    assert all(gateways.count(name) == 4 for name in plan.gateway_names)


def test_who_is_silent_or_dead_is_drawn_anew_each_round_and_by_the_seed_alone():
    plan = SimulationPlan(dropouts=0.1, dead_gateways=3, seed=4)
    silent = [{b for b in range(1, 1501) if plan.is_silent(b, round_)} for round_ in (1, 2)]
    assert silent[0] != silent[1]
    assert all(100 < len(found) < 200 for found in silent)
    assert len(plan.dead_in(1)) == 3
    assert SimulationPlan(dropouts=0.1, dead_gateways=3, seed=4).dead_in(2) == plan.dead_in(2)
    assert not SimulationPlan().dead_in(1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"boards": 0},
        {"boards": 10, "patients": 20},
        {"gateways": 300},
        {"patients": 4, "gateways": 1},
        {"dropouts": 1.0},
        {"dead_gateways": 50},
        {"rounds": 0},
        {"epsilon": -1},
    ],
)
def test_what_makes_no_hospital_is_refused_in_one_sentence(wrong):
    with pytest.raises(ToolError):
        SimulationPlan(**wrong)


def test_the_noise_lets_the_budget_last_for_the_rounds_and_no_longer():
    from qepa_server.privacy.accountant import cost
    from qepa_tools.simulation.noise import CLIP_NORMS
    from qepa_uplink.messages import StreamSpec

    plan = SimulationPlan(boards=60, gateways=3, patients=12, rounds=3, epsilon=8)
    noise = noise_for(plan)
    spec = StreamSpec(
        stream=2,
        n_words=72,
        bound=1024,
        q_max=1024,
        rounding=0,
        noise_q8=round(256 * noise.learning["noise_variance"]),
        clip_norm=CLIP_NORMS[2],
    )
    spent = 3 * cost(spec, [5] * 5, plan.min_group)
    assert 7.9 < epsilon(spent, plan.delta) <= 8
    assert noise_for(SimulationPlan()) is None


def record(total, boards=(1, 2)):
    return SumRecord(1, 2, SUMMED, "", ("gw-1",), tuple(boards), 2, total, 5)


def test_an_opened_sum_is_held_against_what_was_sealed(tmp_path):
    np.savez(tmp_path / "4-2.npz", boards=np.array([1, 2, 3]), words=np.array([[1, -2], [3, 4], [100, 100]]))
    truth = Truth(tmp_path)
    assert truth.is_sum(4, record((4, 2)))
    assert not truth.is_sum(4, record((4, 3)))
    assert not truth.is_sum(4, record((4, 2), (1, 2, 9)))
    assert not truth.is_sum(5, record((4, 2)))


def test_a_board_that_sealed_twice_for_a_round_is_found(tmp_path):
    np.savez(tmp_path / "4-2.npz", boards=np.array([1, 2, 2]), words=np.array([[1, -2], [3, 4], [3, 4]]))
    assert not Truth(tmp_path).is_sum(4, record((4, 2)))


def test_the_report_says_that_it_is_simulated_and_shows_what_is_wrong(tmp_path):
    figures = {
        "number": 1, "state": "done", "announce_ms": 10, "first_frame_ms": 20, "last_frame_ms": 400, "model_ms": 300,
        "waited_ms": 0, "released_ms": 350, "work_ms": 300, "contributors": 60, "silent": 0, "dead_gateways": 0,
        "summed": 2, "void": 0, "exact": 1, "wrong": 1, "bytes": {"from boards": 1000},
    }  # fmt: skip
    document = {
        "what": "simulated: <all of it>",
        "plan": {"boards": 60, "gateways": 3, "patients": 12},
        "broker": "mosquitto",
        "note": "",
        "ok": False,
        "rounds": [figures],
        "processes": {"server": {"peak_mb": 100.0, "cpu_s": None}},
        "privacy": {"learning": {"patients": 12, "budget_epsilon": 8.0, "spent_epsilon_most": 7.5}},
    }
    text = write_report(document, tmp_path).read_text()
    assert "simulated: &lt;all of it&gt;" in text
    assert "1 are not" in text
    assert "7.5" in text
    assert 'class="bad"' in text
    assert (tmp_path / "times.png").read_bytes().startswith(b"\x89PNG")
