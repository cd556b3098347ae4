"""Client of a KME (ETSI GS QKD 014 V1.1.1) over mutual TLS, for the key dock and the gateway."""

import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx

from qepa_qkd.errors import ConfigError, KeyNotFound, ProtocolError, SecurityError, StockTooLow, TransientError


@dataclass(frozen=True, slots=True)
class QkdKey:
    """A key and its identifier; the key stays out of `repr` and logs."""

    key_id: UUID
    value: bytes

    def __repr__(self) -> str:
        """Say which key, not what it is."""
        return f"QkdKey({self.key_id}, {8 * len(self.value)} bits)"


class KmeClient:
    """One KME as one SAE sees it. An async context manager; reuse it, a TLS handshake costs milliseconds.

    Every call raises TransientError when the KME cannot be reached, SecurityError when TLS or authorisation fails,
    ProtocolError on an answer that makes no sense. A request for keys whose answer is lost is sent once more with the
    same identifier, so that a KME of this project burns no key; pass `request_id` to go on doing so by yourself.
    """

    def __init__(self, url: str, *, ca: Path, certificate: Path, private_key: Path, timeout_s: float = 10.0) -> None:
        """`certificate` names the SAE. Raises ConfigError when the files cannot be used."""
        try:
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(certificate, private_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"The TLS files for {url} cannot be used: {error}.") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v1/keys", verify=context, timeout=timeout_s, trust_env=False
        )

    async def enc_keys(
        self,
        slave: str,
        number: int = 1,
        size: int | None = None,
        *,
        additional_slaves: Sequence[str] = (),
        request_id: str | None = None,
    ) -> list[QkdKey]:
        """Take `number` fresh keys of `size` bits to share with `slave` and `additional_slaves`.

        Raises StockTooLow; try again later.
        """
        body: dict[str, Any] = {"number": number}
        if size is not None:
            body["size"] = size
        if additional_slaves:
            body["additional_slave_SAE_IDs"] = list(additional_slaves)
        return _keys(await self._call_for_keys(f"{quote(slave, safe='')}/enc_keys", body, request_id), number)

    async def dec_keys(self, master: str, key_ids: Sequence[UUID], *, request_id: str | None = None) -> list[QkdKey]:
        """Redeem keys that `master` took, in this order, all or none; this consumes them. Raises KeyNotFound."""
        body = {"key_IDs": [{"key_ID": str(key_id)} for key_id in key_ids]}
        document = await self._call_for_keys(f"{quote(master, safe='')}/dec_keys", body, request_id)
        keys = _keys(document, len(key_ids))
        by_id = {key.key_id: key for key in keys}
        if set(by_id) != set(key_ids):
            raise ProtocolError("the KME answered with other keys than asked for")
        return [by_id[key_id] for key_id in key_ids]

    async def status(self, slave: str) -> dict[str, Any]:
        """Return the status of the link with SAE `slave` (the other SAE of the pair); see `kme` for the extension."""
        return await self._call("GET", f"{quote(slave, safe='')}/status")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Use as a context manager."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close on leaving."""
        await self.close()

    async def _call_for_keys(self, path: str, body: dict[str, Any], request_id: str | None) -> dict[str, Any]:
        headers = {"Idempotency-Key": request_id or uuid4().hex}
        try:
            return await self._call("POST", path, body, headers)
        except TransientError as error:
            if not isinstance(error.__cause__, (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)):
                raise
            return await self._call("POST", path, body, headers)

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, json=body, headers=headers)
        except httpx.DecodingError as error:
            raise ProtocolError(f"the KME's answer cannot be decoded: {error}") from error
        except httpx.TransportError as error:
            if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error) or "alert" in str(error):
                raise SecurityError(f"TLS with the KME failed: {error}") from error
            raise TransientError(f"the KME cannot be reached: {error}") from error
        try:
            document = response.json()
        except (ValueError, RecursionError):
            raise ProtocolError(f"the KME answered {response.status_code} without JSON") from None
        if not isinstance(document, dict):
            raise ProtocolError("the KME answered with JSON that is no object")
        if response.status_code == 200:
            return document
        raise _refusal(response.status_code, document)


def _refusal(status: int, document: dict[str, Any]) -> Exception:
    message = str(document.get("message", "no message"))
    if status == 401:
        return SecurityError(f"the KME refuses: {message}")
    if status == 503:
        return StockTooLow(message) if "insufficient" in message else TransientError(message)
    if status == 400 and "not found" in message:
        return KeyNotFound(message)
    return ProtocolError(f"the KME answered {status}: {message}")


def _keys(document: dict[str, Any], number: int) -> list[QkdKey]:
    try:
        keys = [QkdKey(UUID(k["key_ID"]), base64.b64decode(k["key"], validate=True)) for k in document["keys"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProtocolError("the KME answered with something other than keys") from None
    if len(keys) != number:
        raise ProtocolError(f"the KME answered with {len(keys)} keys instead of {number}")
    return keys
