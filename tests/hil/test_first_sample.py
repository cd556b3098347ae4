"""`qepa board` to the end: a bare board is flashed and provisioned, its gateway authenticates and decrypts its sample.

The board's MicroPython, the broker, server, gateway and KMEs are the real programs; chip, sensor and optical link are
stand-ins (conftest.py, bedside_ward.py).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bedside_ward import PATIENTLY_S, BedsideWard, running_ward
from .conftest import GATEWAY, Images, PlugIn, Qepa, Releases

BOARD, PATIENT = 0x2A, "p-1"


@pytest.fixture
def ward(tmp_path: Path, releases: Releases) -> Iterator[BedsideWard]:
    (tmp_path / "ward").mkdir()
    yield from running_ward(tmp_path / "ward", GATEWAY, releases.keys)


def test_flash_waits_until_the_gateway_has_authenticated_the_board_and_decrypted_its_sample(
    ward: BedsideWard, plug_in: PlugIn, qepa: Qepa, images: Images, releases: Releases
) -> None:
    port = plug_in(blank=True)
    on_port = ["--port", port.url]
    flash = ["flash", *on_port, "--bundle", releases.path(), "--profile", "demo_ad8232"]
    qepa(*flash, *images.arguments(), "--wait", 0)
    ward.await_ready()
    at_dock = [*on_port, "--station", ward.station]
    who = ["--board", f"{BOARD:x}", "--patient", PATIENT, "--gateway", GATEWAY]
    qepa("provision", *at_dock, *who, "--wait", 0, "--suite", "otp", "--patient-boards", 2)
    identity = json.loads((port.board.files / "qepa" / "identity.json").read_bytes())
    assert (identity["suite"], identity["patient_boards"]) == ("otp", 2)
    loaded = qepa("dock", *at_dock, "--pads", 6, "--blocks", 2, "--block-bytes", 512).record
    assert (loaded["pads"], loaded["block_bytes"]) == (6, 1024)

    # No consent: nobody may decrypt what this one board measures. That it is authentic is all there is to wait for.
    without = qepa(*flash, "--wait", PATIENTLY_S).record["running"]
    assert without["connected"], without
    assert without["acknowledged"] > 0
    assert without["seen"] is None, "nobody said where the bedside is"
    asked = qepa(*flash, "--wait", PATIENTLY_S, "--station", ward.station).record["running"]["seen"]
    assert asked == {
        "gateway": GATEWAY, "authenticated": True, "key_source": "qkd", "consent": False, "opened": []
    }  # fmt: skip
    assert ward.board(BOARD)["vitals"] is None

    ward.consent(PATIENT, BOARD)
    done = qepa(*flash, "--wait", PATIENTLY_S, "--station", ward.station)
    seen = done.record["running"]["seen"]
    assert seen["authenticated"]
    assert seen["consent"]
    assert "heart_rate" in seen["opened"]
    shown = ward.board(BOARD)
    assert shown["vitals"]["boots"] > 0
    # Samples that a busy machine delivers late may have made an alert, under bytes of the first.
    assert 512 < shown["pad_bytes"] <= 1024, "the gateway has redeemed the one-time blocks too"
    for secret in (identity["end_key"], identity["cohort_key"], ward.token_file.read_text()):
        assert secret not in json.dumps(done.record) + done.error

    # Its flash erased, it comes back under its old number, and its gateway takes no epoch a second time.
    qepa("flash", *on_port, *images.arguments(), "--bundle", releases.path(), "--erase-keys", "--wait", 0)
    qepa("provision", *at_dock, *who, "--wait", 0)
    qepa("dock", *at_dock, "--pads", 2)
    back = qepa(*flash, "--wait", PATIENTLY_S, "--station", ward.station).record["running"]
    assert back["acknowledged"] > 0, back
