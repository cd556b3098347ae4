"""`qepa board release` and `qepa quarantine` as people run them: what they order, sign and say."""

import json
import time

import httpx
import pytest
from hospital_rig import Rig, ward
from in_process import InProcess
from typer.testing import CliRunner

from qepa_server.robust.quarantine import Quarantined
from qepa_tools.board.inventory import Inventory
from qepa_tools.cli import app

from ..board_app.slot_rig import ROOT, release


@pytest.fixture
def rig(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    rig = Rig(tmp_path / "server", ward(1, 2))
    rig.connect()
    rig.now = int(1000 * time.time())
    for who, name in (("releaser", "release"), ("dock", "dock")):
        rig.identities[who].save(tmp_path / f"{name}.json")
    real = httpx.Client
    monkeypatch.setattr(
        "qepa_tools.orders.httpx.Client", lambda **options: real(**options | {"transport": InProcess(rig)})
    )
    monkeypatch.chdir(tmp_path)
    return rig


@pytest.fixture
def qepa(rig):
    """Runs a command; the record that it prints, or its complaint."""

    def run(*arguments: object, code: int = 0, text: bool = False):
        done = CliRunner().invoke(app, [*map(str, arguments), *([] if text else ["--json"])])
        assert done.exit_code == code, done.output
        if code:
            return done.stderr
        return done.output if text else json.loads(done.stdout)

    return run


@pytest.fixture
def station(rig, tmp_path):
    (tmp_path / "firmware.pub").write_text(json.dumps({"firmware_root": ROOT.hex(), "signatures": 0}))
    (tmp_path / "dock.toml").write_text(
        'server = "http://127.0.0.1"\nidentity = "dock.json"\nroot_key = "root.pub"\n'
        'server_certificate = "server.cert"\nfirmware_key = "firmware.pub"\n[broker]\nhost = "127.0.0.1"\n'
    )
    known = Inventory(tmp_path / "boards")
    for board in (101, 102):
        known.note(f"chip {board}", board=board, target="unix", profile="cgm")
    release(2, more={"lib/qepa_board/drivers/cgm.mpy": b"a driver"}).write(tmp_path / "new.zip")
    return ("board", "release", "new.zip", "--station", "dock.toml", "--boards", "boards")


def test_a_release_is_ordered_by_who_signs_it(rig, qepa, station):
    done = qepa(*station, "--board", "65", "--dry-run")
    assert (done["boards"], done["dry_run"], rig.hospital.firmware.state()) == ([101], True, [])
    assert "for 2 boards of kind unix-cgm" in qepa(*station, "--reason", "falls asleep less", text=True)
    done = qepa(*station, "--board", "66", "--kind", "trial")
    assert done == {"version": 2, "kind": "trial", "boards": [102], "number": 2, "dry_run": False}
    assert [each["boards"] for each in rig.hospital.firmware.state()] == [[102], [101, 102]]
    assert "not a release" in qepa(*station, "--identity", "dock.json", code=2)
    assert "cannot read the keys in no.json" in qepa(*station, "--identity", "no.json", code=2)


def test_a_quarantine_is_listed_and_ended_by_who_signs_it(rig, qepa):
    assert qepa("quarantine", "list") == {"quarantines": []}
    assert "Nobody" in qepa("quarantine", "list", text=True)
    held = Quarantined("patient", "p-1-1", rig.now, 7, {})
    with rig.store.write() as connection:
        rig.hospital.quarantine.impose(connection, held)
    rig.hospital.quarantine.adopt(held)
    assert "p-1-1" in qepa("quarantine", "list", text=True)
    end = ("quarantine", "end", "patient", "p-1-1")
    assert "not a release" in qepa(*end, "--identity", "dock.json", code=2)
    assert rig.hospital.quarantine.holds("patient", "p-1-1")
    assert "takes part in sums again" in qepa(*end, "--reason", "the strap was loose", text=True)
    assert not rig.hospital.quarantine.present
    assert "is not quarantined" in qepa(*end, code=2)
    assert "cannot be ordered" in qepa("quarantine", "end", "patient", "Dr. Who", code=2)
