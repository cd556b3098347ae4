"""The firmware signing key: HSS (RFC 8554), two levels of 32, so 1,024 signatures; in a folder its owner alone reads.

`firmware.hss` is the key, sealed under `vault.key`, and remembers which one-time keys are spent; it is rewritten before
a signature leaves. `firmware.pub` is the public key and the number of signatures made, as JSON: a key file that was
restored from a backup is older than it and signs no more.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qepa_server.errors import StoreError
from qepa_server.registry.signer import HssSigner
from qepa_server.store.vault import Vault
from qepa_uplink.identity import write_private
from qepa_wire import manifest as wire
from qepa_wire.primitives import sha256

from ..errors import ToolError
from .bundle import Bundle

_PURPOSE = "firmware signing key"
_KEY, _PUBLIC, _VAULT, _LOCK = "firmware.hss", "firmware.pub", "vault.key", "lock"


def make_key(folder: Path) -> bytes:
    """Make a signing key in ``folder`` and return its public part, 60 bytes; raises ToolError if there is one."""
    with _locked(folder):
        if (folder / _KEY).exists() or (folder / _PUBLIC).exists():
            raise ToolError(f"{folder} holds a firmware signing key already: choose another folder.")
        vault = Vault.open(folder / _VAULT, create=True)
        signer = HssSigner.generate(folder / _KEY, vault, height=5, purpose=_PURPOSE)
        _publish(folder, signer.public_key, 0)
        return signer.public_key


def public_key(folder: Path) -> bytes:
    """The public key in ``folder`` (or in the file itself), as identity.json's `firmware_root` holds it in hex."""
    return _public(folder)[0]


def sign_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Return ``bundle`` signed with the key in ``folder``. A one-time key is never used twice, crash or not."""
    with _locked(folder):
        public, used = _public(folder)
        try:
            vault = Vault.open(folder / _VAULT, create=False)
            signer = HssSigner.load(folder / _KEY, vault, public_key=public, used_at_least=used, purpose=_PURPOSE)
            signature = signer.sign(wire.signed_message(sha256(bundle.manifest_bytes)))
        except StoreError as error:
            raise ToolError(f"cannot sign: {error}.") from error
        except ValueError as error:
            raise ToolError(f"the firmware signing key in {folder} is used up: make another.") from error
        _publish(folder, public, signer.used)
    signed = bundle.signed(signature)
    signed.verify(public)
    return signed


def _publish(folder: Path, public: bytes, used: int) -> None:
    write_private(folder / _PUBLIC, json.dumps({"firmware_root": public.hex(), "signatures": used}).encode())


def _public(folder: Path) -> tuple[bytes, int]:
    path = folder / _PUBLIC if folder.is_dir() else folder
    try:
        record = json.loads(path.read_bytes())
        return bytes.fromhex(record["firmware_root"]), int(record["signatures"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{path} is not a firmware public key: make a key with qepa board keygen.") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
