"""Real connections: HTTPS with an SAE's certificate, and handshakes that a KME must refuse."""

import datetime as dt
import socket
import ssl
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.x509.oid import NameOID

from qepa_qkd.pki import create_ca, issue

from ..errors import ToolError
from .target import Answer

_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Papers:
    """Certificate and private key of one SAE, and the authority that KMEs' certificates are checked with."""

    certificate: Path
    private_key: Path
    ca: Path

    def common_name(self) -> str:
        """The SAE's name. Raises ToolError."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise ToolError(f"certificate {self.certificate} cannot be read: {error}.") from error
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or certificate.not_valid_after_utc < dt.datetime.now(dt.UTC):
            raise ToolError(f"certificate {self.certificate} has no single common name or has expired.")
        return str(names[0].value)

    def context(self) -> ssl.SSLContext:
        """A client's TLS settings. Raises ToolError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            raise ToolError(
                f"the TLS files beside {self.certificate} cannot be used: {error.strerror or error}."
            ) from error
        return context


class HttpsSae:
    """One SAE at one KME. A context manager."""

    def __init__(self, url: str, papers: Papers) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(verify=papers.context(), timeout=_TIMEOUT_S, trust_env=False)

    def call(self, method: str, path: str, content: bytes | None = None) -> Answer:
        """Send one request."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        url = f"{self._url}/api/v1/keys/{path}"
        try:
            response = self._http.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise ToolError(f"the KME at {self._url} cannot be reached: {error}.") from error
        return Answer.parse(response.status_code, response.content)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class TlsProbe:
    """Handshakes of clients that a KME must not let in. A refusal after the handshake counts, so a request is sent."""

    def __init__(self, url: str, ca: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise ToolError(f"{url} is no https:// address.")
        self._host, self._port, self._ca = parts.hostname, parts.port or 443, ca

    def accepts_old_version(self) -> str | None:
        """TLS 1.1 and older."""
        context = self._context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        try:
            with self._connect(context) as connection:
                return f"the handshake succeeds with {connection.version()}"
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return None

    def accepts_anonymous(self) -> str | None:
        """A client without a certificate."""
        return self._is_let_in(self._context())

    def accepts_stranger(self) -> str | None:
        """A client whose certificate is of an authority made up for this."""
        context = self._context()
        with tempfile.TemporaryDirectory() as folder:
            certificate, private_key = Path(folder) / "sae.pem", Path(folder) / "sae.key"
            issue(create_ca("unknown authority"), "stranger").save(certificate, private_key)
            context.load_cert_chain(certificate, private_key)
        return self._is_let_in(context)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca)

    def _connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            plain = socket.create_connection((self._host, self._port), timeout=_TIMEOUT_S)
        except OSError as error:
            raise ToolError(f"the KME at {self._host}:{self._port} cannot be reached: {error}.") from error
        try:
            return context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise

    def _is_let_in(self, context: ssl.SSLContext) -> str | None:
        # With TLS 1.3 a client is done before the server has seen its certificate: only an answer tells.
        request = f"GET /api/v1/keys/x/status HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n"
        try:
            with self._connect(context) as connection:
                connection.sendall(request.encode())
                first = connection.recv(64)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return None
        status = first.split(b" ")[1:2]
        if not first or status == [b"401"]:
            return None
        return f"the request is answered with {first[:20]!r}"
