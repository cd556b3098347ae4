"""Care runs only under a valid signed consent; alerts are never lost."""

import json

import pytest
from bedside_rig import Rig

from qepa_gateway.bedside.metrics import prometheus_text
from qepa_gateway.bedside.state import bedside_state
from qepa_gateway.errors import Refused
from qepa_uplink.messages import Adopted, CareRevoke, Welcome
from qepa_wire import frame, payloads
from qepa_wire.measures import HEART_RATE, POSTURE, SENSOR_FAULT, SPO2, TEMPERATURE, UNKNOWN
from qepa_wire.payloads import Label


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=3).begin()


@pytest.fixture
def monitored(ward):
    ward.server.send_sealed("gw-1", ward.server.grant(ward.boards[1]))
    ward.settle(4)
    assert ward.boards[1].care_key is not None
    return ward


def stream(rig, number=1, hr_bpm=72):
    board = rig.boards[number]
    rig.up(board, board.care(hr_bpm))
    rig.pump()
    rig.pump()


def vitals(rig):
    return bedside_state(rig.site.gateway, rig.now_ms)["boards"][0]["vitals"]


def test_a_consent_starts_the_stream(monitored):
    stream(monitored, hr_bpm=81)
    assert vitals(monitored)["hr_bpm"] == 81
    (record,) = monitored.server.care
    care = payloads.decode_care(monitored.boards[1].care_key, 1, record.seq, record.payload)
    assert care.measures == ((HEART_RATE, 95, 81),)
    assert not monitored.site.refused


def test_a_care_record_tells_which_model_the_board_uses(monitored):
    monitored.server.broadcast(monitored.server.release(70_000))
    monitored.settle(4)
    assert monitored.site.gateway.status().boards[0].model_version == 0
    monitored.boards[1].model = 70_000 & 0xFFFF  # as the record carries it
    stream(monitored)
    assert monitored.site.gateway.status().boards[0].model_version == 70_000


def test_what_a_board_kept_while_it_was_away_is_passed_on_and_not_shown_as_the_present(monitored):
    board = monitored.boards[1]
    stream(monitored, hr_bpm=81)
    for boots, t_ms in ((board.boots, 4999), (board.boots - 1, 900_000)):
        late = payloads.Care(t_ms, boots & 0xFFFF, 0, 0, 12, 0, ((HEART_RATE, 95, 60),))
        payload = payloads.encode_care(board.care_key, board.consent_id, board.number, board.seq + 1, late)
        monitored.up(board, board.frame(frame.CARE, payload))
        monitored.pump()
        monitored.pump()
    assert vitals(monitored)["hr_bpm"] == 81
    assert len(monitored.server.care) == 3


def test_a_value_grows_stale_and_is_never_frozen(monitored):
    stream(monitored)
    monitored.now_ms += 6000
    shown = vitals(monitored)
    assert shown["age_ms"] == 6000
    assert {shown[name] for name in ("hr_bpm", "quality_percent", "beat_class", "lead_off", "asystole")} == {None}


def test_every_measure_is_shown_with_unit_and_quality_or_with_the_reason_why_not(monitored):
    monitored.boards[1].measures = (
        (SPO2, 88, 975),
        (POSTURE, 100, 2),
        (TEMPERATURE, SENSOR_FAULT, UNKNOWN),
        (250, 9, -3),
    )
    stream(monitored)
    shown = {measure["name"]: measure for measure in vitals(monitored)["measures"]}
    assert shown["spo2"] == {
        "code": SPO2,
        "name": "spo2",
        "unit": "%",
        "value": 97.5,
        "quality_percent": 88,
        "reason": None,
        "note": "uncalibrated",
    }
    assert (shown["posture"]["value"], shown["posture"]["unit"]) == ("supine", "")
    assert (shown["temperature"]["value"], shown["temperature"]["reason"]) == (None, "sensor_fault")
    assert (shown["measure_250"]["value"], shown["measure_250"]["unit"]) == (-3, "")
    monitored.now_ms += 6000
    assert {(each["value"], each["reason"]) for each in vitals(monitored)["measures"]} == {(None, "stale")}


