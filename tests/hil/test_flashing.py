"""`qepa board flash` against a virtual ESP32: what gets onto it, what stays, and what happens when it goes wrong."""

import json
from pathlib import Path

from qepa_tools.board.backup import read_backup
from qepa_tools.board.esp_image import PARTITION_TABLE
from qepa_tools.board.pinmap import PinMap
from qepa_tools.virtual_esp32.device import DEAD
from qepa_tools.virtual_esp32.ports import PtyPort, SocketPort

from .conftest import Images, PlugIn, Qepa, Releases

KEYS = b'{"end_key": "of a patient\'s board"}'


def files_of(port: PtyPort | SocketPort) -> dict[str, bytes]:
    """The board's files, by path."""
    root = port.board.files
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


def with_keys(port: PtyPort) -> PtyPort:
    """A board that has an identity."""
    (port.board.files / "qepa").mkdir(exist_ok=True)
    (port.board.files / "qepa" / "identity.json").write_bytes(KEYS)
    return port


def test_a_bare_chip_becomes_a_board(
    plug_in: PlugIn, qepa: Qepa, images: Images, releases: Releases, boards_dir: Path, tmp_path: Path
) -> None:
    port = plug_in(blank=True)
    assert port.board.mode == DEAD
    label = tmp_path / "label.svg"
    command = ["flash", "--port", port.url, *images.arguments(), "--bundle", releases.path(), "--profile", "ecg"]
    done = qepa(*command, "--label", label, "--wait", 1).record
    files = files_of(port)
    bundle = releases.first
    assert {path: files[f"/{path}"] for path in bundle.loader_files} == bundle.loader_files
    assert {path for path in files if path.startswith("/a/")} == {f"/a/{path}" for path in bundle.slot_files}
    assert json.loads(files["/qepa/board.json"]) == PinMap.load().board_record("esp32", "ecg")
    assert done["slot"] == "a"
    assert "provision" in done["running"]["why"]
    assert "QEPA board not provisioned" in label.read_text()
    (known,) = qepa("inventory").record["boards"]
    assert (known["id"], known["target"], known["profile"], known["version"]) == ("020000000001", "esp32", "ecg", 1)
    assert (boards_dir / "boards.json").stat().st_mode & 0o777 == 0o600

    again = qepa(*command, "--wait", 0).record
    assert (again["image_bytes"], again["bytes_written"]) == (0, 0), "what is there is not written again"


