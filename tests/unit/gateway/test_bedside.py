"""The bedside API over the real app."""

import secrets

import httpx
import pytest
from bedside_rig import Rig

from qepa_gateway.bedside.app import make_app
from qepa_gateway.key_source import parse_link_status
from qepa_uplink.messages import LinkStatus
from qepa_wire.payloads import Label

TOKEN = secrets.token_urlsafe(16)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def ward(tmp_path):
    rig = Rig(tmp_path, patients=3).begin()
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    rig.up(rig.boards[1], rig.boards[1].care(77))
    rig.pump()
    rig.pump()
    return rig


def client(rig, host="127.0.0.1", base="http://127.0.0.1"):
    app = make_app(rig.site.gateway, TOKEN, lambda: rig.now_ms, host=host, wake=lambda: None)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)


async def test_state_shows_vitals_under_consent_only(ward):
    async with client(ward) as http:
        state = (await http.get("/api/state")).json()
    first, second, _ = state["boards"]
    assert (first["board"], first["vitals"]["hr_bpm"], first["vitals"]["beat_class"]) == ("00000001", 77, "N")
    assert first["consent"]
    assert second["vitals"] is None
    assert not second["consent"]


async def test_labels_go_down(ward):
    labels = {"board": 1, "boots": 1, "labels": [{"sample": 360, "beat_class": 2}]}
    async with client(ward) as http:
        assert (await http.post("/api/labels", json=labels)).status_code == 401
        wrong = {"Authorization": "Bearer nonsense"}
        assert (await http.post("/api/labels", json=labels, headers=wrong)).status_code == 401
        assert (await http.post("/api/labels", json=labels, headers=BEARER)).status_code == 202
        for changes, says in (({"board": 2}, "consent"), ({"board": 77}, "unknown_board"), ({"boots": 5}, "boots")):
            answer = await http.post("/api/labels", json=labels | changes, headers=BEARER)
            assert answer.status_code == 409
            assert says in answer.json()["detail"]
        bad = labels | {"labels": [{"sample": 1, "beat_class": 4}]}
        assert (await http.post("/api/labels", json=bad, headers=BEARER)).status_code == 422
    ward.settle(2)
    assert ward.boards[1].labels == [Label(1, 360, 2)]


async def test_metrics_name_no_patient(ward):
    ward.site.gateway.receive("qepa/1/board/gw-1/00000001/up", b"")
    ward.pump()
    async with client(ward) as http:
        text = (await http.get("/metrics")).text
    assert "qepa_boards_online 3" in text
    assert 'qepa_refused_total{reason="truncated"} 1' in text
    assert "p-1" not in text


async def test_health_and_metrics_say_why_the_gateway_is_degraded_and_how_keys_are(ward):
    ward.site.gateway.optical_link = LinkStatus(
        state="running", stored_keys=7, bits_produced=0, bits_consumed=0, threat_level="high", rekey_s=10
    )
    app = make_app(
        ward.site.gateway, TOKEN, lambda: ward.now_ms, host="127.0.0.1", wake=lambda: None,
        faults=lambda: ("threat",), recoveries={"rescan": 2},
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        health = (await http.get("/healthz")).json()
        state = (await http.get("/api/state")).json()
        metrics = set((await http.get("/metrics")).text.splitlines())
    assert health["ok"]
    assert health["degraded"] == state["degraded"] == {"threat": "the optical link raised an alarm lately"}
    assert (state["link"]["threat_level"], state["link"]["rekey_s"], state["boards"][0]["key_steps"]) == ("high", 10, 0)
    assert metrics >= {
        'qepa_degraded{reason="threat"} 1.0', 'qepa_degraded{reason="disk_full"} 0.0',
        'qepa_recoveries_total{step="rescan"} 2.0', 'qepa_boards_key{source="qkd"} 3.0',
        "qepa_link_threat 2.0", "qepa_link_rekey_seconds 10.0", "qepa_link_stored_keys 7.0", "qepa_pads 15.0",
    }  # fmt: skip
    assert all(line.startswith(("qepa_", "# ")) for line in metrics)


async def test_a_page_of_another_site_reads_nothing(ward):
    async with client(ward, base="http://evil.example") as http:
        assert (await http.get("/api/state")).status_code == 400


async def test_away_from_loopback_reading_needs_the_token(ward):
    async with client(ward, host="10.0.0.5", base="http://10.0.0.5") as http:
        assert (await http.get("/api/state")).status_code == 401
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/api/state", headers=BEARER)).status_code == 200
        assert (await http.get("/healthz")).json()["ok"]


async def test_the_page_is_served(ward):
    async with client(ward) as http:
        page = await http.get("/")
    assert "Bedside" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_links_figures_are_read_from_the_kmes_status():
    status = parse_link_status(
        {
            "stored_key_count": 4,
            "status_extension": {
                "link_state": "running",
                "qber": 0.021,
                "secret_bits_produced": 9000,
                "secret_bits_consumed": 1024,
            },
        }
    )
    assert (status.state, status.qber, status.stored_keys, status.bits_produced) == ("running", 0.021, 4, 9000)


@pytest.mark.parametrize(("headers", "status"), [({}, 401), (BEARER, 413)])
async def test_of_a_long_body_no_more_is_read_than_labels_need_and_nothing_before_the_token(ward, headers, status):
    sent = []

    async def body():
        for _ in range(1000):
            sent.append(1)
            yield b" " * 65536

    async with client(ward) as http:
        answer = await http.post("/api/labels", content=body(), headers=headers)
    assert answer.status_code == status
    assert len(sent) <= (3 if headers else 1)


async def test_what_the_bedside_says_of_patients_is_kept_by_no_browser(ward):
    async with client(ward) as http:
        for path in ("/", "/api/state"):
            answer = await http.get(path)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in (await http.get("/")).headers["content-security-policy"]
