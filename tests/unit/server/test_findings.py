"""Findings of gateways' models: under the same consent as vitals, in memory only, dashes when stale."""

import pytest
from hospital_rig import Rig, ward

from qepa_server.care.findings import MODELS_AT_MOST, STALE_MS
from qepa_uplink.messages import Findings
from qepa_uplink.readings import ACTIVITY_CLASS, BEATS_N, BEATS_S, BEATS_V
from qepa_wire.measures import POOR_SIGNAL, UNKNOWN

CONSENT = bytes(range(16))
BEATS = ((BEATS_N, 95, 70), (BEATS_S, 95, 0), (BEATS_V, 95, 3))


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def findings(rig, board, *, consent_id=CONSENT, readings=BEATS, age_ms=0, model="ecg-beats", version=1):
    return Findings(
        board=board.number,
        consent_id=consent_id,
        boots=1,
        t_ms=5000,
        received_ms=rig.now - age_ms,
        model=model,
        version=version,
        readings=readings,
    )


def send(rig, message, gateway="gw-1"):
    rig.gateways[gateway].seal(message)
    rig.pump()


def shown(rig, board):
    return next(b for b in rig.state()["boards"] if b["board"] == f"{board.number:08x}")["findings"]


def test_findings_are_shown_with_their_source_and_dashes_once_they_are_stale(rig):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board))
    (found,) = shown(rig, board)
    assert found["source"] == "gateway model ecg-beats v1"
    assert [(r["name"], r["value"], r["quality_percent"]) for r in found["readings"]] == [
        ("normal_beats", 70, 95),
        ("supraventricular_beats", 0, 95),
        ("ventricular_beats", 3, 95),
    ]
    rig.now += STALE_MS + 1
    (found,) = shown(rig, board)
    assert {(r["value"], r["reason"]) for r in found["readings"]} == {(None, "stale")}
    assert found["age_ms"] == STALE_MS + 1


def test_unknown_is_shown_with_its_reason(rig):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board, readings=((BEATS_N, POOR_SIGNAL, UNKNOWN),)))
    assert shown(rig, board)[0]["readings"][0]["reason"] == "poor_signal"


def test_nothing_is_taken_without_a_consent_in_force_or_from_another_gateway(rig):
    board = board_of(rig)
    send(rig, findings(rig, board))
    assert rig.hospital.refused["consent"] == 1
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board), gateway="gw-2")
    assert rig.hospital.refused["board"] == 1
    send(rig, findings(rig, board_of(rig, "gw-2")), gateway="gw-2")  # a consent that is not for it
    assert shown(rig, board) == []
    send(rig, findings(rig, board))
    assert len(shown(rig, board)) == 1
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    assert shown(rig, board) == []
    assert not rig.hospital.findings.newest(board.number, rig.now)
    send(rig, findings(rig, board))
    assert shown(rig, board) == []


def test_what_comes_late_does_not_replace_the_newest(rig):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board))
    send(rig, findings(rig, board, readings=((BEATS_N, 95, 1),), age_ms=4000))
    assert shown(rig, board)[0]["readings"][0]["value"] == 70
    assert rig.hospital.refused["replay"] == 1


@pytest.mark.parametrize(
    "readings",
    [
        ((BEATS_N, 95, 601),),
        ((BEATS_N, 95, -1),),
        ((BEATS_N, 101, 5),),
        ((BEATS_N, 0, UNKNOWN),),
        ((BEATS_N, 95, 5), (BEATS_N, 95, 6)),
        ((ACTIVITY_CLASS, 95, 100),),
    ],
)
def test_impossible_readings_are_refused(rig, readings):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board, readings=readings))
    assert rig.hospital.refused["payload"] == 1
    assert shown(rig, board) == []


def test_a_reading_of_a_newer_gateway_has_no_name_and_models_do_not_fill_the_memory(rig):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    send(rig, findings(rig, board, readings=((250, 95, 5),)))
    assert shown(rig, board)[0]["readings"][0]["name"] == "measure_250"
    for k in range(MODELS_AT_MOST + 5):
        send(rig, findings(rig, board, model=f"m{k}"))
    assert len(shown(rig, board)) == MODELS_AT_MOST
