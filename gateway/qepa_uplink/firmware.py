"""Firmware bundles on their way to boards: a zip that holds a signed manifest and just the files that it lists."""

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from zlib import error as zlib_error

from qepa_wire import lms, manifest
from qepa_wire.errors import WireError
from qepa_wire.primitives import sha256

from .errors import UplinkError

MAX_BUNDLE_BYTES = 2**18
MAX_VERSION = 65535  # as far as HELLO tells it
_MANIFEST = "manifest"
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others raise what they like, and LZMA takes the memory it names
_APPLICATION = "lib/qepa_board/"


@dataclass(frozen=True)
class Package:
    """An opened bundle. ``files``: manifest, signature, then the files below lib/ in the manifest's order."""

    version: int
    target: int
    paths: tuple[str, ...]
    files: tuple[bytes, ...]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the manifest: it names the release."""
        return sha256(self.files[0])

    def lacking(self, needs: Iterable[str]) -> str | None:
        """The first module of qepa_board among ``needs`` ("drivers/max30003") that it does not hold, or None."""
        held = {path.removeprefix(_APPLICATION).rsplit(".", 1)[0] for path in self.paths}
        return next((each for each in needs if each not in held), None)

    def verify(self, root: bytes) -> None:
        """Raise UplinkError("signature") unless the HSS public key ``root`` signed it."""
        try:
            lms.verify(root, manifest.signed_message(self.digest), self.files[1])
        except WireError as error:
            raise UplinkError("signature", f"firmware {self.version} is not signed by this key") from error


def open_bundle(data: bytes) -> Package:
    """Return the bundle in a zip, its signature unchecked; raises UplinkError("bundle")."""
    try:
        if len(data) > MAX_BUNDLE_BYTES:
            raise UplinkError("bundle", f"{len(data)} bytes")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.flag_bits & 1 or info.compress_type not in _PACKED for info in archive.infolist()):
                raise UplinkError("bundle", "encrypted, or packed in a way that is not ours")
            if sum(info.file_size for info in archive.infolist()) > MAX_BUNDLE_BYTES:
                raise UplinkError("bundle", "too large when it is unpacked")
            content = {info.filename: archive.read(info) for info in archive.infolist()}
        listed, signature = manifest.decode_release(content.pop(_MANIFEST))
        release = manifest.decode_manifest(listed)
    except (KeyError, ValueError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib_error, WireError) as error:
        raise UplinkError("bundle", "no firmware bundle") from error
    if set(content) != {entry.path for entry in release.files}:
        raise UplinkError("bundle", "it does not hold just the files that its manifest lists")
    for entry in release.files:
        if len(content[entry.path]) != entry.size or sha256(content[entry.path]) != entry.sha256:
            raise UplinkError("bundle", f"{entry.path} was altered")
    if not signature or release.version > MAX_VERSION:
        raise UplinkError("bundle", "not signed" if not signature else f"version {release.version}")
    paths = tuple(entry.path for entry in release.files if entry.path.startswith(manifest.LIB))
    return Package(release.version, release.target, paths, (listed, signature, *(content[path] for path in paths)))
