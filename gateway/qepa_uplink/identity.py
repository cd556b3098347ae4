"""Who is who: ML-DSA-65 signatures (FIPS 204) and certificates by an offline root.

The root is offline and not the server's: a server could otherwise surround one gateway with gateways of its own
invention and open that gateway's sum.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UplinkError
from .sealing import PUBLIC_BYTES, SealKey

SIGNATURE_BYTES = 3309
Role = Literal["server", "gateway", "dock", "consent", "release"]
_CERTIFICATE_CONTEXT = b"qepa/1/certificate"


class Subject(BaseModel):
    """What the root says of one party."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    role: Role
    sign_key: bytes = Field(min_length=1952, max_length=1952)
    seal_key: bytes = Field(min_length=PUBLIC_BYTES, max_length=PUBLIC_BYTES)
    not_after_s: int


class Certificate(BaseModel):
    """A subject with the root's signature over its exact bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    body: bytes = Field(max_length=8192)
    signature: bytes = Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)


def verify_signature(public_key: bytes, signature: bytes, message: bytes, context: bytes) -> None:
    """Return if the ML-DSA-65 signature holds; raise UplinkError("signature") if not."""
    try:
        MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, message, context)
    except (InvalidSignature, ValueError) as error:
        raise UplinkError("signature") from error


def verify_certificate(certificate: Certificate, root_key: bytes, *, role: Role, now_s: float) -> Subject:
    """Return the subject if the root signed it for ``role`` and it has not expired; raise UplinkError if not."""
    verify_signature(root_key, certificate.signature, certificate.body, _CERTIFICATE_CONTEXT)
    try:
        subject = Subject.model_validate_json(certificate.body)
    except ValidationError as error:
        raise UplinkError("certificate", "signed body has another shape") from error
    if subject.role != role:
        raise UplinkError("certificate", f"{subject.name} is a {subject.role}, not a {role}")
    if now_s > subject.not_after_s:
        raise UplinkError("certificate", f"that of {subject.name} has expired")
    return subject


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's private keys with its certificate. ``repr`` shows no secret."""

    certificate: Certificate
    subject: Subject
    _sign: MLDSA65PrivateKey
    _seal: SealKey

    def __repr__(self) -> str:
        return f"Identity({self.subject.role} {self.subject.name})"

    @property
    def name(self) -> str:
        """The certified name."""
        return self.subject.name

    def sign(self, message: bytes, context: bytes) -> bytes:
        """Return the ML-DSA-65 signature of ``message`` under ``context``."""
        return self._sign.sign(message, context)

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was sealed to this party; raises UplinkError("seal") for what does not open."""
        return self._seal.unseal(sealed, info)

    def save(self, path: Path) -> None:
        """Write keys and certificate to ``path``, readable by its owner only."""
        record = {
            "certificate": self.certificate.model_dump(mode="json"),
            "sign": self._sign.private_bytes_raw().hex(),
            "seal": self._seal.to_bytes().hex(),
        }
        write_private(path, json.dumps(record).encode())

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Read what :meth:`save` wrote; raises UplinkError("identity") naming the file for anything else."""
        try:
            record = json.loads(path.read_bytes())
            certificate = Certificate.model_validate_json(json.dumps(record["certificate"]))
            return cls(
                certificate,
                Subject.model_validate_json(certificate.body),
                MLDSA65PrivateKey.from_seed_bytes(bytes.fromhex(record["sign"])),
                SealKey.from_bytes(bytes.fromhex(record["seal"])),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UplinkError("identity", f"cannot read the keys in {path}: {type(error).__name__}") from error


class Root:
    """The offline root: issues certificates and is then locked away."""

    def __init__(self, key: MLDSA65PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> bytes:
        """What every party pins."""
        return self._key.public_key().public_bytes_raw()

    @classmethod
    def open(cls, path: Path) -> "Root":
        """Load the root key from ``path``, or create it there."""
        if path.exists():
            try:
                return cls(MLDSA65PrivateKey.from_seed_bytes(path.read_bytes()))
            except (OSError, ValueError) as error:
                raise UplinkError("identity", f"cannot read the root key in {path}") from error
        key = MLDSA65PrivateKey.generate()
        write_private(path, key.private_bytes_raw())
        return cls(key)

    def issue(self, name: str, role: Role, *, valid_s: int = 366 * 86400) -> Identity:
        """Create keys for ``name`` and certify them for ``role``."""
        sign, seal = MLDSA65PrivateKey.generate(), SealKey.generate()
        subject = Subject(
            name=name,
            role=role,
            sign_key=sign.public_key().public_bytes_raw(),
            seal_key=seal.public_key,
            not_after_s=int(time.time()) + valid_s,
        )
        body = subject.model_dump_json().encode()
        certificate = Certificate(body=body, signature=self._key.sign(body, _CERTIFICATE_CONTEXT))
        return Identity(certificate, subject, sign, seal)


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` durably and atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # what a crash left may be readable by others, or a link to elsewhere
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
