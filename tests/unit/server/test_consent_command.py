"""`qepa consent`: signed at the desk, kept by the server, shown, and taken back for good."""

import asyncio
import json
import threading
import time

import pytest
import uvicorn
from hospital_rig import Rig, ward
from typer.testing import CliRunner

from qepa_server.api.app import create_app
from qepa_tools.cli import app


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path / "hospital", ward(1, 6), min_group=5, cell_target=6)


@pytest.fixture
def desk(rig, tmp_path):
    """Runs the command against the hospital's API as its users do; the record that it prints, or its complaint."""
    rig.identities["desk"].save(tmp_path / "consent.json")
    rig.identities["dock"].save(tmp_path / "dock.json")
    stopping = asyncio.Event()
    config = uvicorn.Config(create_app(rig.hospital, host="127.0.0.1", stopping=stopping), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def run(*arguments, identity="consent.json", code=0):
        options = ["--server", url, "--identity", str(tmp_path / identity), "--json"]
        done = CliRunner().invoke(app, ["consent", *arguments, *options])
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    yield run
    server.should_exit = True
    thread.join()


@pytest.fixture
def board(rig):
    rig.now = int(1000 * time.time())
    return next(iter(rig.gateways["gw-1"].boards.values()))


def test_a_consent_for_sums_is_given_shown_and_taken_back(rig, desk, board):
    now_ms = rig.hospital.clock_ms()
    given = desk("give", board.patient, "--purpose", "learning", "--days", "7")
    assert given["boards"] == [f"{board.number:08x}"]
    (shown,) = desk("show", board.patient)["consents"]
    assert (shown["consent_id"], shown["purpose"], shown["in_force"]) == (given["consent_id"], "learning", True)
    assert shown["not_after_s"] - now_ms / 1000 == pytest.approx(7 * 86400, abs=600)
    assert rig.hospital.consents.allows("learning", board.number, now_ms)
    desk("withdraw", given["consent_id"])
    assert not rig.hospital.consents.allows("learning", board.number, rig.hospital.clock_ms())
    assert rig.hospital.consents.allows("statistics", board.number, rig.hospital.clock_ms())
    assert not desk("show", board.patient)["consents"][0]["in_force"]


def test_a_dry_run_signs_nothing(desk, board):
    assert desk("give", board.patient, "--dry-run")["consent_id"] is None
    assert desk("show", board.patient)["consents"] == []


def test_what_cannot_be_signed_is_said_in_a_sentence(desk, board):
    assert "knows no board of nobody" in desk("give", "nobody", code=2)
    assert "refused /v1/consents" in desk("give", board.patient, identity="dock.json", code=2)
    assert "cannot read the keys" in desk("show", board.patient, identity="no.json", code=2)
    assert "no such consent" in desk("withdraw", "00" * 16, code=2)
    assert "32 hexadecimal digits" in desk("withdraw", "xyz", code=2)
    assert "is no board" in desk("give", board.patient, "--board", "gg", code=2)
