"""A low that a model at the bedside foretells: an alarm of low priority, under a consent, that ends by itself."""

import pytest
from hospital_rig import Rig, ward
from sqlalchemy import select

from qepa_server.care.foreseen import AHEAD_MS
from qepa_server.store.schema import audit
from qepa_uplink.messages import Findings
from qepa_uplink.readings import GLUCOSE_AHEAD, HYPOGLYCAEMIA_AHEAD
from qepa_wire.measures import STALE, UNKNOWN

CONSENT = bytes(range(16))
KIND = "glucose_low_soon"
MAY_COME, NOT_EXPECTED, NOT_KNOWN = 1, 0, UNKNOWN


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    rig.hospital.consents.accept(rig.consent(board_of(rig), CONSENT, end_s=7200))
    rig.pump()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def foretell(rig, value, *, gateway="gw-1", age_ms=0):
    ahead = (GLUCOSE_AHEAD, STALE, UNKNOWN) if value == NOT_KNOWN else (GLUCOSE_AHEAD, 80, 80)
    rig.gateways[gateway].seal(
        Findings(
            board=board_of(rig).number,
            consent_id=CONSENT,
            boots=1,
            t_ms=1000,
            received_ms=rig.now - age_ms,
            model="glucose-30",
            version=1,
            readings=(ahead, (HYPOGLYCAEMIA_AHEAD, ahead[1], value)),
        )
    )
    rig.pump()


def alarms(rig):
    """(priority, lasting) of the foretold ones, the newest first."""
    return [(a.priority, a.ended_ms is None) for a in rig.hospital.alarms.newest() if a.kind == KIND]


def test_it_begins_once_and_ends_when_the_forecast_says_so(rig):
    for _ in range(3):
        foretell(rig, MAY_COME)
        rig.pass_time(5)
    assert alarms(rig) == [("low", True)]
    foretell(rig, NOT_EXPECTED)
    assert alarms(rig) == [("low", False)]
    foretell(rig, MAY_COME)
    assert alarms(rig) == [("low", True), ("low", False)]
    with rig.hospital.store.read() as connection:
        events = [row.event for row in connection.execute(select(audit)) if row.event.startswith("alarm.")]
    assert events == ["alarm.began", "alarm.ended", "alarm.began"]


def test_unknown_begins_nothing_and_ends_nothing_until_its_half_hour_is_over(rig):
    foretell(rig, NOT_KNOWN)
    assert alarms(rig) == []
    foretell(rig, MAY_COME)
    rig.now += AHEAD_MS - 60_000
    foretell(rig, NOT_KNOWN)
    rig.pass_time(2)
    assert alarms(rig) == [("low", True)]
    rig.now += 60_000
    rig.pass_time(2)
    assert alarms(rig) == [("low", False)]


def test_a_withdrawal_ends_it(rig):
    foretell(rig, MAY_COME)
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    rig.pass_time(2)
    assert alarms(rig) == [("low", False)]


def test_without_a_consent_or_from_another_gateway_there_is_none(rig):
    foretell(rig, MAY_COME, gateway="gw-2")
    assert alarms(rig) == []
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    foretell(rig, MAY_COME)
    assert alarms(rig) == []


def test_a_forecast_whose_time_is_over_begins_none(rig):
    foretell(rig, MAY_COME, age_ms=AHEAD_MS)
    assert alarms(rig) == []


def test_a_restarted_server_ends_what_nobody_foretells_any_more(rig):
    foretell(rig, MAY_COME)
    rig.crash()
    assert alarms(rig) == [("low", True)]
    rig.now += AHEAD_MS
    rig.pass_time(2)
    assert alarms(rig) == [("low", False)]
