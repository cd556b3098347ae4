"""The manifest of a release: what goes in comes out, and nothing that could name a file elsewhere is taken."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_wire.errors import WireError
from qepa_wire.manifest import (
    LIB,
    MAX_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_PATH,
    MAX_SIGNATURE,
    TARGETS,
    Entry,
    Manifest,
    decode_manifest,
    decode_release,
    encode_manifest,
    encode_release,
    lib_entries,
)

SUM = bytes(range(32))
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=12)
PATHS = st.lists(st.lists(NAME, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True).map(sorted)


def manifest(*paths, version=3, floor=2, target=2, size=10):
    return Manifest(target, version, floor, [Entry(path, size, SUM) for path in paths])


@given(
    st.sampled_from(sorted(TARGETS)),
    st.integers(1, 2**32 - 1),
    PATHS,
    st.integers(1, MAX_FILE_BYTES),
    st.binary(min_size=32, max_size=32),
    st.data(),
)
def test_what_is_encoded_is_decoded(target, version, paths, size, digest, data):
    floor = data.draw(st.integers(0, version))
    original = Manifest(target, version, floor, [Entry(path, size, digest) for path in paths])
    assert decode_manifest(encode_manifest(original)) == original


def test_the_bytes_are_those_of_the_layout():
    assert encode_manifest(manifest("lib/a.mpy")) == (
        b"QF" + bytes([1, 2]) + struct.pack("<IIH", 3, 2, 1) + b"\x09lib/a.mpy" + struct.pack("<I", 10) + SUM
    )


@pytest.mark.parametrize(
    "path",
    ["", "/main.py", "lib/", "lib//a", "../main.py", "lib/../a", "lib/.hidden", "lib/A.py", "lib/a b", "lib/ä",
     "lib\\a", "a" * (MAX_PATH + 1)],
)  # fmt: skip
def test_a_path_that_could_lead_elsewhere_is_refused(path):
    with pytest.raises(WireError) as refused:
        encode_manifest(manifest(path))
    assert refused.value.reason == "manifest"
    with pytest.raises(WireError):
        decode_manifest(
            b"QF" + bytes([1, 2]) + struct.pack("<IIH", 3, 2, 1) + bytes([len(path.encode())]) + path.encode()
            + struct.pack("<I", 10) + SUM
        )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        manifest("lib/a", target=0), manifest("lib/a", target=99), manifest("lib/a", version=0, floor=0),
        manifest("lib/a", version=3, floor=4), manifest(), manifest("lib/b", "lib/a"), manifest("lib/a", "lib/a"),
        manifest("lib/a", size=0), manifest("lib/a", size=MAX_FILE_BYTES + 1),
        manifest(*[f"lib/{i:04}" for i in range(MAX_FILES + 1)]),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(WireError) as refused:
        encode_manifest(wrong)
    assert refused.value.reason == "manifest"


def test_a_manifest_that_was_cut_or_lengthened_is_refused_at_every_length():
    data = encode_manifest(manifest("lib/a.mpy", "lib/b.mpy"))
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode_manifest(data[:length])
    with pytest.raises(WireError):
        decode_manifest(data + b"\0")
    with pytest.raises(WireError):
        decode_manifest(data + bytes(MAX_BYTES))


@given(st.binary(max_size=200), st.booleans())
def test_noise_raises_wire_error_and_nothing_else(noise, plausible):
    data = b"QF\x01\x02" + noise if plausible else noise
    for decode in (decode_manifest, decode_release):
        with suppress(WireError):
            decode(data)


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_a_release_keeps_manifest_and_signature_apart(data, signature):
    assert decode_release(encode_release(data, signature)) == (data, signature)


def test_a_release_with_an_endless_signature_is_refused():
    with pytest.raises(WireError):
        decode_release(encode_release(b"x", bytes(MAX_SIGNATURE + 1)))


def test_a_slot_gets_the_library_and_the_loader_stays_out():
    data = encode_manifest(manifest("lib/a.mpy", "main.py", "qepa_boot/loader.py"))
    assert [entry.path for entry in lib_entries(data)] == [LIB + "a.mpy"]
