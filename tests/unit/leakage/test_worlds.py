"""Shadow worlds: trained by the boards' integers and the server's rules, watched by four observers."""

import numpy as np
import pytest

from qepa_tools.attacks.ward import synthetic_ward
from qepa_tools.errors import ToolError
from qepa_tools.leakage.membership import offline_scores
from qepa_tools.leakage.protection import protections
from qepa_tools.leakage.rates import auc
from qepa_tools.leakage.worlds import Observer, confidences, train_worlds


@pytest.fixture(scope="module")
def ward():
    return synthetic_ward(patients=48, gateways=1, rounds=2, seed=3)


@pytest.fixture(scope="module")
def trained(ward):
    return {
        protection.epsilon: train_worlds(ward, protection, worlds=40, cell=12, seed=1)
        for protection in protections([0.0, 8.0, 1.0], 2, 10)
    }


def found(worlds, observer):
    return auc(offline_scores(worlds.statistics[observer], worlds.members).ravel(), worlds.members.ravel())


def test_an_update_in_the_open_names_its_patient_and_sums_of_cells_tell_without_noise(trained):
    assert found(trained[0.0], Observer.ONE_UPDATE) == 1.0
    assert found(trained[0.0], Observer.CELL_SUMS) > 0.7
    assert found(trained[0.0], Observer.EVERY_MODEL) > 0.55


def test_a_board_alone_adds_too_little_noise_to_hide_its_patient(trained):
    assert found(trained[8.0], Observer.ONE_UPDATE) > found(trained[8.0], Observer.CELL_SUMS) + 0.1


def test_a_small_budget_hides_the_patient_from_who_sees_models_or_sums(trained):
    for observer in (Observer.LAST_MODEL, Observer.EVERY_MODEL, Observer.CELL_SUMS):
        assert found(trained[1.0], observer) < 0.6, observer


def test_models_learn_without_noise(ward, trained):
    accuracies = [ward.held_out.accuracy(model.tolist())[0] for model in trained[0.0].models[:4]]
    assert min(accuracies) > 0.7


def test_confidence_is_the_logit_of_the_true_class(ward):
    model = np.random.default_rng(1).integers(-4000, 4000, (1, 72)).astype(np.int32)
    weights = model.reshape(4, 18) / 4096
    logits = []
    for beats, labels in zip(ward.beats[:, 5], ward.labels[:, 5], strict=True):
        for beat, label in zip(beats, labels, strict=True):
            if label >= 0:
                z = np.exp(weights[:, :-1] @ (beat / 256) + weights[:, -1])
                p = z[label] / z.sum()
                logits.append(np.log(p / (1 - p)))
    assert np.isclose(confidences(model, ward)[0, 5], np.mean(logits))


def test_budgets_that_no_noise_keeps_are_refused():
    with pytest.raises(ToolError, match="No noise"):
        protections([0.001], 1000, 10)
