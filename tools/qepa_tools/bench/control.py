"""The control socket of a bench: whoever demonstrates an attack or a fault says so here, never to the controllers.

One line of text is one request, see `scenario`; besides those there is `status`. The answer is one line of JSON, with
`ok`, and `error` in one sentence where it is false. Alice and Bob know nothing of it.
"""

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from qepa_qkd.errors import ProtocolError, TransientError

Answer = Callable[[str], dict[str, Any]]
"""Takes a request; raises ValueError, in one sentence, to refuse it."""

_LONGEST_LINE: Final = 4096


class ControlSocket:
    """A Unix socket in a directory that only this user may enter."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        # In the system's own place for such: a path may have no more than about a hundred characters.
        self._directory = tempfile.TemporaryDirectory(prefix="qepa-bench-")
        self.path = str(Path(self._directory.name) / "control")
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=_LONGEST_LINE)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._directory.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line without end
            while line := await reader.readline():
                try:
                    document = {"ok": True, **self._answer(line.decode("utf-8", "replace").strip())}
                except ValueError as error:
                    document = {"ok": False, "error": str(error)}
                writer.write(json.dumps(document).encode() + b"\n")
                await writer.drain()
        writer.close()


def ask(path: str | Path, request: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request to the bench whose control socket, or a link to it, is at `path`; return its answer.

    Raises TransientError if no bench answers, ProtocolError with its sentence if it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(os.path.realpath(path))
            connection.sendall(request.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise TransientError(f"the bench at {path} ended in the middle of an answer")
                answer += piece
    except OSError as error:
        raise TransientError(f"no virtual bench answers at {path}: {error}") from error
    document: dict[str, Any] = json.loads(answer)
    if not document.get("ok"):
        raise ProtocolError(str(document.get("error")))
    return document
