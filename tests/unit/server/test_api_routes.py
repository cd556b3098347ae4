"""Who may change what over the API: whatever changes something is signed by a party that the offline root certified."""

import asyncio

import httpx
import pytest
from hospital_rig import Rig, ward
from in_process import InProcess
from sqlalchemy import func, select

from qepa_server.api.app import create_app
from qepa_server.store.schema import audit
from qepa_uplink.releases import SignedFirmwareOrder, SignedOrder

SIGNED = {
    "/v1/enrolments": "dock",
    "/v1/retirements": "dock",
    "/v1/consents": "consent",
    "/v1/withdrawals": "consent",
    "/v1/models": "release",
    "/v1/firmware": "release",
    "/v1/quarantines": "release",
}
AT_THE_PAGE = {"/api/alarms/{number}/acknowledge"}


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(1, 1))
    rig.connect()
    return rig


def entries(rig: Rig) -> int:
    with rig.store.read() as connection:
        return connection.execute(select(func.count()).select_from(audit)).scalar()


def test_no_other_route_changes_anything(rig):
    app = create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event())
    reading = {"GET", "HEAD"}
    changing = {route.path for route in app.routes if getattr(route, "methods", None) and route.methods - reading}
    assert changing == set(SIGNED) | AT_THE_PAGE


@pytest.mark.parametrize("path", SIGNED)
def test_a_certificate_of_another_role_changes_nothing(rig, path):
    before = entries(rig)
    with httpx.Client(transport=InProcess(rig), base_url="http://127.0.0.1") as http:
        for who in ("gw-1", "server", "dock", "desk", "releaser"):
            person = rig.identities[who]
            if person.subject.role == SIGNED[path]:
                continue
            signed = SignedOrder(body=b"{}", certificate=person.certificate, signature=person.sign(b"{}", b"any"))
            posted = SignedFirmwareOrder(order=signed, bundle=b"") if path == "/v1/firmware" else signed
            answer = http.post(path, content=posted.model_dump_json())
            assert (answer.status_code, answer.json()["error"]) == (403, "certificate")
        assert http.post(path, content=b"{}").status_code == 400
    assert entries(rig) == before
