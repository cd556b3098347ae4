"""Manifest of a firmware release: its version, for which board, and every file by size and SHA-256.

Layout, little endian, signed as CONTEXT + manifest with HSS/LMS (RFC 8554); the loader on a board reads the first 12
bytes, so they stay as they are:

    "QF" | format u8 = 1 | target u8 | version u32 | floor u32 | count u16
    count x (path length u8 | path | size u32 | SHA-256, 32 bytes), by ascending path

Once this release is confirmed, none below ``floor`` is accepted any more. Paths below "lib/" belong to an application
slot; all others are files of the loader, which only the cable writes.
"""

import struct
from collections import namedtuple

from .errors import WireError
from .primitives import sha256

try:
    from collections.abc import Sequence
except ImportError:  # MicroPython: the annotations stay strings
    pass

CONTEXT = b"qepa/1/firmware"  # precedes the manifest in what is signed
MAGIC = b"QF"
LIB = "lib/"
TARGETS = {1: "esp32", 2: "esp32s3", 3: "esp32c6", 4: "wasm", 5: "unix"}
MAX_FILES = 200
MAX_PATH = 64
MAX_FILE_BYTES = 65536
MAX_BYTES = 16384  # of a manifest
MAX_SIGNATURE = 8192

_FORMAT = "<2sBBIIH"
_HEADER = struct.calcsize(_FORMAT)
_DIGEST = 32
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_./"

Manifest = namedtuple("Manifest", ("target", "version", "floor", "files"))
Entry = namedtuple("Entry", ("path", "size", "sha256"))


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not 0 < len(path) <= MAX_PATH or "" in parts or any(part[0] == "." for part in parts):
        raise WireError("manifest", "path %s" % path[:MAX_PATH])
    if any(c not in _CHARACTERS for c in path):
        raise WireError("manifest", "path with a character that is not allowed")


def _check(manifest: Manifest) -> None:
    if manifest.target not in TARGETS:
        raise WireError("manifest", "unknown target %d" % manifest.target)
    if not 0 < manifest.version <= 0xFFFFFFFF or not 0 <= manifest.floor <= manifest.version:
        raise WireError("manifest", "version %d, floor %d" % (manifest.version, manifest.floor))
    if not 0 < len(manifest.files) <= MAX_FILES:
        raise WireError("manifest", "%d files" % len(manifest.files))
    before = ""
    for entry in manifest.files:
        _check_path(entry.path)
        if entry.path <= before:
            raise WireError("manifest", "%s is out of order" % entry.path)
        before = entry.path
        if not 0 < entry.size <= MAX_FILE_BYTES or len(entry.sha256) != _DIGEST:
            raise WireError("manifest", "%s of %d bytes" % (entry.path, entry.size))


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes that are signed; ``files`` is a sequence of Entry by ascending path. Raises WireError."""
    _check(manifest)
    target, version, floor, files = manifest
    parts = [struct.pack(_FORMAT, MAGIC, 1, target, version, floor, len(files))]
    for path, size, digest in files:
        parts.append(bytes([len(path)]) + path.encode() + struct.pack("<I", size) + digest)
    data = b"".join(parts)
    if len(data) > MAX_BYTES:
        raise WireError("manifest", "%d bytes" % len(data))
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Return the Manifest in ``data``, its signature unchecked; raises WireError("manifest") for all else."""
    if not _HEADER <= len(data) <= MAX_BYTES:
        raise WireError("manifest", "%d bytes" % len(data))
    magic, format_, target, version, floor, count = struct.unpack_from(_FORMAT, data)
    if magic != MAGIC or format_ != 1:
        raise WireError("manifest", "unknown format")
    files: "list[Entry]" = []
    at = _HEADER
    for _ in range(count):
        end = at + 1 + (data[at] if at < len(data) else 0)
        if len(data) < end + 4 + _DIGEST:
            raise WireError("manifest", "truncated")
        try:
            path = bytes(data[at + 1 : end]).decode()
        except UnicodeError:
            raise WireError("manifest", "path is not text")  # noqa: B904
        at = end + 4 + _DIGEST
        files.append(Entry(path, struct.unpack_from("<I", data, end)[0], bytes(data[end + 4 : at])))
    if at != len(data):
        raise WireError("manifest", "%d bytes left over" % (len(data) - at))
    manifest = Manifest(target, version, floor, files)
    _check(manifest)
    return manifest


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


def manifest_digest(manifest: bytes) -> bytes:
    """SHA-256 that names a release."""
    return sha256(manifest)


def lib_files(files: "Sequence[Entry]") -> "list[Entry]":
    """The entries that belong in an application slot."""
    return [entry for entry in files if entry.path.startswith(LIB)]
