"""The server's clock is set back by an hour while it runs: what was current grows old, and work goes on."""

import pytest
from hospital_rig import Rig, ward

from qepa_server.care.foreseen import AHEAD_MS
from qepa_server.registry.repetition import Repetition
from qepa_uplink.messages import AlertReport, CareRecord, Findings, Welcome
from qepa_uplink.readings import HYPOGLYCAEMIA_AHEAD
from qepa_wire.keys import care_key
from qepa_wire.measures import HEART_RATE
from qepa_wire.payloads import Care, encode_care

HOUR_MS = 3_600_000
CONSENT, OTHER = bytes(range(16)), bytes(16)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    rig.hospital.consents.accept(rig.consent(board_of(rig), CONSENT, begin_s=-7200, end_s=7200))
    rig.pass_time(2)
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def shown(rig):
    number = f"{board_of(rig).number:08x}"
    return next(board for board in rig.state()["boards"] if board["board"] == number)


def measure(rig, seq=1):
    board = board_of(rig)
    care = Care(1000 * seq, 1, 0, 2, 40, 1, ((HEART_RATE, 95, 72),))
    payload = encode_care(care_key(board.end_key, CONSENT), CONSENT, board.number, seq, care)
    rig.gateways["gw-1"].seal(CareRecord(board=board.number, seq=seq, payload=payload, received_ms=rig.now))
    rig.pump()


def foretell(rig, value=1):
    readings = ((HYPOGLYCAEMIA_AHEAD, 80, value),)
    about = {"board": board_of(rig).number, "consent_id": CONSENT, "boots": 1, "t_ms": 1000, "received_ms": rig.now}
    rig.gateways["gw-1"].seal(Findings(model="glucose-30", version=1, readings=readings, **about))
    rig.pump()


def test_a_heart_rate_from_ahead_of_the_clock_is_not_shown_as_the_present(rig):
    measure(rig)
    foretell(rig)
    rig.now -= HOUR_MS
    assert shown(rig)["vitals"]["hr_bpm"] is None
    assert shown(rig)["findings"][0]["readings"][0]["value"] is None
    measure(rig, seq=2)
    foretell(rig)
    assert shown(rig)["vitals"]["hr_bpm"] == 72
    assert shown(rig)["findings"][0]["readings"][0]["value"] == "may come"


def test_a_gateway_that_went_silent_is_not_there_for_an_hour_more(rig):
    rig.dead.add("gw-1")
    rig.now -= HOUR_MS
    rig.pass_time(1)
    (gateway,) = [each for each in rig.state()["gateways"] if each["name"] == "gw-1"]
    assert not gateway["online"]
    assert "gw-1" not in rig.hospital.ward.present()


def test_care_keys_are_said_again_as_before(rig):
    gateway = rig.gateways["gw-1"]
    rig.now -= HOUR_MS
    before = len(gateway.grants)
    rig.pass_time(12, step_ms=2000)
    assert len(gateway.grants) > before


def test_a_withdrawal_is_said_again_as_before(rig):
    gateway = rig.gateways["gw-1"]
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    rig.pump()
    rig.now -= HOUR_MS
    before = len(gateway.revoked)
    measure(rig)  # the gateway goes on all the same
    assert len(gateway.revoked) > before


def test_what_was_foretold_ends_when_its_half_hour_is_over(rig):
    foretell(rig)
    rig.now -= HOUR_MS
    rig.pass_time(2)
    rig.now += AHEAD_MS
    rig.pass_time(2)
    (alarm,) = rig.state()["alarms"]
    assert not alarm["active"]


def test_a_gateway_that_serves_other_boards_than_it_should_is_told_again(rig):
    gateway = rig.gateways["gw-1"]
    rig.now -= HOUR_MS
    del gateway.boards[board_of(rig).number]  # it has lost a Welcome
    gateway.welcome = None
    rig.pass_time(12, step_ms=2000)
    assert isinstance(gateway.welcome, Welcome)


def test_a_gateway_whose_session_is_gone_is_told_so(rig):
    gateway = rig.gateways["gw-1"]
    rig.hospital.hub._say_unknown("gw-1", bytes(16))
    rig.pump()
    rig.now -= HOUR_MS
    rig.hospital.hub._gateways["gw-1"].session = None
    number = gateway.number
    gateway.status()
    rig.pump()
    assert gateway.number == number + 1


def test_an_alarm_is_taken_as_ever(rig):
    rig.now -= HOUR_MS
    board = board_of(rig)
    report = AlertReport(
        id=f"a-{board.number:08x}-9", board=board.number, kind=1, active=True, value=0, t_ms=1, received_ms=rig.now
    )
    rig.gateways["gw-1"].seal(report)
    rig.pump()
    assert [alarm["active"] for alarm in rig.state()["alarms"]] == [True]


def test_what_did_not_arrive_is_said_again_as_before():
    repetition, now_ms = Repetition(), 10 * HOUR_MS
    assert repetition.is_due("gw-1", 1, now_ms)
    assert not repetition.is_due("gw-1", 1, now_ms + 100)
    assert repetition.is_due("gw-1", 1, now_ms - HOUR_MS)
    assert not repetition.is_due("gw-1", 1, now_ms - HOUR_MS + 100)
