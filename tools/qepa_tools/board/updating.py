"""`qepa board update`: a signed release into the slot that is not in use, through the board's own dock calls."""

import base64
from typing import Any

from ..errors import ToolError
from ..firmware_build.bundle import Bundle
from .screen import Screen
from .session import BoardSession

_CHUNK = 2048


def update(session: BoardSession, bundle: Bundle, screen: Screen, *, dry_run: bool = False) -> dict[str, Any]:
    """Send what the board lacks of ``bundle``; it is on trial from the next reset on. Raises ToolError.

    The board checks the signature, target and version before it takes a byte, and all files before it tries them. A
    transfer that was cut goes on where it was.
    """
    if not bundle.signature:
        raise ToolError("the bundle is not signed, and boards take no other: sign it with qepa board sign.")
    status = session.dock("status()")
    done = {"from": status["version"], "to": bundle.version, "slot_in_use": status["slot"]}
    if dry_run:
        return done
    session.attach()
    for name, data in (("_manifest", bundle.manifest_bytes), ("_signature", bundle.signature)):
        session.put_text(name, _text(data))
    begun = session.dock("update_begin(_manifest, _signature)")
    session.renew()  # memory is whole again
    missing = [(path, size, there) for path, size, there in begun["missing"]]
    total, sent = sum(size - there for _, size, there in missing), 0
    for path, size, there in missing:
        content = bundle.files[path]
        for start in range(there, size, _CHUNK):
            chunk = content[start : start + _CHUNK]
            session.dock(f"update_write({path!r}, {start}, {_text(chunk)!r})")
            sent += len(chunk)
            screen.step("send", sent, total)
    finished = session.dock("update_finish()")
    return done | {"slot": begun["slot"], "bytes_sent": sent, "version": finished["version"]}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
