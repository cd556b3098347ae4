"""Recordings of what went over the two serial lines of a bench: written as it happens, read in one pass.

hardware/bb84/RECORDING.md is normative. Every chunk has its own CRC, so that a file that was cut or damaged is good up
to there, and says so.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from qepa_qkd.errors import CorruptError

MAGIC: Final = b"\x89QEPArec"
VERSION: Final = 1
FROM_CONTROLLER, FROM_HOST, NOTE, END = 1, 2, 3, 4
TRANSMITTER, RECEIVER, NO_PORT = 0, 1, 255
LARGEST_CHUNK: Final = 1 << 20
_LARGEST_ABOUT: Final = 1 << 16

_HEAD = struct.Struct("<8sHI")
_CHUNK = struct.Struct("<IBBHQI")
_CRC = struct.Struct("<I")


class RecordingError(CorruptError):
    """A file that is no recording, or one of a version that this program does not know."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that went over one line at `time_us`, microseconds since the recording began."""

    kind: int
    port: int
    time_us: int
    data: bytes


class RecordingWriter:
    """Appends chunks to a file. Times must not decrease; what was flushed survives a crash."""

    def __init__(self, file: BinaryIO, first_index: int = 0, time_us: int = 0) -> None:
        """Use `create` or `resume`."""
        self._file = file
        self._index = first_index
        self._time_us = time_us
        self.bytes_written = 0

    @classmethod
    def create(cls, path: Path, about: dict[str, Any]) -> "RecordingWriter":
        """Begin a new file; `about` says of what, as a JSON object. Raises FileExistsError, OSError."""
        file = path.open("xb")
        text = json.dumps(about).encode()
        head = _HEAD.pack(MAGIC, VERSION, len(text)) + text
        file.write(head + _CRC.pack(zlib.crc32(head)))
        return cls(file)

    @classmethod
    def resume(cls, path: Path) -> "RecordingWriter":
        """Go on with a file that was cut: what is damaged at its end is removed. Raises RecordingError, OSError.

        Times go on where they stopped; a note says how much was removed. A file that was closed goes on likewise.
        """
        with Recording(path) as recording:
            index, time_us = 0, 0
            for index, chunk in enumerate(recording.chunks(), 1):  # noqa: B007 (its last value is needed)
                time_us = chunk.time_us
            good = recording.position
        removed = path.stat().st_size - good
        file = path.open("r+b")
        file.truncate(good)
        file.seek(good)
        writer = cls(file, index, time_us)
        writer.note({"resumed": True, "bytes_removed": removed}, time_us)
        return writer

    @property
    def time_us(self) -> int:
        """Time of the last chunk."""
        return self._time_us

    def write(self, kind: int, port: int, data: bytes, time_us: int) -> None:
        """Append one chunk. Raises OSError."""
        self._time_us = max(self._time_us, time_us)
        chunk = _CHUNK.pack(self._index, kind, port, 0, self._time_us, len(data)) + data
        self._file.write(chunk + _CRC.pack(zlib.crc32(chunk)))
        self._index = (self._index + 1) & 0xFFFFFFFF
        self.bytes_written += len(chunk) + _CRC.size

    def note(self, what: dict[str, Any], time_us: int) -> None:
        """Append a note: something that happened and went over no line."""
        self.write(NOTE, NO_PORT, json.dumps(what).encode(), time_us)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Append the closing chunk, which tells a whole recording from one that was cut."""
        if not self._file.closed:
            self.write(END, NO_PORT, b"", self._time_us)
            self._file.close()


class Recording:
    """A recording that is read, as a context manager. `about` is its header; `version` that of the format."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError if this is no recording, OSError if it cannot be read."""
        self.path = path
        self._file = path.open("rb")
        try:
            self.version, self.about = self._read_head()
        except BaseException:
            self._file.close()
            raise
        self.position = self._file.tell()
        """Where the next chunk begins; all before it is good."""
        self.closed_properly = False
        self.damage: str | None = None
        """Why the chunks ended before the file did, in words; known once they have ended."""

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks in order, the closing one left out, until the end or the first damage. Call once."""
        expected = 0
        while True:
            head = self._file.read(_CHUNK.size)
            if not head:
                return
            if len(head) < _CHUNK.size:
                self._damaged("is cut inside a chunk")
                return
            index, kind, port, _, time_us, length = _CHUNK.unpack(head)
            rest = self._file.read(length + _CRC.size) if length <= LARGEST_CHUNK else b""
            if len(rest) == length + _CRC.size and zlib.crc32(head + rest[:length]) == _CRC.unpack(rest[length:])[0]:
                if index != expected:
                    self._damaged(f"goes on with chunk {index} where chunk {expected} belongs")
                    return
            elif length <= LARGEST_CHUNK and len(rest) < length + _CRC.size:
                self._damaged("is cut inside a chunk")
                return
            else:
                self._damaged("has a chunk whose CRC does not match")
                return
            self.position += len(head) + len(rest)
            expected = (expected + 1) & 0xFFFFFFFF
            self.closed_properly = kind == END
            if kind != END:
                yield Chunk(kind, port, time_us, rest[:length])

    @property
    def ending(self) -> str:
        """How the recording ended, as one sentence; known once the chunks have ended."""
        if self.damage:
            return f"{self.path.name} {self.damage} at byte {self.position}; what lies before it is good"
        if not self.closed_properly:
            return f"{self.path.name} was not closed: its recording was cut, what there is of it is good"
        return f"{self.path.name} is complete"

    def _damaged(self, how: str) -> None:
        self.damage, self.closed_properly = how, False

    def _read_head(self) -> tuple[int, dict[str, Any]]:
        name = self.path.name
        head = self._file.read(_HEAD.size)
        if not head.startswith(MAGIC):
            raise RecordingError(f"{name} is no recording of an optical bench")
        if len(head) < _HEAD.size:
            raise RecordingError(f"{name} is cut inside its header")
        _, version, length = _HEAD.unpack(head)
        if version != VERSION:
            raise RecordingError(f"{name} is a recording of version {version}; this program reads version {VERSION}")
        text = self._file.read(min(length, _LARGEST_ABOUT))
        crc = self._file.read(_CRC.size)
        if len(text) != length or len(crc) != _CRC.size or zlib.crc32(head + text) != _CRC.unpack(crc)[0]:
            raise RecordingError(f"the header of {name} is cut or damaged")
        try:
            about = json.loads(text)
        except ValueError:
            about = None
        if not isinstance(about, dict):
            raise RecordingError(f"the header of {name} is no JSON object")
        return version, about
