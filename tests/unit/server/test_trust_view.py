"""What screens are told of budgets, quarantines and roll-outs."""

import json

import pytest
from hospital_rig import Rig, ward
from pydantic import ValidationError

from qepa_server.api.trust import rollouts, sentence
from qepa_server.config import BudgetConfig, LearningConfig, PrivacyConfig
from qepa_uplink.messages import FirmwareStatus, ModelStatus, Status


def test_budgets_are_told_by_purpose_of_the_worst_and_the_median_patient_without_names(tmp_path):
    learning = LearningConfig(noise_variance=4_483_989, clip_norm=3072)
    privacy = PrivacyConfig(learning=BudgetConfig(epsilon=8))
    rig = Rig(tmp_path, ward(1, 12), learning, privacy, max_rounds=1)
    before = {row["purpose"]: row for row in rig.state()["privacy"]}
    assert before["learning"]["worst"] == {"spent_epsilon": 0.0, "left": 1.0}
    rig.connect()
    rig.pass_time(5)
    after = {row["purpose"]: row for row in rig.state()["privacy"]}
    spent = after["learning"]["worst"]
    assert (after["learning"]["noise"], after["learning"]["budget_epsilon"], after["learning"]["patients"]) == (
        True,
        8,
        12,
    )
    assert 0 < spent["spent_epsilon"] < 8
    assert 0 < spent["left"] < 1
    assert after["learning"]["median"] == spent, "all twelve were in the same sum"
    statistics = after["statistics"]
    assert (statistics["noise"], statistics["budget_epsilon"]) == (False, None)
    assert statistics["worst"] == {"spent_epsilon": None, "left": None}, "nothing bounds sums without noise"
    assert "p-1-" not in json.dumps(rig.state()["privacy"])


BOARD = {
    "board": 1, "online": True, "last_seen_ms": 1, "epoch": 1, "key_source": "qkd", "pads": 1, "model_version": 1,
}  # fmt: skip
EVIDENCE = {"cells": 40, "value": 0.62, "error": 0.0, "limit": 1.0, "p_value": 3e-9, "with": ""}


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (EVIDENCE | {"why": "breaks"}, "62% of 40 cells with it gave no valid sum; by chance: p = 3e-09"),
        (EVIDENCE | {"why": "excess", "value": 9.4}, "adds 9.4 to the energy of sums, by 40 cells"),
        (EVIDENCE | {"why": "opposes", "value": 9.4, "with": "p-1 p-2"}, "together with p-1 p-2"),
        ({"why": "of another release"}, "the figures are in the audit log"),
    ],
)
def test_evidence_is_a_sentence(evidence, said):
    assert said in sentence(evidence)


def test_releases_are_told_with_their_stage():
    model = ModelStatus(version=7, stage="canary", canary=10, failed=(3,))
    firmware = FirmwareStatus(kind="ecg", number=2, version=12, stage="refused", refused="mac")
    status = Status(now_ms=1, boards=(), link=None, refused={}, spool=0, model=model, firmware=(firmware,))
    assert rollouts(status) == [
        {"kind": "model", "version": 7, "stage": "canary", "canary": "0000000a", "failed": 1, "reason": ""},
        {"kind": "firmware ecg", "version": 12, "stage": "refused", "canary": None, "failed": 0, "reason": "mac"},
    ]
    assert rollouts(None) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"refused": {"x" * 100_000: 1}},
        {"boards": [{**BOARD, "battery_permille": 10**400}]},
        {"model": {"version": 1, "stage": "ward", "failed": [10**400]}},
    ],
)
def test_a_heartbeat_makes_no_screen_larger_than_it_has_to_be(odd):
    fields = {"type": "status", "now_ms": 1, "boards": [BOARD], "link": None, "refused": {"mac": 1}, "spool": 0}
    assert Status.model_validate_json(json.dumps(fields)).boards
    with pytest.raises(ValidationError):
        Status.model_validate_json(json.dumps(fields | odd))
