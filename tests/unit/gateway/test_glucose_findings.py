"""From glucose in care records to a forecast at the server: under the consent, and gone with it."""

import pytest
from bedside_rig import Rig
from test_glucose_reader import Shelf

from qepa_gateway.inference.glucose import GlucoseReader
from qepa_gateway.inference.service import Inference
from qepa_uplink.messages import CareRevoke, Findings
from qepa_uplink.readings import GLUCOSE_AHEAD, HYPOGLYCAEMIA_AHEAD, found_readings
from qepa_wire import frame, payloads
from qepa_wire.measures import GLUCOSE, GLUCOSE_TREND


@pytest.fixture
def ward(tmp_path):
    """Board 1 streams care records to a gateway whose glucose model is played: it foretells 20 mg/dL less, and low."""
    rig = Rig(tmp_path, patients=3).begin()
    gateway = rig.site.gateway
    gateway.inference = Inference(gateway.care, gateway.link, Shelf(), lambda: rig.now_ms)
    reader = GlucoseReader(gateway.inference.shelf, gateway.inference.errors, lambda: rig.now_ms)
    gateway.care.on_care.append(reader.take)
    gateway.inference.add([reader])
    rig.server.findings = []
    plain = rig.server._take_sealed

    def take(name, message):
        if isinstance(message, Findings):
            rig.server.findings.append(message)
        else:
            plain(name, message)

    rig.server._take_sealed = take
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    return rig


def show(rig, *values):
    """A new reading every 250 s, a care record every 50."""
    board = rig.boards[1]
    for k in range(5 * len(values)):
        measures = (GLUCOSE, 100, values[k // 5]), (GLUCOSE_TREND, 100, -1)
        record = payloads.Care(50_000 * k, board.boots, 0, 0, 12, board.model, measures)
        payload = payloads.encode_care(board.care_key, board.consent_id, board.number, board.seq + 1, record)
        rig.up(board, board.frame(frame.CARE, payload))
        rig.pump()
        rig.now_ms += 50_000
        rig.site.gateway.inference.tick()
        rig.pump()


def test_a_forecast_reaches_the_server_with_its_warning_and_in_words(ward):
    show(ward, 120, 115, 110, 105)
    (*_, last) = ward.server.findings
    assert (last.board, last.consent_id, last.model, last.version) == (1, ward.boards[1].consent_id, "glucose-30", 4)
    assert {code: value for code, _, value in last.readings} == {GLUCOSE_AHEAD: 85, HYPOGLYCAEMIA_AHEAD: 1}
    named = {each["name"]: each["value"] for each in found_readings(last.readings, fresh=True)}
    assert named == {"glucose_in_30_min": 85, "hypoglycaemia_within_30_min": "may come"}


def test_the_end_of_the_consent_ends_forecasts(ward):
    show(ward, 120, 115, 110, 105)
    ward.server.send("gw-1", CareRevoke(consent_id=ward.boards[1].consent_id))
    ward.pump()
    ward.server.findings.clear()
    ward.now_ms += 60_000
    ward.site.gateway.inference.tick()
    ward.pump()
    assert not ward.server.findings
    (reader,) = ward.site.gateway.inference._readers
    assert reader.findings(1) == ()