def test_the_heartbeat_says_how_a_board_is_and_metrics_count_it_without_its_name(ward):
    board = ward.boards[2]
    board.reset_cause, board.mode = 3, 1
    board.boot()
    ward.settle(3)
    (status,) = [each for each in ward.site.gateway.status().boards if each.board == 2]
    assert (status.reset_cause, status.mode) == ("watchdog", "safe")
    text = prometheus_text(ward.site.gateway, ward.now_ms)
    assert "qepa_boards_safe_mode 1" in text
    assert 'qepa_boards_reset{cause="watchdog"} 1' in text
    assert "00000002" not in text
    ward.site.crash()
    ward.site.start()
    assert ward.site.gateway.boards.get(2).row.mode == 1


def test_a_grant_is_repeated_until_the_stream_runs_and_after_a_reboot(monitored):
    grants = lambda: [t for t, _ in monitored.boards[1].received].count(frame.CARE_GRANT)  # noqa: E731
    monitored.advance(7000)
    assert grants() >= 3
    stream(monitored)
    before = grants()
    monitored.advance(7000)
    assert grants() == before
    monitored.boards[1].boot()
    monitored.settle()
    assert monitored.boards[1].care_key is not None


def test_a_grant_says_what_is_left_of_it(monitored):
    monitored.advance(10_000)
    payload = [p for t, p in monitored.boards[1].received if t == frame.CARE_GRANT][-1]
    assert payloads.decode_grant(monitored.boards[1].care_key, 1, payload) <= 3595


def test_withdrawal_ends_the_stream_for_good(monitored):
    board = monitored.boards[1]
    stream(monitored)
    key, consent_id = board.care_key, board.consent_id
    monitored.server.broadcast(CareRevoke(consent_id=consent_id))
    monitored.settle(3)
    assert board.care_key is None
    assert vitals(monitored) is None
    assert monitored.site.spool.rows("SELECT * FROM consents") == []
    board.care_key = key  # it goes on all the same
    stream(monitored)
    assert monitored.site.refused == {"consent": 1}
    assert board.care_key is None  # told again
    monitored.server.send_sealed("gw-1", monitored.server.grant(board))
    monitored.settle(3)
    assert monitored.site.refused == {"consent": 2}
    assert board.care_key is None


def test_a_consent_ends_by_itself(tmp_path):
    rig = Rig(tmp_path, patients=3).begin()
    now_s = rig.now_ms // 1000
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1], not_after_s=now_s + 20))
    rig.settle(4)
    stream(rig)
    rig.advance(21_000)
    assert rig.boards[1].care_key is None
    assert vitals(rig) is None
    assert rig.site.spool.rows("SELECT * FROM consents") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient": "p-2"}, "consent"),
        ({"boards": (2,)}, "consent"),
        ({"not_after_s": 1_600_000_000}, "consent"),
        ({"not_before_s": 1_800_000_000, "not_after_s": 1_900_000_000}, "consent"),
        ({"desk": "dock", "role": "dock"}, "certificate"),
    ],
)
def test_a_consent_that_does_not_fit_is_refused(ward, changes, reason):
    ward.server.send_sealed("gw-1", ward.server.grant(ward.boards[1], **changes))
    ward.settle(3)
    assert ward.site.refused == {reason: 1}
    assert ward.boards[1].care_key is None


def test_an_altered_consent_is_refused(ward):
    grant = ward.server.grant(ward.boards[1])
    signed = grant.consent.model_copy(update={"body": grant.consent.body.replace(b"p-1", b"p-1 ")})
    ward.server.send_sealed("gw-1", grant.model_copy(update={"consent": signed}))
    ward.settle(3)
    assert ward.site.refused == {"signature": 1}


def test_a_board_of_another_patient_loses_its_consent(monitored):
    monitored.server.send_sealed("gw-1", Welcome(boards=(Adopted(board=1, patient="p-9"),)))
    monitored.settle(2)
    assert vitals(monitored) is None
    assert monitored.site.spool.rows("SELECT * FROM consents") == []
    assert [board.number for board in monitored.site.gateway.boards.served()] == [1]


def test_a_consent_outlives_a_restart_encrypted(monitored):
    key = monitored.boards[1].care_key
    monitored.site.crash()
    for path in monitored.site.directory.iterdir():
        assert key not in path.read_bytes()
    monitored.site.start()
    monitored.settle()
    stream(monitored)
    assert vitals(monitored)["hr_bpm"] == 72


