"""Files that hold keys: readable by their owner only, whatever lay in their place before."""

import os
import stat

from qepa_uplink.identity import write_private


def test_what_a_crash_left_does_not_lend_a_key_file_its_mode(tmp_path):
    left = tmp_path / "kek.new"
    left.write_bytes(b"half")
    left.chmod(0o644)
    write_private(tmp_path / "kek", b"secret")
    assert stat.S_IMODE((tmp_path / "kek").stat().st_mode) == 0o600
    assert (tmp_path / "kek").read_bytes() == b"secret"


def test_a_link_in_its_place_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    os.symlink(elsewhere, tmp_path / "kek.new")
    write_private(tmp_path / "kek", b"secret")
    assert elsewhere.read_bytes() == b"mine"
    assert not (tmp_path / "kek").is_symlink()
