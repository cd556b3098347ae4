"""From waves under a consent to findings at the server and on the page; without the consent, nothing."""

import pytest
from bedside_rig import Rig
from test_ecg_reader import USABLE, FakeShelf, seconds_of
from test_ecg_windows import heart

from qepa_gateway.bedside.state import FINDINGS_STALE_MS, bedside_state
from qepa_gateway.health import REASONS, faults
from qepa_gateway.inference.ecg import EcgReader
from qepa_gateway.inference.service import EVERY_MS, Inference
from qepa_uplink.bedside_models import ECG_BEATS, ECG_QUALITY
from qepa_uplink.messages import CareRevoke, Findings
from qepa_uplink.readings import BEATS_N
from qepa_wire import frame, payloads


@pytest.fixture
def ward(tmp_path):
    """Board 1 streams care records and waves to a gateway whose models are played."""
    rig = Rig(tmp_path, patients=3).begin()
    gateway = rig.site.gateway
    gateway.inference = Inference(gateway.care, gateway.link, FakeShelf(quality=USABLE), lambda: rig.now_ms)
    reader = EcgReader(gateway.waves, gateway.inference.shelf, gateway.inference.errors)
    gateway.inference.add([reader])
    gateway.waves.wanted = True
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
    say(rig, rig.boards[1].care())
    return rig


def say(rig, data):
    rig.up(rig.boards[1], data)
    rig.pump()


def stream(rig, seconds=20):
    board = rig.boards[1]
    for wave in seconds_of(*heart(250, [0.8], seconds=seconds), boots=board.boots):
        payload = payloads.encode_wave(board.care_key, board.consent_id, board.number, board.seq + 1, wave)
        say(rig, board.frame(frame.WAVE, payload))
        rig.advance(1000)


def shown(rig):
    return bedside_state(rig.site.gateway, rig.now_ms)["boards"][0]["findings"]


def test_findings_reach_the_server_every_few_seconds_and_the_page(ward):
    stream(ward)
    sent = [each for each in ward.server.findings if each.model == ECG_BEATS]
    assert len(sent) == pytest.approx(20_000 / EVERY_MS, abs=1.5)
    last = sent[-1]
    assert (last.board, last.consent_id, last.version) == (1, ward.boards[1].consent_id, 3)
    counted = {code: value for code, _, value in last.readings}
    assert counted[BEATS_N] > 10
    assert {each["model"] for each in shown(ward)} == {ECG_BEATS, ECG_QUALITY}
    ward.boards[1].on = False
    ward.site.gateway.inference._readers.clear()  # nothing is found any more
    ward.advance(FINDINGS_STALE_MS + 1000)
    assert {r["reason"] for each in shown(ward) for r in each["readings"]} == {"stale"}


def test_the_end_of_the_consent_ends_findings_at_once(ward):
    stream(ward, 10)
    assert shown(ward)
    ward.server.send("gw-1", CareRevoke(consent_id=ward.boards[1].consent_id))
    ward.pump()
    ward.server.findings.clear()
    ward.advance(3 * EVERY_MS)
    assert shown(ward) == []
    assert not ward.server.findings
    assert ward.site.gateway.inference._readers[0].findings(1) == ()


def test_other_boards_have_no_findings(ward):
    stream(ward, 10)
    boards = bedside_state(ward.site.gateway, ward.now_ms)["boards"]
    assert [bool(each["findings"]) for each in boards] == [True, False, False]
    assert {each.board for each in ward.server.findings} == {1}


def test_without_models_nobody_is_asked_for_waves(tmp_path):
    rig = Rig(tmp_path, patients=3).begin()
    assert rig.site.gateway.inference is None
    assert not rig.site.gateway.waves.wanted
    assert shown(rig) == []


def test_a_missing_runtime_is_said(tmp_path):
    rig = Rig(tmp_path, patients=3).begin()
    assert "no_runtime" not in faults(rig.site.gateway)
    rig.site.gateway.lacks_runtime = True
    assert "no_runtime" in faults(rig.site.gateway)
    assert "ai-edge-litert" in REASONS["no_runtime"]
