"""Consents, care keys, live vitals and alarms."""

import json
import os

import pytest
from hospital_rig import Rig, ward
from sqlalchemy import select

from qepa_server.errors import RefusedError
from qepa_server.robust.quarantine import Quarantined
from qepa_server.store.schema import audit
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import AlertReport, BoardStatus, CareRecord, Status
from qepa_wire import payloads
from qepa_wire.keys import care_key
from qepa_wire.measures import HEART_RATE, POOR_SIGNAL, RESP_RATE, SPO2, UNKNOWN
from qepa_wire.payloads import Care, encode_care

CONSENT = bytes(range(16))


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def care_record(rig, board, seq, *, consent_id=CONSENT, key=None, hr_bpm=72, age_ms=0, measures=(), when=(1, 1000)):
    care = Care(when[1], when[0], 0, 2, 40 + seq, 1, ((HEART_RATE, 95, hr_bpm), *measures))
    payload = encode_care(key or care_key(board.end_key, consent_id), consent_id, board.number, seq, care)
    return CareRecord(board=board.number, seq=seq, payload=payload, received_ms=rig.now - age_ms)


def vitals(rig, board):
    return next(b for b in rig.state()["boards"] if b["board"] == f"{board.number:08x}")["vitals"]


def test_a_consent_brings_the_care_key_to_its_gateway_and_vitals_to_the_ward(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    rig.pump()
    assert [g.care_key for g in gateway.grants] == [care_key(board.end_key, CONSENT)]
    assert not rig.gateways["gw-2"].grants
    gateway.seal(care_record(rig, board, 1))
    rig.pump()
    shown = vitals(rig, board)
    assert (shown["hr_bpm"], shown["beat_class"], shown["age_ms"]) == (72, "V", 0)
    rig.now += 5001
    shown = vitals(rig, board)
    assert shown["hr_bpm"] is None
    assert shown["age_ms"] == 5001


@pytest.mark.parametrize("when", [(1, 999), (0, 5000), (0xFFFF, 5000)])
def test_a_record_that_comes_late_is_not_shown_as_the_present(rig, when):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    rig.pump()
    gateway.seal(care_record(rig, board, 1))
    gateway.seal(care_record(rig, board, 2, hr_bpm=60, when=when))
    rig.pump()
    assert vitals(rig, board)["hr_bpm"] == 72
    gateway.seal(care_record(rig, board, 3, hr_bpm=60, when=(2, 5)))
    rig.pump()
    assert vitals(rig, board)["hr_bpm"] == 60


def test_the_ward_sees_every_measure_under_the_rules_of_the_heart_rate(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    gateway.seal(care_record(rig, board, 1, measures=((SPO2, 80, 941), (RESP_RATE, POOR_SIGNAL, UNKNOWN))))
    rig.pump()
    spo2, breathing = vitals(rig, board)["measures"][1:]
    assert (spo2["value"], spo2["unit"], spo2["quality_percent"], spo2["note"]) == (94.1, "%", 80, "uncalibrated")
    assert (breathing["value"], breathing["reason"]) == (None, "poor_signal")
    rig.now += 5001
    assert {measure["reason"] for measure in vitals(rig, board)["measures"]} == {"stale"}
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    assert vitals(rig, board) is None


@pytest.mark.parametrize(
    ("kind", "reason"), [("none", "consent"), ("key", "mac"), ("other board", "mac"), ("replay", "replay")]
)
def test_care_records_that_do_not_fit_are_counted_and_not_shown(rig, kind, reason):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    if kind != "none":
        rig.hospital.consents.accept(rig.consent(board, CONSENT))
    record = care_record(rig, board, 5)
    if kind == "key":
        record = care_record(rig, board, 5, key=os.urandom(32))
    elif kind == "other board":
        other = list(gateway.boards.values())[1]
        rig.hospital.consents.accept(rig.consent(other, bytes(16)))
        record = care_record(rig, other, 5, consent_id=CONSENT).model_copy(update={"board": board.number})
    elif kind == "replay":
        gateway.seal(care_record(rig, board, 5, hr_bpm=60))
    gateway.seal(record)
    rig.pump()
    assert rig.hospital.refused[reason] == 1
    assert (vitals(rig, board) or {"hr_bpm": 60})["hr_bpm"] == 60


def test_a_consent_counts_inside_its_window_only(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT, begin_s=10, end_s=20))
    rig.pass_time(9)
    assert not gateway.grants
    gateway.seal(care_record(rig, board, 1))
    rig.pump()
    assert vitals(rig, board) is None
    rig.pass_time(2)
    assert len(gateway.grants) == 1
    gateway.seal(care_record(rig, board, 2))
    rig.pump()
    assert vitals(rig, board)["hr_bpm"] == 72
    rig.pass_time(10)
    assert vitals(rig, board) is None
    assert not gateway.revoked
    gateway.seal(care_record(rig, board, 3))
    rig.pump()
    assert gateway.revoked == [CONSENT]  # a gateway that goes on is told to stop


def test_a_withdrawal_ends_care_is_repeated_and_survives_a_restart(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    rig.pump()
    gateway.seal(care_record(rig, board, 1))
    rig.pump()
    rig.dead.add("gw-1")
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    rig.pump()
    assert vitals(rig, board) is None
    assert not gateway.revoked
    rig.dead.clear()
    rig.pass_time(3)
    assert gateway.revoked[0] == CONSENT
    rig.crash()
    rig.pass_time(1)
    gateway.seal(care_record(rig, board, 2))
    rig.pump()
    assert rig.hospital.refused["consent"] == 1
    assert vitals(rig, board) is None
    with pytest.raises(RefusedError, match="used before"):
        rig.hospital.consents.accept(rig.consent(board, CONSENT))


def test_lost_grants_are_sent_again_until_records_come(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.dead.add("gw-1")
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    rig.pump()
    rig.dead.clear()
    rig.pass_time(12)
    assert len(gateway.grants) == 1


def test_of_two_consents_a_gateway_is_given_the_longer_and_the_other_when_that_ends(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT, end_s=900))
    rig.hospital.consents.accept(rig.consent(board, bytes(16), end_s=600))
    rig.pass_time(25)
    assert {g.care_key for g in gateway.grants} == {care_key(board.end_key, CONSENT)}
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    rig.pass_time(1)
    assert gateway.grants[-1].care_key == care_key(board.end_key, bytes(16))


@pytest.mark.parametrize("wrong", ["dock", "gw-1"])
def test_only_the_consent_desk_gives_and_withdraws(rig, wrong):
    board = board_of(rig)
    with pytest.raises(UplinkError, match="not a consent"):
        rig.hospital.consents.accept(rig.consent(board, CONSENT, signer=wrong))
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    with pytest.raises(UplinkError, match="not a consent"):
        rig.hospital.consents.withdraw(rig.withdrawal(CONSENT, signer=wrong))


def test_a_consent_for_anothers_board_is_refused(rig):
    mine, other = list(rig.gateways["gw-1"].boards.values())[:2]
    signed = rig.consent(mine, CONSENT)
    forged = signed.model_copy(update={"body": signed.body.replace(b"p-1-1", b"p-1-2")})
    with pytest.raises(UplinkError, match="signature"):
        rig.hospital.consents.accept(forged)
    mine.patient = other.patient
    with pytest.raises(RefusedError, match="no board of"):
        rig.hospital.consents.accept(rig.consent(mine, CONSENT))


def test_a_consent_ends_when_the_board_moves(rig):
    board = board_of(rig)
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    assert rig.hospital.consents.watched(board.number, rig.now)
    board.end_key = os.urandom(32)
    rig.enrol(board, "gw-2")
    assert not rig.hospital.consents.watched(board.number, rig.now)


def alert(rig, board, id_, *, active, kind=1, after_ms=0, value=0):
    return AlertReport(
        id=id_,
        board=board.number,
        kind=kind,
        active=active,
        value=value,
        t_ms=5000 + after_ms,
        received_ms=rig.now + after_ms,
    )


def test_an_alarm_is_acknowledged_lasts_and_ends_by_its_own_report(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    gateway.seal(alert(rig, board, "a1", active=True))
    gateway.seal(alert(rig, board, "a1", active=True))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert (alarm["kind"], alarm["priority"], alarm["active"]) == ("asystole", "high", True)
    assert gateway.acked == ["a1", "a1"]
    gateway.seal(alert(rig, board, "a1-again", active=True, after_ms=10))  # the board says it once more
    rig.pump()
    assert len(rig.state()["alarms"]) == 1
    rig.hospital.alarms.acknowledge(alarm["id"])
    gateway.seal(alert(rig, board, "b1", active=False, kind=2))  # the end of another kind
    rig.pump()
    rig.crash()
    (alarm,) = rig.state()["alarms"]
    assert alarm["active"]
    assert alarm["acknowledged"]
    rig.pass_time(1)
    gateway.seal(alert(rig, board, "a2", active=False, after_ms=2000))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert not alarm["active"]
    assert alarm["ended_ms"] is not None


@pytest.mark.parametrize(
    ("kind", "value", "name", "priority"),
    [
        (payloads.ALERT_ASYSTOLE, 0, "asystole", "high"),
        (payloads.ALERT_LEAD_OFF, 0, "lead_off", "technical"),
        (payloads.ALERT_LOW_SPO2, 843, "low_spo2", "high"),
        (payloads.ALERT_GLUCOSE_LOW, 61, "glucose_low", "medium"),
        (payloads.ALERT_GLUCOSE_LOW, 53, "glucose_low", "high"),
        (payloads.ALERT_GLUCOSE_HIGH, 310, "glucose_high", "medium"),
        (payloads.ALERT_BATTERY_LOW, 90, "battery_low", "technical"),
        (payloads.ALERT_SENSOR_FAULT, 0, "sensor_fault", "technical"),
        (payloads.ALERT_APNOEA, 0, "apnoea", "high"),
    ],
)
def test_each_kind_of_alert_has_its_name_and_priority(rig, kind, value, name, priority):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    gateway.seal(alert(rig, board, "a1", active=True, kind=kind, value=value))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert (alarm["kind"], alarm["priority"]) == (name, priority)
    gateway.seal(alert(rig, board, "a2", active=False, kind=kind, after_ms=10))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert not alarm["active"]


def test_nothing_that_was_decided_of_a_patient_holds_an_alert_back(rig):
    """No consent, a consent withdrawn, a quarantine of patient and gateway, streams barred: the alarm is there."""
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    hospital = rig.hospital
    for purpose in ("care", "statistics", "learning"):
        consent_id = os.urandom(16)
        hospital.consents.accept(rig.consent(board, consent_id, purpose=purpose))
        hospital.consents.withdraw(rig.withdrawal(consent_id))
    evidence = {"why": "excess", "cells": 30, "value": 9.0, "error": 1.0, "limit": 1.0, "p_value": 1e-6, "with": ""}
    for kind, name in (("patient", board.patient), ("gateway", "gw-1")):
        held = Quarantined(kind, name, rig.now, 1, evidence)
        with hospital.store.write() as connection:
            hospital.quarantine.impose(connection, held)
        hospital.quarantine.adopt(held)
    assert hospital.privacy.barred(hospital.register[board.number], rig.now) == (1, 2)
    assert [(held["kind"], held["name"]) for held in rig.state()["quarantines"]] == [
        ("patient", board.patient),
        ("gateway", "gw-1"),
    ]
    gateway.seal(alert(rig, board, "a1", active=True))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert (alarm["kind"], alarm["active"]) == ("asystole", True)
    assert gateway.acked == ["a1"]


def test_an_alarm_that_becomes_worse_rises_and_wants_to_be_seen_again(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    gateway.seal(alert(rig, board, "a1", active=True, kind=4, value=65))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    rig.hospital.alarms.acknowledge(alarm["id"])
    gateway.seal(alert(rig, board, "a2", active=True, kind=4, value=50, after_ms=10))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert (alarm["priority"], alarm["acknowledged"], alarm["active"]) == ("high", False, True)
    gateway.seal(alert(rig, board, "a3", active=True, kind=4, value=68, after_ms=20))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert alarm["priority"] == "high", "it does not fall while it lasts"


def heartbeat(rig, *numbers, gateway="gw-1", **how):
    now = rig.now
    boards = tuple(
        BoardStatus(board=n, online=True, last_seen_ms=now, epoch=1, key_source="qkd", pads=3, model_version=1, **how)
        for n in numbers
    )
    rig.gateways[gateway].seal(Status(now_ms=now, boards=boards, link=None, refused={}, spool=0))
    rig.pump()


def health(rig):
    with rig.hospital.store.read() as connection:
        rows = connection.execute(select(audit.c.detail).where(audit.c.event == "board.health"))
        found = [json.loads(row.detail) for row in rows]
    return [(entry["board"], entry["reset_cause"], entry["mode"]) for entry in found]


def test_resets_nobody_asked_for_and_safe_mode_are_in_the_audit_once(rig):
    number = board_of(rig).number
    heartbeat(rig, number, reset_cause="power_on")
    assert health(rig) == []
    for _ in range(3):
        heartbeat(rig, number, reset_cause="watchdog")
    rig.now += 5_000
    heartbeat(rig, number, reset_cause="watchdog", mode="safe")
    rig.now += 5_000
    heartbeat(rig, number, reset_cause="power_on", mode="normal")
    heartbeat(rig, number, reset_cause="power_on", mode="normal")
    assert health(rig) == [
        (number, "watchdog", "normal"),
        (number, "watchdog", "safe"),
        (number, "power_on", "normal"),
    ]


def test_a_gateway_says_nothing_of_boards_that_it_does_not_serve(rig):
    heartbeat(rig, board_of(rig, "gw-2").number, 999, mode="safe")
    assert health(rig) == []


def test_a_board_that_is_said_to_come_and_go_does_not_fill_the_audit_log(rig):
    number = board_of(rig).number
    for mode in 50 * ("safe", "normal"):
        heartbeat(rig, number, mode=mode)
    assert len(health(rig)) == 1
    rig.now += 5_000
    heartbeat(rig, number, mode="normal")
    assert health(rig)[-1] == (number, "unknown", "normal")  # in the end it says how it is


def test_an_end_that_overtakes_its_beginning_leaves_no_alarm_behind(rig):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    gateway.seal(alert(rig, board, "a2", active=False, after_ms=2000))
    gateway.seal(alert(rig, board, "a1", active=True))
    rig.pump()
    (alarm,) = rig.state()["alarms"]
    assert not alarm["active"]


def test_alerts_of_another_gateways_board_or_kind_are_refused(rig):
    board = board_of(rig)
    rig.gateways["gw-2"].seal(alert(rig, board, "a1", active=True))
    rig.gateways["gw-1"].seal(alert(rig, board, "a2", active=True, kind=77))
    rig.pump()
    assert rig.hospital.refused["board"] == 1
    assert rig.hospital.refused["kind"] == 1
    assert rig.state()["alarms"] == []
    assert rig.gateways["gw-1"].acked == ["a2"]
    assert rig.gateways["gw-2"].acked == ["a1"]


def test_what_is_refused_reaches_the_log_without_its_values_and_does_not_fill_it(rig, caplog):
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.consents.accept(rig.consent(board, CONSENT))
    rig.pump()
    with caplog.at_level("DEBUG"):
        for seq in range(120):
            gateway.seal(care_record(rig, board, seq, hr_bpm=7531))  # no heart beats so fast
        rig.pump()
    assert rig.hospital.refused["payload"] == 120
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len([line for line in lines if "payload" in line]) <= 3
    assert not [line for line in lines if "7531" in line]


def test_consents_that_have_ended_cost_no_decision_each_second(rig, monkeypatch):
    board = board_of(rig)
    for number in range(50):
        rig.hospital.consents.accept(rig.consent(board, bytes([number]) * 16, end_s=1))
    rig.hospital.consents.accept(rig.consent(board, b"in force, longer", end_s=600))
    rig.now += 2000
    decided, decide = [], rig.hospital.consents.decide_care
    monkeypatch.setattr(rig.hospital.consents, "decide_care", lambda *a, **k: decided.append(a) or decide(*a, **k))
    (granted,) = [consent_id for consent_id, _ in rig.hospital.consents.grants("gw-1", rig.now)]
    assert granted == b"in force, longer"
    assert rig.hospital.consents.watched(board.number, rig.now)
    assert len(decided) == 2
