"""Firmware bundles: the same from the same sources, only what the manifest lists, and signed with fresh keys only."""

import json
import shutil
import zipfile

import pytest
from typer.testing import CliRunner

from qepa_tools.errors import ToolError
from qepa_tools.firmware_build.bundle import ARCHITECTURES, assemble, build_bundle, read_bundle
from qepa_tools.firmware_build.cli import app
from qepa_tools.firmware_build.signing import make_key, public_key, sign_bundle
from qepa_wire.manifest import TARGETS

FILES = {"lib/a/one.mpy": b"1", "main.py": b"2"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "bundle.zip"
    return path, build_bundle("esp32s3", 7, path)


def leaf(bundle):
    """Numbers of the one-time keys, which must never repeat: of the lower tree, then within it (RFC 8554, 6.1)."""
    signature = bundle.signature
    return signature[4:8], signature[-2292 - 56 :][:4], signature[4 + 2348 : 4 + 2348 + 56]


def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    path, bundle = built
    again = build_bundle("esp32s3", 7, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()
    assert again.manifest_bytes == bundle.manifest_bytes


def test_a_bundle_holds_the_application_compiled_and_the_loader_as_source(built):
    _, bundle = built
    assert (bundle.target, bundle.version, bundle.manifest.floor) == ("esp32s3", 7, 7)
    assert {"main.py", "qepa_boot/loader.py", "qepa_boot/record.py"} <= set(bundle.loader_files)
    slot = bundle.slot_files
    assert {"manifest", "lib/qepa_board/app.mpy", "lib/qepa_wire/lighthe.mpy"} <= set(slot)
    assert all(path.endswith(".mpy") for path in slot if path != "manifest")
    assert not any("viper" in path or path.endswith("qepa_board/main.mpy") for path in slot)
    assert 0 < bundle.mpy_bytes == sum(map(len, slot.values())) - len(slot["manifest"])


def test_each_target_gets_kernels_for_its_processor(tmp_path):
    kernels = {}
    for target in TARGETS.values():
        files = build_bundle(target, 1, tmp_path / "bundle.zip").files
        kernels[target] = files.get("lib/qepa_kernels/native.mpy")
    assert set(kernels) == set(ARCHITECTURES)
    assert kernels["wasm"] is None
    assert kernels["esp32"] == kernels["esp32s3"]
    assert len({kernels["esp32"], kernels["esp32c6"], kernels["unix"]}) == 3


def test_a_bundle_is_read_as_it_was_written(built):
    path, bundle = built
    read = read_bundle(path)
    assert (read.manifest_bytes, read.signature, read.files) == (bundle.manifest_bytes, b"", bundle.files)


@pytest.mark.parametrize("change", ["altered", "added", "missing", "no zip", "no manifest", "absent"])
def test_a_bundle_that_is_not_what_its_manifest_lists_is_refused(tmp_path, change):
    path = tmp_path / "bundle.zip"
    assemble("unix", 1, FILES).write(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if change == "altered":
        contents["main.py"] = b"3"
    elif change == "added":
        contents["more.py"] = b"3"
    elif change == "missing":
        del contents["main.py"]
    elif change == "no manifest":
        del contents["manifest"]
    path.unlink()
    if change == "no zip":
        path.write_bytes(b"PK not a zip")
    elif change != "absent":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    with pytest.raises(ToolError, match=r"bundle\.zip"):
        read_bundle(path)


def test_an_unknown_target_is_refused():
    with pytest.raises(ToolError, match="choose one of"):
        assemble("esp8266", 1, FILES)


def test_a_signature_holds_for_its_bundle_alone(tmp_path):
    root = make_key(tmp_path / "keys")
    bundle = assemble("unix", 1, FILES)
    with pytest.raises(ToolError, match="is not signed"):
        bundle.verify(root)
    signed = sign_bundle(bundle, tmp_path / "keys")
    signed.verify(root)
    with pytest.raises(ToolError, match="is not signed by this key"):
        assemble("unix", 2, FILES).signed(signed.signature).verify(root)
    with pytest.raises(ToolError, match="is not signed by this key"):
        signed.verify(make_key(tmp_path / "others"))
    signed.write(tmp_path / "bundle.zip")
    read_bundle(tmp_path / "bundle.zip").verify(public_key(tmp_path / "keys" / "firmware.pub"))


def test_no_one_time_key_signs_twice_even_from_a_backup(tmp_path):
    keys = tmp_path / "keys"
    make_key(keys)
    bundle = assemble("unix", 1, FILES)
    shutil.copytree(keys, tmp_path / "backup")
    leaves = {leaf(sign_bundle(bundle, keys)) for _ in range(34)}
    assert len(leaves) == 34
    shutil.copy(tmp_path / "backup" / "firmware.hss", keys)
    with pytest.raises(ToolError, match="older than its last use"):
        sign_bundle(bundle, keys)


def test_a_crash_while_signing_skips_a_key_and_never_repeats_it(tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    make_key(keys)
    bundle = assemble("unix", 1, FILES)
    seen = []
    monkeypatch.setattr("qepa_tools.firmware_build.signing._publish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seen.append(sign_bundle(bundle, keys))
    monkeypatch.undo()
    assert json.loads((keys / "firmware.pub").read_bytes())["signatures"] == 0
    assert leaf(sign_bundle(bundle, keys))[1] == (1).to_bytes(4, "big")


def test_the_key_is_its_owners_alone_and_is_never_overwritten(tmp_path):
    keys = tmp_path / "keys"
    make_key(keys)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (keys, keys / "firmware.hss", keys / "vault.key"))
    with pytest.raises(ToolError, match="already"):
        make_key(keys)
    with pytest.raises(ToolError, match="keygen"):
        public_key(tmp_path / "nowhere")


def test_the_commands_make_a_signed_bundle_or_say_one_sentence(tmp_path):
    runner, keys, path = CliRunner(), str(tmp_path / "keys"), str(tmp_path / "bundle.zip")
    root = json.loads(runner.invoke(app, ["keygen", "--keys", keys, "--json"]).stdout)["firmware_root"]
    built = runner.invoke(app, ["build", "--target", "wasm", "--version", "3", "--floor", "2", "--out", path, "--json"])
    assert json.loads(built.stdout)["bundle"] == path
    assert runner.invoke(app, ["sign", path, "--keys", keys]).exit_code == 0
    bundle = read_bundle(tmp_path / "bundle.zip")
    bundle.verify(bytes.fromhex(root))
    assert (bundle.version, bundle.manifest.floor) == (3, 2)
    refused = runner.invoke(app, ["sign", str(tmp_path / "none.zip"), "--keys", keys])
    assert refused.exit_code == 2
