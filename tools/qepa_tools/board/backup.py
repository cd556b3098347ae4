"""Backups of what makes a board itself: everything in its /qepa. They hold keys; the file is for its owner alone.

With a passphrase the content is sealed with AES-256-GCM under a key from scrypt (RFC 7914, N = 2^16, r = 8, p = 1). A
backup is for a person to look things up in. No command puts it back: counters that go back would use keystream twice.
"""

import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from qepa_uplink.identity import write_private

from ..errors import ToolError

_FORMAT = "qepa board backup 1"
_WARNING = "SECRET: holds the keys of a board. Delete it once that board is well again or retired."
_SALT_BYTES, _NONCE_BYTES = 16, 12


def write_backup(folder: Path, board_id: str, files: Mapping[str, bytes], passphrase: str | None = None) -> Path:
    """Write ``files`` (path on the board: content) and return the new file's path; mode 0600."""
    content = json.dumps({path: base64.b64encode(data).decode() for path, data in sorted(files.items())}).encode()
    record: dict[str, Any] = {"format": _FORMAT, "warning": _WARNING, "board": board_id, "made_s": int(time.time())}
    if passphrase is None:
        record["files"] = json.loads(content)
    else:
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, content, _FORMAT.encode())
        record["sealed"] = {"salt": salt.hex(), "nonce": nonce.hex(), "content": base64.b64encode(sealed).decode()}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{board_id}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(2).hex()}.qepa-backup"
    write_private(path, json.dumps(record, indent=1).encode())
    return path


def read_backup(path: Path, passphrase: str | None = None) -> dict[str, bytes]:
    """Files in a backup. Raises ToolError if it is none, was altered, or the passphrase is wrong."""
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != _FORMAT:
            raise ValueError("another format")
        if "sealed" in record:
            if passphrase is None:
                raise ToolError(f"{path} is sealed: give its passphrase.")
            sealed = record["sealed"]
            key = _key(passphrase, bytes.fromhex(sealed["salt"]))
            content = AESGCM(key).decrypt(
                bytes.fromhex(sealed["nonce"]), base64.b64decode(sealed["content"]), _FORMAT.encode()
            )
            files = json.loads(content)
        else:
            files = record["files"]
        return {name: base64.b64decode(data) for name, data in files.items()}
    except InvalidTag as error:
        raise ToolError(f"{path} does not open: the passphrase is wrong or the file was altered.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(f"{path} is no backup of a board: {error}.") from error


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << 16, r=8, p=1).derive(passphrase.encode())
