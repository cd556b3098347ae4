"""Key-management entity: the REST API of ETSI GS QKD 014 V1.1.1, in the process of Alice or Bob.

An application (SAE) is who its client certificate's common name says. Alice's KME hands keys out (`enc_keys`), Bob's
redeems their identifiers (`dec_keys`); `delivery` has the rules. Every answer other than 200 is an error of clause 6.5.

Beyond the standard: a request may carry a header `Idempotency-Key` (1 to 64 printable characters); repeated with it, it
gets the same answer for a short time. `status_extension` of the status answer holds `link_state`, `qber`,
`stock_bits`, `secret_bits_produced`, `secret_bits_consumed`, `last_block_unix_s`, `blocks`, `blocks_without_key`,
`last_reason`, `authentication_bits_spent`, `authentication_bits_gained`, `serial_frames_lost`; `initial_secret`
(courier or pqc), `authentication` (of keys made now) and `authentication_renewed_since_block`, the first block whose
authentication took nothing from the initial secret, as its passport names it.
"""

import base64
import logging
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException

from qepa_qkd.config import KmeSection, Role
from qepa_qkd.delivery import Delivery, KeyDelivery
from qepa_qkd.errors import KeyNotFound, ProtocolError, QkdError, SecurityError, StockTooLow
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.vault import Vault

logger = logging.getLogger(__name__)

MIN_KEY_SIZE_BITS: Final = 64
BAD_REQUEST: Final = "bad request format"
SIZE_NOT_BYTES: Final = "size shall be a multiple of 8"
MANDATORY_UNSUPPORTED: Final = "not all extension_mandatory parameters are supported"
KEYS_NOT_FOUND: Final = "one or more keys specified are not found on KME"
"""Messages that clauses 5 and 6 prescribe."""


