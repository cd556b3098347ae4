"""The simulated attacks: the batch learner is the board's, wards hold no held-out person, attacks do what they say."""

import json
from array import array
from itertools import chain

import numpy as np
import pytest
from typer.testing import CliRunner

from qepa_board.learning.features import N_FEATURES
from qepa_board.learning.learn import Learner
from qepa_board.learning.network import ModelShape
from qepa_server.robust.choice import Rule
from qepa_server.robust.watch import WatchSettings
from qepa_tools.attacks.attackers import SENDS, Attack
from qepa_tools.attacks.batch_learning import WORDS, local_updates
from qepa_tools.attacks.lying_gateway import lying_gateway
from qepa_tools.attacks.study import Scenario, StudySettings, Watched, run_study, scenarios
from qepa_tools.attacks.ward import synthetic_ward
from qepa_tools.cli import app


def test_the_batch_learner_gives_the_boards_integers():
    rng = np.random.default_rng(4)
    models, patients, n = 3, 7, 11
    words = rng.integers(-6000, 6000, (models, WORDS), dtype=np.int32)
    words[0] = 0
    words[2] = rng.integers(-32767, 32768, WORDS)
    beats = rng.integers(-1024, 1025, (patients, n, N_FEATURES), dtype=np.int32)
    counts = [11, 0, 1, 5, 11, 8, 3]
    labels = np.full((models, patients, n), -1, np.int32)
    for p, count in enumerate(counts):
        labels[:, p, :count] = rng.integers(0, 4, (models, count))
    found = local_updates(words, beats, labels)
    learner = Learner(ModelShape(4, N_FEATURES, 0))
    delta = array("i", bytes(4 * WORDS))
    for m in range(models):
        for p, count in enumerate(counts):
            rows = [array("h", row.tolist()) for row in beats[p, :count]]
            learner.local_update(array("i", words[m].tolist()), rows, labels[m, p, :count].tolist(), delta)
            assert found[m, p].tolist() == list(delta), (m, p)


def test_attackers_send_what_their_papers_say():
    own = np.array([[1.0, -2.0], [3.0, 0.0]])
    honest = np.array([[0.0, 2.0], [2.0, 2.0], [4.0, 2.0], [6.0, 2.0], [8.0, 2.0], [10.0, 2.0]])
    assert SENDS[Attack.SIGN_FLIP](own, honest).tolist() == [[-4, 8], [-12, 0]]
    assert SENDS[Attack.SCALING](own, honest).tolist() == [[20, -40], [60, 0]]
    assert SENDS[Attack.INNER_PRODUCT](own, honest).tolist() == [[-25, -10], [-25, -10]]
    assert SENDS[Attack.LABEL_FLIP](own, honest) is own
    # n = 8, f = 2: s = 5 - 2 = 3 supporters, z with Phi(z) = (6 - 3) / 6, so z = 0: the mean itself.
    assert SENDS[Attack.LITTLE](own, honest).tolist() == [[5, 2], [5, 2]]
    # n = 9, f = 3: s = 5 - 3 = 2 supporters, Phi(z) = 4 / 6, z = 0.4307; standard deviations sqrt(35/3) and 0.
    little = SENDS[Attack.LITTLE](np.zeros((3, 2)), honest)
    assert np.allclose(little, [[5 - 0.430727 * np.sqrt(35 / 3), 2]] * 3, atol=1e-4)


@pytest.fixture(scope="module")
def ward():
    return synthetic_ward(patients=48, gateways=2, rounds=30, seed=2)


def test_cells_are_redrawn_whole_and_leave_out_who_is_quarantined(ward):
    first, second = ward.cells(1, 7, 8, 5, set()), ward.cells(2, 7, 8, 5, set())
    assert sorted(chain(*first)) == list(range(48)) == sorted(chain(*second))
    assert first != second
    assert first == ward.cells(1, 7, 8, 5, set())
    assert sorted(chain(*ward.cells(1, 7, 8, 5, {3, 5}))) == [i for i in range(48) if i not in (3, 5)]


def test_robust_rules_keep_learning_where_the_mean_breaks_and_the_watch_finds_the_hostile(ward):
    wanted = [
        Scenario(Attack.NONE, 0.0, Rule.MEAN),
        Scenario(Attack.NONE, 0.0, Rule.TRIMMED_MEAN, watch=Watched.ALONE),
        Scenario(Attack.SCALING, 0.05, Rule.TRIMMED_MEAN),
        Scenario(Attack.SCALING, 0.05, Rule.TRIMMED_MEAN, watch=Watched.ALONE),
    ]
    settings = StudySettings(cell_target=8, min_group=5, watch=WatchSettings(window=30, min_cells=12))
    plain, watched, few, caught = run_study(ward, wanted, settings)
    assert plain.accuracy > 0.85
    assert (watched.caught, watched.wronged, watched.first_round) == (0, 0, None)
    assert few.accuracy > plain.accuracy - 0.05
    assert (caught.hostile, caught.wronged) == (2, 0)
    assert caught.caught == 2
    assert caught.first_round is not None
    assert caught.first_round >= 12


def test_every_attack_meets_every_rule():
    wanted = scenarios(Attack, [0.1, 0.3], list(Rule))
    assert len(wanted) == (1 + 5 * 2) * (len(Rule) + 3)
    assert len({(s.attack, s.share, s.defence) for s in wanted}) == len(wanted)


def test_a_lying_gateway_never_opens_a_sum_and_is_named():
    results = {result.lie: result for result in lying_gateway(24, seed=3)}
    assert results.pop("none").opened == 24
    for result in results.values():
        assert (result.opened, sum(result.reasons.values())) == (0, 24), result
        assert result.blamed_in_round is not None, result
    assert set(results["alters a word and guesses checks"].reasons) == {"check"}
    assert set(results["lists a board that is not there"].reasons) == {"board"}


def test_the_command_prints_a_labelled_record_and_draws(tmp_path):
    options = ["--synthetic", "--patients", "24", "--gateways", "1", "--rounds", "2", "--shares", "25", "--json"]
    result = CliRunner().invoke(app, ["simulate", "attack", *options, "--plot", str(tmp_path / "a.png")])
    found = json.loads(result.stdout)
    assert found["simulated"] is True
    assert found["data"] == "synthetic beats"
    assert len(found["scenarios"]) == 6 * (len(Rule) + 3)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for shares in ("x", "0", "60"):
        refused = CliRunner().invoke(app, ["simulate", "attack", "--synthetic", "--shares", shares])
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
