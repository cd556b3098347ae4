"""Identity of a link end: the ML-DSA-65 key that signs its passports and its part of a key exchange."""

import hashlib
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from qepa_qkd.errors import ConfigError, CorruptError
from qepa_qkd.store_database import read_secret_file, write_secret_file


def open_signing_key(path: Path) -> MLDSA65PrivateKey:
    """Return the key at `path`, made if it is not there. Raises ConfigError, or CorruptError when it is no key."""
    try:
        if not path.exists():
            write_secret_file(path, secrets.token_bytes(32))
        return MLDSA65PrivateKey.from_seed_bytes(read_secret_file(path, "Signing key"))
    except OSError as error:
        raise ConfigError(f"Signing key {path} cannot be created: {error.strerror}.") from None
    except ValueError:
        raise CorruptError(f"Signing key {path} is not a 32-byte ML-DSA-65 seed.") from None


def public_pem(key: MLDSA65PublicKey) -> bytes:
    """What the other end is given."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public(path: Path) -> MLDSA65PublicKey:
    """Return the other end's key. Raises ConfigError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"Public key {path} cannot be read: {error.strerror}.") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, MLDSA65PublicKey):
        raise ConfigError(f"{path} is no public key of a link end (ML-DSA-65, PEM).")
    return key


def fingerprint(key: MLDSA65PublicKey) -> str:
    """First 128 bits of the key's SHA-256, for two people to compare over the telephone."""
    digest = hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))
