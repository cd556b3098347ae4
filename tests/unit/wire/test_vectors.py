"""The golden vectors on CPython, and that the file is what its maker makes."""

import json
import runpy
from pathlib import Path

import pyhsslms
import pytest

from qepa_wire import lms
from qepa_wire.errors import WireError

VECTORS = Path(__file__).parents[2] / "vectors"
CHECKS = runpy.run_path(str(VECTORS / "wire_checks.py"))["CHECKS"]


@pytest.fixture(scope="module")
def vectors() -> dict:
    return json.loads((VECTORS / "wire.json").read_text())


@pytest.mark.parametrize("section", CHECKS)
def test_cpython_makes_the_bytes_of_the_golden_vectors(section, vectors):
    assert CHECKS[section](vectors) >= len(vectors[section]) > 0


def test_every_section_is_checked(vectors):
    assert vectors.keys() - {"keys"} == CHECKS.keys()


def test_the_file_is_what_its_maker_makes():
    assert runpy.run_path(str(VECTORS / "make_wire_vectors.py"))["text"]() == (VECTORS / "wire.json").read_text()


def test_the_maker_shares_no_code_with_what_it_checks():
    assert "qepa_" not in (VECTORS / "make_wire_vectors.py").read_text().split('"""', 2)[2]


def accepts(public: pyhsslms.HssPublicKey, message: bytes, signature: bytes) -> bool:
    try:
        return public.verify(message, signature)
    except ValueError:  # what pyhsslms raises for a malformed signature
        return False


def test_verifier_and_pyhsslms_agree(vectors):
    for case in vectors["signatures"]:
        public, message, signature = (bytes.fromhex(case[name]) for name in ("public", "message", "signature"))
        theirs = pyhsslms.HssPublicKey.deserialize(public)
        assert theirs.verify(message, signature)
        for i in (4, 40, len(signature) // 2, len(signature) - 1):
            damaged = signature[:i] + bytes([signature[i] ^ 0x10]) + signature[i + 1 :]
            assert not accepts(theirs, message, damaged)
            with pytest.raises(WireError, match="signature"):
                lms.verify(public, message, damaged)


def test_a_leaf_that_the_tree_has_not_is_refused(vectors):
    case = vectors["signatures"][0]
    public, message, signature = (bytes.fromhex(case[name]) for name in ("public", "message", "signature"))
    beyond = signature[:4] + (32).to_bytes(4, "big") + signature[8:]
    with pytest.raises(WireError, match="leaf number out of range"):
        lms.verify(public, message, beyond)
