"""Rounds of learning in the true protocol give what adding up in the clear gives, and keep to their terms."""

import random
from itertools import chain

import numpy as np
import pytest

from qepa_board.learning.learn import DELTA_NORM_LIMIT
from qepa_server.config import LearningConfig
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import epsilon
from qepa_server.robust.choice import Rule
from qepa_server.unmask.opening import OpenedSum
from qepa_tools.attacks.attackers import Attack
from qepa_tools.attacks.ward import synthetic_ward
from qepa_tools.errors import ToolError
from qepa_tools.federated.boards import board_words, exact_noise, quick_noise, quick_words
from qepa_tools.federated.budget import under_budget
from qepa_tools.federated.sealed import SealedWard, Terms
from qepa_tools.federated.training import Course, Way, plain_sums, train
from qepa_wire.lighthe import seal

MEAN = LearningConfig(aggregator=Rule.MEAN, norm_bound=4096, clip_norm=0)


@pytest.fixture(scope="module")
def ward():
    return synthetic_ward(patients=28, gateways=7, rounds=2, seed=3)


def last(ward, *courses):
    *_, (_, states) = train(ward, courses, seed=1)
    return states


def spec_of(**learning):
    return plan_rounds(Course(name="", rounds=1, learning=LearningConfig(**learning)).config).streams[1]


@pytest.mark.parametrize("learning", [{}, {"clip_norm": 700}, {"clip_norm": 1024, "q_max": 100}, {"q_max": 12}])
def test_quick_words_are_the_boards(learning):
    updates = np.random.default_rng(2).integers(-1024, 1025, (40, 72)).astype(np.int32)
    spec = spec_of(**learning)
    assert (quick_words(updates, spec) == board_words(updates, spec, 4096)).all()


def test_noise_has_the_variance_of_the_terms():
    drawn = exact_noise((40, 72), 256 * 400, random.Random(1).getrandbits)
    assert drawn.std() == pytest.approx(20, rel=0.1)
    assert quick_noise((40, 72), 256 * 400, np.random.default_rng(1)).std() == pytest.approx(20, rel=0.1)


def test_sealed_sums_are_the_plain_ones_and_words_are_not_sent(ward):
    rng = np.random.default_rng(5)
    words = rng.integers(-1024, 1025, (28, 72)) + rng.integers(-3000, 3001, (28, 72))
    spec = spec_of(noise_variance=2.0**20, clip_norm=3072)
    terms = Terms(round=7, model=7, spec=spec, n_max=4096, min_group=10)
    cells = ward.cells(7, 1, 12, 10, set())
    assert max(len({ward.gateways[i] for i in cell}) for cell in cells) > 1, "pair masks are in it"
    sealed = SealedWard(ward.names, ward.gateways, np.random.default_rng(1))
    assert sealed.sums(words, cells, terms) == list(plain_sums(words, cells, ward.names, spec))
    sent = sealed.seal(words, terms)
    assert len(set(sent)) == 28
    assert sent[0][:288] != words[0].astype("<i4").tobytes()
    keys = [sealed._links[0], sealed._ends[0]]
    assert sent[0] == seal(words[0].tolist(), keys, sealed._terms_key(terms), spec.stream, 7)


def test_a_gateway_that_alters_a_stripped_vector_opens_nothing(ward):
    terms = Terms(round=1, model=1, spec=spec_of(), n_max=4096, min_group=10)
    cells = ward.cells(1, 1, 12, 10, set())
    sealed = SealedWard(ward.names, ward.gateways, np.random.default_rng(1))
    stripped = sealed.strip(sealed.seal(np.ones((28, 72), np.int64), terms), terms)
    stripped[cells[0][0]] = bytes([stripped[cells[0][0]][0] ^ 1]) + stripped[cells[0][0]][1:]
    first, *others = sealed.open(sealed.add(stripped, cells, terms), terms)
    assert "altered" in first
    assert all(isinstance(found, OpenedSum) for found in others)


@pytest.mark.parametrize("budget", [0.0, 8.0])
@pytest.mark.parametrize("attack", [Attack.NONE, Attack.SCALING])
def test_the_models_of_the_true_protocol_are_those_of_plain_sums(ward, budget, attack, monkeypatch):
    course = Course(name="", rounds=2, attack=attack, share=0.1 if attack is Attack.SCALING else 0.0)
    if budget:
        course = under_budget(course, budget, 1024)
    (sealed,) = last(ward, course)
    monkeypatch.setattr(
        SealedWard, "sums", lambda _self, words, cells, terms: list(plain_sums(words, cells, ward.names, terms.spec))
    )
    (plain,) = last(ward, course)
    assert sealed.words == plain.words
    assert any(sealed.words)


def test_without_noise_the_mean_of_equal_cells_is_fedavg():
    ward = synthetic_ward(patients=24, gateways=6, rounds=2, seed=3)
    wanted = [Course(name="", rounds=2, learning=MEAN, way=way) for way in (Way.FEDAVG, Way.SEALED)]
    plain, sealed = last(ward, *wanted)
    assert sealed.cells == 4
    assert np.abs(np.array(plain.words) - np.array(sealed.words)).max() <= 2, "halves round apart, once a round"


def test_noise_keeps_the_budget_by_the_servers_account(ward):
    course = under_budget(Course(name="", rounds=2), 3.0, 1024)
    (state,) = last(ward, course)
    assert state.refused == 0
    assert 2.0 < epsilon(float(state.rho.max()), 1e-6) <= 3.0
    assert plan_rounds(course.config).streams[1].clip_norm == 1024
    with pytest.raises(ToolError, match="epsilon"):
        under_budget(Course(name="", rounds=100_000), 0.01, 4096)


def test_updates_are_seen_and_kept_within_what_boards_allow(ward):
    seen = []
    list(train(ward, [Course(name="", rounds=2)], 1, lambda number, updates: seen.append((number, updates))))
    assert [number for number, _ in seen] == [0, 1]
    assert max(float(np.linalg.norm(row)) for row in chain(*(updates[0] for _, updates in seen))) <= DELTA_NORM_LIMIT


def test_decay_towards_the_start_stays_near_it(ward):
    start = tuple(int(word) for word in np.random.default_rng(1).integers(-3000, 3000, 72))
    decaying = LearningConfig(decay=2, rate_numerator=1, rate_denominator=100)
    near, far = last(
        ward,
        Course(name="", rounds=2, learning=decaying, start=start, towards_start=True),
        Course(name="", rounds=2, learning=decaying, start=start),
    )
    distance = [np.linalg.norm(np.array(state.words) - start) for state in (near, far)]
    assert distance[0] < 0.1 * distance[1]
