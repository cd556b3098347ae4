"""When alerts of each kind start, are told again, and end."""

import pytest

from qepa_board.streams.alerts import HOLD_MS, LOW_SPO2_ENDS, LOW_SPO2_STARTS, AlertEdges, falls_below
from qepa_wire.payloads import (
    ALERT_BATTERY_LOW,
    ALERT_GLUCOSE_HIGH,
    ALERT_GLUCOSE_LOW,
    ALERT_LOW_SPO2,
    ALERT_SENSOR_FAULT,
)


def feed(alerts, t_ms, **conditions):
    kinds = {"spo2": ALERT_LOW_SPO2, "glucose": ALERT_GLUCOSE_LOW, "high": ALERT_GLUCOSE_HIGH}
    kinds |= {"battery": ALERT_BATTERY_LOW, "fault": ALERT_SENSOR_FAULT}
    changes = alerts.edges(t_ms, {kinds[name]: level for name, level in conditions.items()})
    for change in changes:
        alerts.confirm(*change)
    return changes


@pytest.mark.parametrize("name", ["spo2", "battery", "fault"])
def test_a_condition_has_to_last_before_it_starts_and_be_over_before_it_ends(flash, name):
    kind = {"spo2": ALERT_LOW_SPO2, "battery": ALERT_BATTERY_LOW, "fault": ALERT_SENSOR_FAULT}[name]
    starts_ms, ends_ms = HOLD_MS[kind]
    alerts = AlertEdges(flash)
    assert feed(alerts, 0, **{name: True}) == []
    assert feed(alerts, starts_ms - 1, **{name: False}) == []
    assert feed(alerts, starts_ms, **{name: True}) == []
    assert feed(alerts, 2 * starts_ms, **{name: True}) == [(kind, 1)]
    assert feed(alerts, 3 * starts_ms, **{name: True}) == []
    over = 4 * starts_ms
    assert feed(alerts, over, **{name: False}) == []
    assert feed(alerts, over + ends_ms, **{name: False}) == [(kind, 0)]


def test_what_cannot_be_told_keeps_its_state(flash):
    alerts = AlertEdges(flash)
    assert feed(alerts, 0, glucose=1, high=None) == [(ALERT_GLUCOSE_LOW, 1)]
    assert feed(alerts, 10**6, glucose=None, high=None) == []
    assert alerts.is_active(ALERT_GLUCOSE_LOW)
    assert not alerts.is_active(ALERT_GLUCOSE_HIGH)


def test_an_alert_that_becomes_worse_is_told_again_and_once(flash):
    alerts = AlertEdges(flash)
    assert feed(alerts, 0, glucose=1) == [(ALERT_GLUCOSE_LOW, 1)]
    assert feed(alerts, 1, glucose=2) == [(ALERT_GLUCOSE_LOW, 2)]
    assert feed(alerts, 2, glucose=1) == []
    assert feed(alerts, 3, glucose=2) == []
    rebooted = AlertEdges(flash)
    assert feed(rebooted, 0, glucose=2) == []
    assert feed(rebooted, 1, glucose=0) == [(ALERT_GLUCOSE_LOW, 0)]
    assert not AlertEdges(flash).is_active(ALERT_GLUCOSE_LOW)


def test_kinds_do_not_disturb_each_other_over_a_reboot(flash):
    alerts = AlertEdges(flash)
    feed(alerts, 0, glucose=2, fault=True)
    assert feed(alerts, 5000, glucose=2, fault=True) == [(ALERT_SENSOR_FAULT, 1)]
    rebooted = AlertEdges(flash)
    assert rebooted.is_active(ALERT_SENSOR_FAULT)
    assert feed(rebooted, 0, glucose=0, fault=True) == [(ALERT_GLUCOSE_LOW, 0)]
    assert AlertEdges(flash).is_active(ALERT_SENSOR_FAULT)


def test_an_altered_record_starts_afresh(flash):
    alerts = AlertEdges(flash)
    feed(alerts, 0, glucose=1)
    flash.files["alerts"] = flash.files["alerts"][:-1] + b"?"
    assert not AlertEdges(flash).is_active(ALERT_GLUCOSE_LOW)


def test_low_saturation_has_hysteresis():
    def low(value, active):
        return falls_below(value, LOW_SPO2_STARTS, LOW_SPO2_ENDS, active)

    assert [low(value, False) for value in (899, 900, 919)] == [True, False, False]
    assert [low(value, True) for value in (899, 919, 920)] == [True, True, False]
    assert low(None, True) is None