class _Refusal(QkdError):  # noqa: N818 (a regular answer of the API)
    """An answer other than 200, in the shape of the specification's error format."""

    def __init__(self, status: int, message: str, details: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.details = status, list(details)


def _nothing_if_null(value: object) -> object:
    return [] if value is None else value


def _one_if_null(value: object) -> object:
    return 1 if value is None else value


Names = Annotated[list[Annotated[str, Field(max_length=64)]], BeforeValidator(_nothing_if_null)]
Extensions = Annotated[list[dict[str, Any]], BeforeValidator(_nothing_if_null)]


class KeyRequest(BaseModel):
    """Key request, clause 6.2. Clients also write null for what they leave out."""

    model_config = ConfigDict(strict=True)

    number: Annotated[int, Field(ge=1), BeforeValidator(_one_if_null)] = 1
    size: int | None = Field(default=None, ge=1)
    additional_slave_SAE_IDs: Names = []  # noqa: N815 (name of the specification)
    extension_mandatory: Extensions = []
    extension_optional: Extensions = []


class KeyIdEntry(BaseModel):
    """One identifier of a `KeyIds` list."""

    key_ID: UUID  # noqa: N815 (name of the specification)


class KeyIds(BaseModel):
    """Key identifiers, clause 6.4."""

    key_IDs: list[KeyIdEntry] = Field(min_length=1)  # noqa: N815 (name of the specification)


class Kme:
    """What the API does, apart from HTTP."""

    def __init__(
        self,
        config: KmeSection,
        role: Role,
        vault: Vault,
        status: LinkStatus,
        capacity_bits: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._role, self._vault, self._status = config, role, vault, status
        self._capacity_bits = capacity_bits
        self.delivery = KeyDelivery(config, role, vault, clock)

    def enc_keys(self, client: str, slave: str, request: KeyRequest, request_id: str | None = None) -> Delivery:
        """Hand out fresh keys to master `client` for `slave` and the additional slaves of the request."""
        self.delivery.authorise(master=client, slave=slave)
        if self._role != "alice":
            raise _refuse(f"keys of this link are handed out by {self._config.peer_id}; here they are redeemed")
        audience = {slave, *request.additional_slave_SAE_IDs}
        if len(audience) > len(self._config.slaves_of(client)):
            raise _refuse(f"additional_slave_SAE_IDs has at most {len(self._config.slaves_of(client)) - 1} names")
        if request.extension_mandatory:
            names = sorted({name for extension in request.extension_mandatory for name in extension})
            raise _Refusal(
                400, MANDATORY_UNSUPPORTED, [{"extension_mandatory_unsupported": n[:64]} for n in names[:16]]
            )
        size = self._config.key_size_bits if request.size is None else request.size
        if size % 8:
            raise _Refusal(400, SIZE_NOT_BYTES)
        if not MIN_KEY_SIZE_BITS <= size <= self._config.max_key_size_bits:
            raise _refuse(f"size is {MIN_KEY_SIZE_BITS} to {self._config.max_key_size_bits} bits")
        if request.number > self._config.max_keys_per_request:
            raise _refuse(f"at most {self._config.max_keys_per_request} keys a request")
        return self.delivery.hand_out(client, audience, request.number, size // 8, request_id)

    def dec_keys(self, client: str, master: str, key_ids: Sequence[UUID], request_id: str | None = None) -> Delivery:
        """Redeem identifiers that `master` was given, for slave `client`; each once."""
        self.delivery.authorise(master=master, slave=client)
        if self._role != "bob":
            raise _refuse(f"keys of this link are redeemed at {self._config.peer_id}; here they are handed out")
        if len(key_ids) > self._config.max_keys_per_request:
            raise _refuse(f"at most {self._config.max_keys_per_request} keys a request")
        return self.delivery.redeem(master, client, key_ids, request_id)

    def status(self, client: str, other: str) -> dict[str, Any]:
        """Status of the link between the client and the SAE it names, whichever of them is the master."""
        config = self._config
        if other in config.slaves_of(client):
            master, slave = client, other
        else:
            self.delivery.authorise(master=other, slave=client)
            master, slave = other, client
        figures = self._vault.keys.figures()
        spent, gained = self._vault.pads.spent_and_gained_bits()
        renewed_since = self._vault.pads.renewed_since()
        size = config.key_size_bits
        stored = self.delivery.key_count(master, size // 8)
        return {
            "source_KME_ID": config.id,
            "target_KME_ID": config.peer_id,
            "master_SAE_ID": master,
            "slave_SAE_ID": slave,
            "key_size": size,
            "stored_key_count": stored,
            # The block that fills the store may go beyond its capacity.
            "max_key_count": max(self._capacity_bits // size, stored),
            "max_key_per_request": config.max_keys_per_request,
            "max_key_size": config.max_key_size_bits,
            "min_key_size": MIN_KEY_SIZE_BITS,
            "max_SAE_ID_count": len(config.slaves_of(master)) - 1,
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
                "qber_key_basis": self._status.qber_key,
                "qber_test_basis": self._status.qber_test,
                "alarms": dict(self._status.alarms.active),
                "alarms_raised": self._status.alarms.raised,
                "initial_secret": self._status.authentication_origin,
                "authentication": self._status.authentication(renewed_since),
                "authentication_renewed_since_block": renewed_since,
                "threat_level": self._status.threat_level(),
                "rekey_s": self._status.rekey_interval_s(figures.stock_bits, self._capacity_bits),
            },
        }

    def expire(self) -> None:
        """Destroy what is too old; call it every minute or so."""
        if bits := self.delivery.expire():
            logger.warning("%d bits of key were destroyed because nobody wanted them in time", bits)


RequestId = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=64, pattern=r"^[!-~]+$")]


def make_app(kme: Kme) -> FastAPI:
    """Return the ASGI application; the server puts the client's common name in `request.state.client_name`.

    It leaves each `Delivery` in `request.state.delivery`, for the server to say when it could not be sent.
    """
    app = FastAPI(title="KME", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _answer_errors(app)
    root = "/api/v1/keys"

    @app.get(root + "/{slave}/status")
    async def get_status(request: Request, slave: str) -> JSONResponse:
        return JSONResponse(kme.status(_client(request), slave))

    @app.get(root + "/{slave}/enc_keys")
    async def get_enc_keys(
        request: Request,
        slave: str,
        number: Annotated[int, Query(ge=1)] = 1,
        size: Annotated[int | None, Query(ge=1)] = None,
        request_id: RequestId = None,
    ) -> JSONResponse:
        body = KeyRequest(number=number, size=size)
        return _container(request, kme.enc_keys(_client(request), slave, body, request_id))

    @app.post(root + "/{slave}/enc_keys")
    async def post_enc_keys(
        request: Request, slave: str, body: KeyRequest, request_id: RequestId = None
    ) -> JSONResponse:
        return _container(request, kme.enc_keys(_client(request), slave, body, request_id))

    @app.get(root + "/{master}/dec_keys")
    async def get_dec_keys(
        request: Request,
        master: str,
        key_ID: Annotated[list[UUID], Query(min_length=1, max_length=1)],  # noqa: N803
        request_id: RequestId = None,
    ) -> JSONResponse:
        return _container(request, kme.dec_keys(_client(request), master, key_ID, request_id))

    @app.post(root + "/{master}/dec_keys")
    async def post_dec_keys(request: Request, master: str, body: KeyIds, request_id: RequestId = None) -> JSONResponse:
        key_ids = [entry.key_ID for entry in body.key_IDs]
        return _container(request, kme.dec_keys(_client(request), master, key_ids, request_id))

    return app


def error_document(message: str, details: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """The error format of clause 6.5."""
    return {"message": message, "details": list(details)}


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(_Refusal)
    async def refusal(_: Request, error: _Refusal) -> JSONResponse:
        return _error(error.status, str(error), error.details)

    @app.exception_handler(SecurityError)
    async def unauthorised(_: Request, error: SecurityError) -> JSONResponse:
        return _error(401, str(error))

    @app.exception_handler(KeyNotFound)
    async def not_found(_: Request, error: KeyNotFound) -> JSONResponse:
        return _error(400, KEYS_NOT_FOUND, [{"reason": str(error)}])

    @app.exception_handler(ProtocolError)
    async def misused(_: Request, error: ProtocolError) -> JSONResponse:
        return _error(400, BAD_REQUEST, [{"reason": str(error)}])

    @app.exception_handler(StockTooLow)
    async def too_low(_: Request, error: StockTooLow) -> JSONResponse:
        return _error(503, "insufficient keys", [{"reason": str(error)}])

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        details = [{".".join(map(str, one["loc"]))[:64]: one["msg"]} for one in error.errors()[:16]]
        return _error(400, BAD_REQUEST, details)

    @app.exception_handler(HTTPException)
    async def no_such_call(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(QkdError)
    async def failed(_: Request, error: QkdError) -> JSONResponse:
        logger.error("key request failed: %s", error)
        return _error(503, "error of server side")

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        return _error(503, "error of server side")


def _refuse(reason: str) -> _Refusal:
    return _Refusal(400, BAD_REQUEST, [{"reason": reason}])


def _client(request: Request) -> str:
    name: str = request.state.client_name
    if not name:
        raise SecurityError("the client certificate names no SAE")
    return name


def _container(request: Request, delivery: Delivery) -> JSONResponse:
    """Key container of clause 6.3."""
    request.state.delivery = delivery
    keys = [{"key_ID": str(k.key_id), "key": base64.b64encode(k.value).decode("ascii")} for k in delivery.keys]
    return JSONResponse({"keys": keys}, headers={"Cache-Control": "no-store"})


def _error(status: int, message: str, details: Sequence[dict[str, str]] = ()) -> JSONResponse:
    return JSONResponse(error_document(message, details), status_code=status)
