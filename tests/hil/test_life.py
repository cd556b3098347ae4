"""The life of a board at the dock: provisioned, filled with key, updated, rolled back, replaced."""

import json
import time
from pathlib import Path

from qepa_tools.board.session import BoardSession
from qepa_tools.virtual_esp32.ports import PtyPort

from .conftest import GATEWAY, Flashed, Hospital, Qepa, Releases

OLD, NEW = 0x2A, 0x2B
CRASHING = b"def run():\n    raise ValueError('a mistake')\n"


def status(port: PtyPort) -> dict:
    """What the board says at the dock."""
    with BoardSession(port.url) as session:
        answer = session.dock("status()")
        session.reset()
    return answer


def qepa_file(port: PtyPort, name: str) -> bytes:
    """A file of the board's own."""
    return (port.board.files / "qepa" / name).read_bytes()


def await_boot(port: PtyPort) -> dict:
    """Its status once the application has counted a boot."""
    deadline = time.monotonic() + 150
    while not (answer := status(port))["boots"]:
        assert time.monotonic() < deadline, answer["crash_log"]
        time.sleep(2)
    return answer


def provision(qepa: Qepa, hospital: Hospital, port: PtyPort, board: int, *more: str, code: int = 0) -> dict | str:
    """`qepa board provision` for patient p-1."""
    who = ["--board", f"{board:x}", "--patient", "p-1", "--gateway", GATEWAY]
    done = qepa("provision", "--port", port.url, "--station", hospital.station, *who, "--wait", 0, *more, code=code)
    return done.record if code == 0 else done.sentence


def test_provisioning_gives_the_board_the_key_the_server_has(
    flashed: Flashed, qepa: Qepa, hospital: Hospital, releases: Releases
) -> None:
    port = flashed()
    assert provision(qepa, hospital, port, OLD, "--dry-run")["dry_run"]
    assert hospital.end_key(OLD) is None
    provision(qepa, hospital, port, OLD)
    identity = json.loads(qepa_file(port, "identity.json"))
    assert bytes.fromhex(identity["end_key"]) == hospital.end_key(OLD)
    assert (identity["board"], identity["gateway"], identity["fs_hz"]) == (OLD, GATEWAY, 360)
    root = json.loads((releases.keys / "firmware.pub").read_bytes())["firmware_root"]
    assert identity["firmware_root"] == root, "the board knows whose updates to take"
    (known,) = qepa("inventory").record["boards"]
    assert (known["board"], known["patient"], known["gateway"]) == (OLD, "p-1", GATEWAY)

    refused = provision(qepa, hospital, port, OLD, code=2)
    assert "--renew" in refused
    assert bytes.fromhex(identity["end_key"]) == hospital.end_key(OLD), "it was not enrolled again"
    counters = qepa_file(port, "counters")
    provision(qepa, hospital, port, OLD, "--renew")
    renewed = json.loads(qepa_file(port, "identity.json"))
    assert identity["end_key"] != renewed["end_key"]
    assert bytes.fromhex(renewed["end_key"]) == hospital.end_key(OLD)
    assert len(qepa_file(port, "counters")) == len(counters), "its counters went on"


def test_the_dock_writes_the_keys_that_alice_gave(flashed: Flashed, qepa: Qepa, hospital: Hospital) -> None:
    port = flashed()
    command = ["dock", "--port", port.url, "--station", hospital.station, "--pads", 5]
    assert "not provisioned" in qepa(*command, code=2).sentence
    assert hospital.given == [], "no key was spent on a board that cannot take it"
    provision(qepa, hospital, port, OLD)
    assert qepa(*command, "--dry-run").record["pads_before"] == 0
    assert hospital.given == []
    assert qepa(*command).record["pads"] == 5
    kept = b"".join(path.read_bytes() for path in (port.board.files / "qepa").glob("*") if path.is_file())
    given = [key.key_id.bytes + key.value for key in hospital.given]
    assert len(given) == 5
    assert sum(each in kept for each in given) >= 4, "one may be in use by now"


def test_a_flashed_and_provisioned_board_samples_and_holds_a_key(
    flashed: Flashed, qepa: Qepa, hospital: Hospital, releases: Releases
) -> None:
    port = flashed()
    provision(qepa, hospital, port, OLD)
    qepa("dock", "--port", port.url, "--station", hospital.station, "--pads", 8)
    running = qepa("flash", "--port", port.url, "--bundle", releases.path(), "--wait", 40).record["running"]
    assert running["running"], running["why"]
    assert status(port)["code"] == "rom"
    assert running["has_key"]
    assert not running["connected"], "nothing listens where its broker should be"
    ((_, samples),) = running["sensors"]
    assert samples > 0