def test_labels_reach_the_board(monitored):
    board = monitored.boards[1]
    monitored.site.gateway.care.label(1, board.boots, [(360 * i, i % 4) for i in range(70)])
    monitored.settle(3)
    assert board.labels == [Label(board.boots, 360 * i, i % 4) for i in range(70)]


@pytest.mark.parametrize(("number", "boots", "reason"), [(2, 1, "consent"), (1, 9, "boots"), (99, 1, "unknown_board")])
def test_labels_that_cannot_be_sent_say_why(monitored, number, boots, reason):
    with pytest.raises(Refused, match=reason):
        monitored.site.gateway.care.label(number, boots, [(1, 0)])


def test_an_alert_outlives_crashes_and_a_server_that_is_away(ward):
    ward.server.acknowledge = False
    ward.boards[1].alert()
    ward.settle(3)
    ward.site.crash()
    ward.server.alerts.clear()
    ward.server.sessions.clear()
    ward.site.start()
    ward.server.acknowledge = True
    ward.advance(6000)
    (report,) = ward.server.alerts.values()
    assert (report.board, report.kind, report.active) == (1, 1, True)
    assert len(ward.site.gateway.link.outbox) == 0


def test_alerts_go_first(ward):
    board = ward.boards[1]
    board.care_key, board.consent_id = bytes(32), bytes(16)
    for _ in range(20):
        ward.up(board, board.care())
    ward.up(board, board.alert())
    order = []
    take = ward.site.gateway.intake.handlers
    for type_, handler in list(take.items()):
        take[type_] = lambda b, k, f, handler=handler: (order.append(f.type), handler(b, k, f))
    ward.pump()
    assert order[0] == frame.ALERT
    assert len(order) == 21


def test_alerts_are_shown_until_they_end(ward):
    ward.boards[1].alert()
    ward.settle()
    state = bedside_state(ward.site.gateway, ward.now_ms)
    assert [alert["kind"] for alert in state["boards"][0]["alerts"]] == ["asystole"]
    ward.site.crash()
    ward.site.start()
    state = bedside_state(ward.site.gateway, ward.now_ms)
    assert [alert["kind"] for alert in state["boards"][0]["alerts"]] == ["asystole"]
    ward.boards[1].alert(active=0)
    ward.settle()
    assert bedside_state(ward.site.gateway, ward.now_ms)["boards"][0]["alerts"] == []


def shown_alerts(rig, number=1):
    boards = bedside_state(rig.site.gateway, rig.now_ms)["boards"]
    return [alert["kind"] for board in boards if board["board"] == f"{number:08x}" for alert in board["alerts"]]


def test_an_end_that_overtakes_its_beginning_leaves_no_alert_at_the_bedside(ward):
    begins = ward.boards[1].alert()
    ends = ward.boards[1].alert(active=0)
    for data in (ends, begins):  # the first was lost on the air, and came again
        ward.up(ward.boards[1], data)
        ward.settle()
    assert shown_alerts(ward) == []
    ward.site.crash()
    ward.site.start()
    assert shown_alerts(ward) == []
    ward.boards[1].alert()
    ward.settle()
    assert shown_alerts(ward) == ["asystole"]


def test_an_alert_of_one_patient_is_not_shown_of_the_next_who_wears_the_board(ward):
    ward.boards[1].alert()
    ward.settle()
    ward.server.send_sealed("gw-1", Welcome(boards=(Adopted(board=1, patient="p-9"),)))
    ward.settle(2)
    assert shown_alerts(ward) == []
    ward.site.crash()
    ward.site.start()
    assert shown_alerts(ward) == []


def test_an_alert_of_a_board_that_was_retired_does_not_come_back_with_it(ward):
    ward.boards[1].alert()
    ward.settle()
    for boards in ((), (Adopted(board=1, patient="p-1"),)):
        ward.server.send_sealed("gw-1", Welcome(boards=boards))
        ward.settle(2)
    assert shown_alerts(ward) == []


def test_alerts_that_an_earlier_release_kept_are_shown_and_ended(ward):
    spool = ward.site.spool
    with spool.transaction():
        spool.set("active_alerts", spool.vault.seal(json.dumps([[1, 1, ward.now_ms]]).encode(), "active_alerts"))
    ward.site.crash()
    ward.site.start()
    assert shown_alerts(ward) == ["asystole"]
    ward.boards[1].alert(active=0)
    ward.settle()
    assert shown_alerts(ward) == []
