"""Certificates for mutual TLS between applications and KMEs: a small P-256 CA and the certificates it issues.

An application is known by the common name of its client certificate; servers are found at 127.0.0.1 or the addresses
given.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qepa_qkd.errors import ConfigError
from qepa_qkd.store_database import write_secret_file


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A certificate and its private key, PEM."""

    certificate_pem: bytes
    private_key_pem: bytes

    def save(self, certificate: Path, private_key: Path) -> None:
        """Write both files, the key with mode 0600. Raises FileExistsError rather than overwrite the key."""
        write_secret_file(private_key, self.private_key_pem)
        certificate.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_bytes(self.certificate_pem)

    @classmethod
    def load(cls, certificate: Path, private_key: Path) -> "Credential":
        """Read what `save` wrote."""
        return cls(certificate.read_bytes(), private_key.read_bytes())


def create_ca(common_name: str, valid_days: int = 3650, *, since: dt.datetime | None = None) -> Credential:
    """Return a new certificate authority, valid from `since` (by default now) until `valid_days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key(), valid_days, since)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _credential(certificate, key)


def issue(
    ca: Credential,
    common_name: str,
    *,
    addresses: Sequence[str] = ("127.0.0.1",),
    valid_days: int = 825,
    since: dt.datetime | None = None,
) -> Credential:
    """Return a certificate for `common_name`, good as TLS server at `addresses` (IPs or names) and as TLS client."""
    ca_certificate = x509.load_pem_x509_certificate(ca.certificate_pem)
    ca_key = load_pem_private_key(ca.private_key_pem, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ConfigError("The certificate authority's key is no elliptic-curve key.")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(common_name), ca_certificate.subject, key.public_key(), valid_days, since)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(a) for a in addresses]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _credential(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    valid_days: int,
    since: dt.datetime | None,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A bedside machine without battery clock may be some minutes behind.
        .not_valid_before(since or now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=valid_days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _credential(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credential(certificate.public_bytes(Encoding.PEM), pem)