def test_an_update_goes_on_trial_and_a_crashing_one_is_rolled_back(
    flashed: Flashed, qepa: Qepa, hospital: Hospital, releases: Releases, tmp_path: Path
) -> None:
    port = flashed()
    update = ["update", "--port", port.url]
    assert "firmware_root" in qepa(*update, releases.path(2), code=2).sentence, "it does not know yet whose to take"
    provision(qepa, hospital, port, OLD)
    assert qepa(*update, releases.path(2), "--dry-run").record["to"] == 2

    altered = tmp_path / "altered.zip"
    altered.write_bytes(releases.path(2).read_bytes()[:-200])
    assert "not a firmware bundle" in qepa(*update, altered, code=2).sentence

    identity = qepa_file(port, "identity.json")
    done = qepa(*update, releases.path(2, app=CRASHING)).record
    assert (done["slot"], done["version"]) == ("b", 2)
    assert 0 < done["bytes_sent"] < 20_000, "what the other slot has is copied on the board"
    deadline = time.monotonic() + 150
    said = b""
    while b"rolled back" not in said:
        assert time.monotonic() < deadline
        time.sleep(1)
        slots = port.board.files / "qepa" / "slots"
        said = b"rolled back" if slots.read_bytes()[2] == 0 and slots.read_bytes()[5] == 2 else b""
    after = status(port)
    assert (after["slot"], after["version"], after["last_trial"]) == ("a", 1, "rolled back")
    assert "ValueError" in after["crash_log"][-1]
    assert qepa_file(port, "identity.json") == identity
    findings = qepa("doctor", "--port", port.url).record["findings"]
    assert any(each["what"] == "crashes" and each["verdict"] == "warning" for each in findings)


def test_a_board_without_a_rom_partition_lives_as_well(
    flashed: Flashed, qepa: Qepa, hospital: Hospital, releases: Releases
) -> None:
    """Its code takes most of its memory, a release at the dock most of the rest: its manifest names a hundred files."""
    port = flashed(rom=False)
    provision(qepa, hospital, port, OLD)
    qepa("dock", "--port", port.url, "--station", hospital.station, "--pads", 16)
    running = qepa("flash", "--port", port.url, "--bundle", releases.path(), "--wait", 40).record["running"]
    assert running["has_key"], running["why"]
    assert status(port)["code"] == "ram"
    assert qepa("update", "--port", port.url, releases.path(2)).record["version"] == 2


def test_a_broken_boards_patient_gets_a_new_board(flashed: Flashed, qepa: Qepa, hospital: Hospital) -> None:
    old, new = flashed(), flashed()
    provision(qepa, hospital, old, OLD)
    qepa("dock", "--port", old.url, "--station", hospital.station, "--pads", 5)
    provision(qepa, hospital, old, OLD, "--renew")
    before = await_boot(old)
    assert before["pads"] > 0
    old.unplug()
    command = ["replace", f"{OLD:x}", f"{NEW:x}", "--port", new.url, "--station", hospital.station, "--wait", 0]
    qepa(*command, "--dry-run")
    assert hospital.end_key(NEW) is None
    qepa(*command)
    identity = json.loads(qepa_file(new, "identity.json"))
    assert identity["board"] == NEW
    assert bytes.fromhex(identity["end_key"]) == hospital.end_key(NEW)
    assert hospital.rig.hospital.register[NEW].patient == "p-1"
    assert hospital.end_key(OLD) is None, "it is retired: what it still sends is not even expected"
    fresh = status(new)
    assert fresh["boots"] < before["boots"], "counters are never copied"
    assert fresh["pads"] == 0, "nor keys"
    boards = {each["board"]: each for each in qepa("inventory").record["boards"]}
    assert boards[OLD]["replaced_by"] == NEW
    assert boards[NEW]["patient"] == "p-1"
    assert "not in the inventory" in qepa(*command, code=2).sentence, "it is replaced once"


def test_a_board_that_is_gone_is_one_sentence(flashed: Flashed, qepa: Qepa) -> None:
    port = flashed()
    port.unplug()
    sentence = qepa("doctor", "--port", port.url, code=2).sentence
    assert "replug it" in sentence or "plug the board in" in sentence, "whether its port is still there or gone already"
