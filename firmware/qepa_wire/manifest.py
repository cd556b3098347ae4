"""Manifest of a firmware release: its version, for which board, and every file by size and SHA-256.

Layout, little endian; the loader on a board reads it too (qepa_boot/place.py), so it stays as it is:

    "QF" | format u8 = 1 | target u8 | version u32 | floor u32 | count u16
    count x (path length u8 | path | size u32 | SHA-256, 32 bytes), by ascending path

What is signed with HSS/LMS (RFC 8554) is CONTEXT and the manifest's SHA-256. A release is length u16 | manifest |
signature. Once it is confirmed, none below ``floor`` is accepted any more. Paths below "lib/" belong to an application
slot; all others are files of the loader, which only the cable writes.
"""

import struct
from collections import namedtuple

from .errors import WireError

try:
    from collections.abc import Iterator
except ImportError:  # MicroPython: the annotations stay strings
    pass

CONTEXT = b"qepa/1/firmware"
MAGIC = b"QF"
LIB = "lib/"
TARGETS = {1: "esp32", 2: "esp32s3", 3: "esp32c6", 4: "wasm", 5: "unix"}
MAX_FILES = 200
MAX_PATH = 64
MAX_FILE_BYTES = 65536
MAX_BYTES = 16384  # of a manifest
MAX_SIGNATURE = 8192

DIGEST_BYTES = 32

_FORMAT = "<2sBBIIH"
HEADER_BYTES = struct.calcsize(_FORMAT)
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_./"

Header = namedtuple("Header", ("target", "version", "floor", "count"))
Manifest = namedtuple("Manifest", ("target", "version", "floor", "files"))
Entry = namedtuple("Entry", ("path", "size", "sha256"))


def _check_entry(entry: Entry, before: str) -> None:
    path, size, digest = entry
    parts = path.split("/")
    if not 0 < len(path) <= MAX_PATH or any(not part or part[0] == "." for part in parts):
        raise WireError("manifest", "path %s" % path[:MAX_PATH])
    if any(c not in _CHARACTERS for c in path):
        raise WireError("manifest", "path with a character that is not allowed")
    if path <= before:
        raise WireError("manifest", "%s is out of order" % path)
    if not 0 < size <= MAX_FILE_BYTES or len(digest) != DIGEST_BYTES:
        raise WireError("manifest", "%s of %d bytes" % (path, size))


def _check_header(header: Header) -> None:
    if header.target not in TARGETS:
        raise WireError("manifest", "unknown target %d" % header.target)
    if not 0 < header.version <= 0xFFFFFFFF or not 0 <= header.floor <= header.version:
        raise WireError("manifest", "version %d, floor %d" % (header.version, header.floor))
    if not 0 < header.count <= MAX_FILES:
        raise WireError("manifest", "%d files" % header.count)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes; ``files`` is a sequence of Entry by ascending path. Raises WireError."""
    target, version, floor, files = manifest
    _check_header(Header(target, version, floor, len(files)))
    parts = [struct.pack(_FORMAT, MAGIC, 1, target, version, floor, len(files))]
    before = ""
    for entry in files:
        _check_entry(entry, before)
        before = entry.path
        parts.append(bytes([len(before)]) + before.encode() + struct.pack("<I", entry.size) + entry.sha256)
    data = b"".join(parts)
    if len(data) > MAX_BYTES:
        raise WireError("manifest", "%d bytes" % len(data))
    return data


def decode_header(data: bytes) -> Header:
    """Return the Header at the start of ``data``, at least HEADER_BYTES of a manifest; raises WireError("manifest")."""
    if not HEADER_BYTES <= len(data) <= MAX_BYTES:
        raise WireError("manifest", "%d bytes" % len(data))
    magic, format_, target, version, floor, count = struct.unpack_from(_FORMAT, data)
    if magic != MAGIC or format_ != 1:
        raise WireError("manifest", "unknown format")
    header = Header(target, version, floor, count)
    _check_header(header)
    return header


def entries(data: bytes) -> "Iterator[Entry]":
    """Each Entry of a manifest, one at a time, so that a board need not hold them all; raises WireError("manifest")."""
    at, before = HEADER_BYTES, ""
    for _ in range(decode_header(data).count):
        end = at + 1 + (data[at] if at < len(data) else 0)
        if len(data) < end + 4 + DIGEST_BYTES:
            raise WireError("manifest", "truncated")
        try:
            path = bytes(data[at + 1 : end]).decode()
        except UnicodeError:
            raise WireError("manifest", "path is not text")  # noqa: B904
        at = end + 4 + DIGEST_BYTES
        entry = Entry(path, struct.unpack_from("<I", data, end)[0], bytes(data[end + 4 : at]))
        _check_entry(entry, before)
        before = path
        yield entry
    if at != len(data):
        raise WireError("manifest", "%d bytes left over" % (len(data) - at))


def lib_entries(data: bytes) -> "Iterator[Entry]":
    """Those entries of a manifest that belong in an application slot."""
    for entry in entries(data):
        if entry.path.startswith(LIB):
            yield entry


def decode_manifest(data: bytes) -> Manifest:
    """Return the Manifest in ``data``, its signature unchecked; raises WireError("manifest") for all else."""
    header = decode_header(data)
    return Manifest(header.target, header.version, header.floor, list(entries(data)))


def signed_message(digest: bytes) -> bytes:
    """What is signed for the manifest with this SHA-256."""
    return CONTEXT + digest


def encode_release(manifest: bytes, signature: bytes) -> bytes:
    """Manifest and signature as one file: length of the manifest u16, manifest, HSS signature."""
    return struct.pack("<H", len(manifest)) + manifest + signature


def decode_release(data: bytes) -> tuple[bytes, bytes]:
    """Return (manifest, signature), neither checked; the signature is empty in a release that nobody signed."""
    if len(data) < 2:
        raise WireError("manifest", "empty release")
    (length,) = struct.unpack_from("<H", data)
    if not length or len(data) < 2 + length or len(data) > 2 + length + MAX_SIGNATURE:
        raise WireError("manifest", "release of %d bytes" % len(data))
    return data[2 : 2 + length], data[2 + length :]
