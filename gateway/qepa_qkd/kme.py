"""Key-management entity: the REST API of ETSI GS QKD 014 V1.1.1 over mutual TLS, in the process of Alice or Bob.

An application (SAE) is who its client certificate's common name says. Alice's KME hands keys out (`enc_keys`), Bob's
redeems their identifiers (`dec_keys`). Vendor extension: `status_extension` of the status answer holds `link_state`,
`qber`, `stock_bits`, `secret_bits_produced`, `secret_bits_consumed`, `last_block_unix_s`, `blocks`,
`blocks_without_key`, `last_reason`, `authentication_bits_spent`, `authentication_bits_gained`, `serial_frames_lost`.
"""

import asyncio
import base64
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from uvicorn.protocols.http.h11_impl import H11Protocol

from qepa_qkd.config import KmeSection, Role, split_address
from qepa_qkd.errors import ConfigError, KeyNotFound, QkdError, StockTooLow
from qepa_qkd.keystore import StoredKey
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.vault import Vault

logger = logging.getLogger(__name__)

_MIN_KEY_SIZE_BITS = 64


class _Refusal(QkdError):  # noqa: N818 (a regular answer of the API)
    """An answer other than 200, in the shape of the specification's error format."""

    def __init__(self, status: int, message: str, details: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.details = status, list(details)


class KeyRequest(BaseModel):
    """Key request of the specification, section 6.2."""

    number: int = Field(default=1, ge=1)
    size: int | None = Field(default=None, ge=1)
    additional_slave_SAE_IDs: list[str] = []  # noqa: N815 (name of the specification)
    extension_mandatory: list[dict[str, Any]] = []
    extension_optional: list[dict[str, Any]] = []


class KeyIdEntry(BaseModel):
    """One identifier of a `KeyIds` list."""

    key_ID: UUID  # noqa: N815 (name of the specification)


class KeyIds(BaseModel):
    """Key identifiers of the specification, section 6.4."""

    key_IDs: list[KeyIdEntry] = Field(min_length=1)  # noqa: N815 (name of the specification)


class Kme:
    """What the API does, apart from HTTP."""

    def __init__(self, config: KmeSection, role: Role, vault: Vault, status: LinkStatus, capacity_bits: int) -> None:
        self._config, self._role, self._vault, self._status = config, role, vault, status
        self._capacity_bits = capacity_bits

    def enc_keys(self, client: str, slave: str, request: KeyRequest) -> dict[str, Any]:
        """Hand out fresh keys to master `client` for `slave`."""
        self._authorise(master=client, slave=slave)
        if self._role != "alice":
            raise _Refusal(400, f"keys of this link are handed out by {self._config.peer_id}; here they are redeemed")
        if request.additional_slave_SAE_IDs:
            raise _Refusal(400, "this KME serves no additional slave SAEs")
        if request.extension_mandatory:
            raise _Refusal(400, "not all extension_mandatory parameters are supported")
        size = self._config.key_size_bits if request.size is None else request.size
        if size % 8:
            raise _Refusal(400, "size shall be a multiple of 8")
        if not _MIN_KEY_SIZE_BITS <= size <= self._config.max_key_size_bits:
            raise _Refusal(400, f"size is {_MIN_KEY_SIZE_BITS} to {self._config.max_key_size_bits} bits")
        if request.number > self._config.max_keys_per_request:
            raise _Refusal(400, f"at most {self._config.max_keys_per_request} keys a request")
        return _container(self._vault.keys.take(request.number, size // 8))

    def dec_keys(self, client: str, master: str, key_ids: Sequence[UUID]) -> dict[str, Any]:
        """Redeem identifiers that `master` was given, for slave `client`; each once."""
        self._authorise(master=master, slave=client)
        if self._role != "bob":
            raise _Refusal(400, f"keys of this link are redeemed at {self._config.peer_id}; here they are handed out")
        if len(key_ids) > self._config.max_keys_per_request:
            raise _Refusal(400, f"at most {self._config.max_keys_per_request} keys a request")
        return _container(self._vault.keys.redeem(key_ids))

    def status(self, client: str, other: str) -> dict[str, Any]:
        """Status of the link between the client and the SAE it names, whichever of them is the master."""
        pair = self._config.sae[0]
        if {client, other} != {pair.master, pair.slave} or client == other:
            raise _Refusal(401, f"SAE {client} has no link with SAE {other} here")
        figures = self._vault.keys.figures()
        spent, gained = self._vault.pads.spent_and_gained_bits()
        size = self._config.key_size_bits
        return {
            "source_KME_ID": self._config.id,
            "target_KME_ID": self._config.peer_id,
            "master_SAE_ID": pair.master,
            "slave_SAE_ID": pair.slave,
            "key_size": size,
            "stored_key_count": self._vault.keys.key_count(size // 8),
            "max_key_count": self._capacity_bits // size,
            "max_key_per_request": self._config.max_keys_per_request,
            "max_key_size": self._config.max_key_size_bits,
            "min_key_size": _MIN_KEY_SIZE_BITS,
            "max_SAE_ID_count": 0,
            "status_extension": {
                "link_state": self._status.state,
                "qber": self._status.qber,
                "stock_bits": figures.stock_bits,
                "secret_bits_produced": figures.produced_bits,
                "secret_bits_consumed": figures.consumed_bits,
                "last_block_unix_s": figures.last_block_s,
                "blocks": self._status.blocks,
                "blocks_without_key": self._status.blocks_without_key,
                "last_reason": self._status.last_reason,
                "authentication_bits_spent": spent,
                "authentication_bits_gained": gained,
                "serial_frames_lost": self._status.frames_lost,
            },
        }

    def _authorise(self, *, master: str, slave: str) -> None:
        if not any(pair.master == master and pair.slave == slave for pair in self._config.sae):
            raise _Refusal(401, f"master SAE {master} and slave SAE {slave} share no keys here")


def make_app(kme: Kme) -> FastAPI:
    """Return the ASGI application; the server puts the client's common name in `request.state.client_name`."""
    app = FastAPI(title="KME", docs_url=None, redoc_url=None, openapi_url=None)
    root = "/api/v1/keys"

    @app.exception_handler(_Refusal)
    async def refusal(_: Request, error: _Refusal) -> JSONResponse:
        return _error(error.status, str(error), error.details)

    @app.exception_handler(KeyNotFound)
    async def not_found(_: Request, error: KeyNotFound) -> JSONResponse:
        return _error(400, "one or more keys specified are not found on KME", [{"reason": str(error)}])

    @app.exception_handler(StockTooLow)
    async def too_low(_: Request, error: StockTooLow) -> JSONResponse:
        return _error(503, "insufficient keys", [{"reason": str(error)}])

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        details = [{".".join(map(str, one["loc"])): one["msg"]} for one in error.errors()]
        return _error(400, "bad request format", details)

    @app.exception_handler(QkdError)
    async def failed(_: Request, error: QkdError) -> JSONResponse:
        logger.error("key request failed: %s", error)
        return _error(503, "error of server side")

    @app.get(root + "/{slave}/status")
    async def get_status(request: Request, slave: str) -> JSONResponse:
        return JSONResponse(kme.status(_client(request), slave))

    @app.get(root + "/{slave}/enc_keys")
    async def get_enc_keys(
        request: Request,
        slave: str,
        number: Annotated[int, Query(ge=1)] = 1,
        size: Annotated[int | None, Query()] = None,
    ) -> JSONResponse:
        return JSONResponse(kme.enc_keys(_client(request), slave, KeyRequest(number=number, size=size)))

    @app.post(root + "/{slave}/enc_keys")
    async def post_enc_keys(request: Request, slave: str, body: KeyRequest) -> JSONResponse:
        return JSONResponse(kme.enc_keys(_client(request), slave, body))

    @app.get(root + "/{master}/dec_keys")
    async def get_dec_keys(request: Request, master: str, key_ID: UUID) -> JSONResponse:  # noqa: N803
        return JSONResponse(kme.dec_keys(_client(request), master, [key_ID]))

    @app.post(root + "/{master}/dec_keys")
    async def post_dec_keys(request: Request, master: str, body: KeyIds) -> JSONResponse:
        return JSONResponse(kme.dec_keys(_client(request), master, [entry.key_ID for entry in body.key_IDs]))

    return app


class KmeServer:
    """The API on a port. Bound on construction, so that a busy port is known before anything else starts."""

    def __init__(self, config: KmeSection, app: FastAPI) -> None:
        """Raises ConfigError when the port is busy or a certificate file cannot be used."""
        for path in (config.certificate, config.private_key, config.client_ca):
            if not path.is_file():
                raise ConfigError(f"TLS file {path} is missing.")
        host, port = split_address(config.listen)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host.strip("[]"), port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"KME address {config.listen} cannot be used: {error.strerror}.") from None
        self.url = f"https://{host}:{self._socket.getsockname()[1]}"
        settings = uvicorn.Config(
            app,
            http=_ClientNameProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=config.certificate,
            ssl_keyfile=config.private_key,
            ssl_ca_certs=str(config.client_ca),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigError(f"The TLS files of the KME cannot be used: {error}.") from None
        if settings.ssl is not None:
            settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = _Server(settings)

    async def serve(self) -> None:
        """Serve until cancelled."""
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            self._server.force_exit = True
            await serving
            self._socket.close()

    async def wait_started(self) -> None:
        """Return once requests are answered."""
        while not self._server.started:
            await asyncio.sleep(0.01)


class _Server(uvicorn.Server):
    """Signals belong to the program, not to the server inside it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _ClientNameProtocol(H11Protocol):
    """Puts the common name of the TLS client certificate in the request state, which ASGI itself cannot carry."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else {}
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        self.app_state = {**self.app_state, "client_name": names[0] if len(names) == 1 else ""}


def _client(request: Request) -> str:
    name: str = request.state.client_name
    if not name:
        raise _Refusal(401, "the client certificate names no SAE")
    return name


def _container(keys: Sequence[StoredKey]) -> dict[str, Any]:
    return {"keys": [{"key_ID": str(k.key_id), "key": base64.b64encode(k.value).decode("ascii")} for k in keys]}


def _error(status: int, message: str, details: Sequence[dict[str, str]] = ()) -> JSONResponse:
    return JSONResponse({"message": message, "details": list(details)}, status_code=status)