def test_an_image_that_is_not_what_was_promised_is_not_written(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = plug_in()
    option, path, *_ = images.arguments()
    refused = qepa("flash", "--port", port.url, option, path, "--sha256", "0" * 64, code=2)
    assert "SHA-256" in refused.sentence
    assert port.board.resets == ["application"], "nobody touched the board"


def test_a_damaged_image_is_not_written(plug_in: PlugIn, qepa: Qepa, images: Images, tmp_path: Path) -> None:
    import hashlib

    _, path, *_ = images.arguments()
    damaged = bytearray(Path(path).read_bytes())
    damaged[-1000] ^= 1
    Path(path).write_bytes(damaged)
    digest = hashlib.sha256(damaged).hexdigest()
    refused = qepa("flash", "--port", plug_in().url, "--image", path, "--sha256", digest, code=2)
    assert "application inside the image" in refused.sentence


def test_the_wrong_chip_is_refused(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = with_keys(plug_in(chip="esp32s3"))
    before = port.board.flash.md5(0, 0x200000)
    refused = qepa("flash", "--port", port.url, *images.arguments("esp32"), code=2)
    assert "the image is for esp32 and this chip is esp32s3" in refused.sentence
    assert port.board.flash.md5(0, 0x200000) == before
    assert files_of(port)["/qepa/identity.json"] == KEYS


def test_a_bundle_for_another_chip_is_refused(plug_in: PlugIn, qepa: Qepa, images: Images, releases: Releases) -> None:
    port = plug_in()
    arguments = ["--port", port.url, *images.arguments("esp32s3"), "--bundle", releases.path()]
    assert "esp32s3" in qepa("flash", *arguments, code=2).sentence
    assert port.board.resets == ["application"]


def test_unplugged_in_the_middle_it_goes_on_where_it_was(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = plug_in(blank=True)
    port.board.flash.fail_after = 150_000
    arguments = images.arguments()
    assert "goes on where it was" in qepa("flash", "--port", port.url, *arguments, code=2).sentence
    port.plug()
    assert port.board.mode == DEAD, "half a flash does not boot"
    done = qepa("flash", "--port", port.url, *arguments).record
    size = Path(arguments[1]).stat().st_size
    assert 0 < done["image_bytes"] <= size - 2 * 64 * 1024, "the parts that were there were not written again"
    assert "backup" not in done, "a file system that was never used holds no keys"


def test_keys_are_backed_up_and_stay(plug_in: PlugIn, qepa: Qepa, images: Images, tmp_path: Path) -> None:
    port = with_keys(plug_in())
    secret = tmp_path / "passphrase"
    secret.write_text("a long sentence of my own\n")
    done = qepa("flash", "--port", port.url, *images.arguments(), "--passphrase-file", secret).record
    backup = Path(done["backup"])
    assert backup.stat().st_mode & 0o777 == 0o600
    assert b"patient" not in backup.read_bytes()
    assert read_backup(backup, "a long sentence of my own") == {"/qepa/identity.json": KEYS}
    assert files_of(port)["/qepa/identity.json"] == KEYS


def test_keys_go_only_when_told_and_after_a_backup(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = with_keys(plug_in())
    moved = ["flash", "--port", port.url, *images.arguments(file_system=0x210000)]
    refused = qepa(*moved, code=2)
    assert "keys on this board would be lost" in refused.sentence
    assert files_of(port)["/qepa/identity.json"] == KEYS
    done = qepa(*moved, "--erase-keys").record
    assert done["keys_erased"]
    assert read_backup(Path(done["backup"])) == {"/qepa/identity.json": KEYS}
    qepa("flash", "--port", port.url, *images.arguments(file_system=0x210000))
    assert "/qepa/identity.json" not in files_of(port)


def test_a_dry_run_changes_nothing(plug_in: PlugIn, qepa: Qepa, images: Images, releases: Releases) -> None:
    port = with_keys(plug_in())
    before = port.board.flash.md5(0, 0x200000), files_of(port)
    bundle = ["--bundle", releases.path(), "--profile", "ecg"]
    done = qepa("flash", "--port", port.url, *images.arguments(), *bundle, "--dry-run").record
    assert done["image_bytes"] > 0
    assert done["files_written"] > 50
    assert (port.board.flash.md5(0, 0x200000), files_of(port)) == before
    assert qepa("inventory").record["boards"] == []


def test_a_board_whose_firmware_is_corrupt_keeps_its_keys(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = with_keys(plug_in())
    port.unplug()
    port.board.flash.corrupt(0x10020, 16)
    port.plug()
    assert port.board.mode == DEAD
    done = qepa("flash", "--port", port.url, *images.arguments()).record
    assert list(read_backup(Path(done["backup"]))) == ["vfs partition"], "it could not be asked: all was kept"
    assert done["image_bytes"] > 0
    qepa("doctor", "--port", port.url, code=1)  # MicroPython is back, without firmware
    assert files_of(port)["/qepa/identity.json"] == KEYS


def test_the_partition_table_of_the_image_is_the_chips(plug_in: PlugIn, qepa: Qepa, images: Images) -> None:
    port = plug_in(blank=True)
    _, path, *_ = arguments = images.arguments()
    qepa("flash", "--port", port.url, *arguments)
    image = Path(path).read_bytes()
    assert port.board.flash.read(0x1000, len(image)) == image
    assert image[PARTITION_TABLE - 0x1000 :].startswith(b"\xaa\x50")
