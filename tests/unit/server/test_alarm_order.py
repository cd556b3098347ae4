"""Alarms stand and end by the board's own order of words, whatever clocks say and whoever wears the board next."""

import os

import pytest
from hospital_rig import Rig, ward

from qepa_server.errors import RefusedError
from qepa_uplink.messages import AlertReport

HOUR_MS = 3_600_000
ASYSTOLE = 1


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def tell(rig, seq, *, active, epoch=7, at_ms=0, t_ms=5000, gateway="gw-1"):
    """A report as gateways make it: its frame's numbers are in its id. ``at_ms`` is by the gateway's clock."""
    board = board_of(rig)
    id_ = f"a-{board.number:08x}-{seq}" if epoch is None else f"a-{board.number:08x}-{epoch}-{seq}"
    report = AlertReport(
        id=id_, board=board.number, kind=ASYSTOLE, active=active, value=0, t_ms=t_ms, received_ms=rig.now + at_ms
    )
    rig.gateways[gateway].seal(report)
    rig.pump()


def alarms(rig):
    """(patient, lasting), the newest first."""
    return [(alarm["patient"], alarm["active"]) for alarm in rig.state()["alarms"]]


def test_an_alarm_ends_by_its_report_though_the_gateways_clock_was_set_back_meanwhile(rig):
    tell(rig, 10, active=True, t_ms=5000)
    tell(rig, 20, active=False, at_ms=-HOUR_MS, t_ms=60_000)
    assert alarms(rig) == [("p-1-1", False)]


def test_an_alarm_from_ahead_of_time_can_be_ended(rig):
    tell(rig, 10, active=True, at_ms=1000 * HOUR_MS)
    tell(rig, 20, active=False)
    assert alarms(rig) == [("p-1-1", False)]


def test_an_end_from_before_a_clock_was_set_back_ends_no_later_alarm(rig):
    """The board has restarted, so that its own time is back, too."""
    tell(rig, 10, active=True, t_ms=50_000)
    tell(rig, 20, active=False, t_ms=60_000)
    tell(rig, 2000, active=True, at_ms=-HOUR_MS, t_ms=1000)
    assert alarms(rig) == [("p-1-1", True), ("p-1-1", False)]


def test_an_end_that_comes_late_does_not_end_an_alarm_that_began_after_it(rig):
    tell(rig, 10, active=True, at_ms=0)
    tell(rig, 30, active=True, at_ms=2000)
    tell(rig, 20, active=False, at_ms=1000)
    assert alarms(rig) == [("p-1-1", True)]
    tell(rig, 40, active=False, at_ms=3000)
    assert alarms(rig) == [("p-1-1", False)]


def test_an_end_that_had_to_be_said_twice_does_not_end_an_alarm_that_began_after_it(rig):
    """The gateway, too, heard it late."""
    tell(rig, 10, active=True, at_ms=0)
    tell(rig, 30, active=True, at_ms=2000)
    tell(rig, 20, active=False, at_ms=2 * HOUR_MS)
    assert alarms(rig) == [("p-1-1", True)]


@pytest.mark.parametrize(("epoch", "after_ms"), [(8, 1000), (2, 25 * HOUR_MS)], ids=["above", "below"])
def test_a_board_whose_counters_began_anew_alarms_as_any_other(rig, epoch, after_ms):
    tell(rig, 5, active=True)
    tell(rig, 7, active=False, at_ms=500)
    tell(rig, 5, epoch=epoch, active=True, at_ms=after_ms)
    assert alarms(rig)[0] == ("p-1-1", True)
    tell(rig, 7, epoch=epoch, active=False, at_ms=after_ms + 1000)
    assert alarms(rig)[0] == ("p-1-1", False)


def test_alarms_from_gateways_that_named_no_epoch_yet_go_on_as_they_are_updated(rig):
    tell(rig, 10, epoch=None, active=True)
    tell(rig, 20, epoch=None, active=False, at_ms=1000)
    tell(rig, 30, epoch=None, active=True, at_ms=2000)
    assert alarms(rig) == [("p-1-1", True), ("p-1-1", False)]
    tell(rig, 40, active=False, at_ms=3000)
    assert alarms(rig) == [("p-1-1", False), ("p-1-1", False)]


def test_an_alarm_of_the_last_patient_is_over_when_the_board_is_anothers(rig):
    board = board_of(rig)
    tell(rig, 10, active=True)
    board.patient, board.end_key = "p-new", os.urandom(32)
    rig.enrol(board, "gw-1")
    assert alarms(rig) == [("p-1-1", False)]
    tell(rig, 20, active=True, at_ms=1000)
    assert alarms(rig) == [("p-new", True), ("p-1-1", False)]


def test_an_alarm_lasts_when_its_patients_board_gets_a_new_key(rig):
    board = board_of(rig)
    tell(rig, 10, active=True)
    board.end_key = os.urandom(32)
    rig.enrol(board, "gw-1")
    assert alarms(rig) == [("p-1-1", True)]


@pytest.mark.parametrize("number", [10**20, -(10**20), 2**63, 0])
def test_a_number_that_no_alarm_and_no_round_can_have_is_refused(rig, number):
    with pytest.raises(RefusedError, match="no alarm"):
        rig.hospital.alarms.acknowledge(number)
    assert rig.hospital.ledger.find(number) is None
