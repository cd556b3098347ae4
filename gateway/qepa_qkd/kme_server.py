"""The KME's port: mutual TLS 1.3, who a client is, limits on what a client may hold up, answers that did not leave."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qepa_qkd.config import KmeSection, split_address
from qepa_qkd.errors import ConfigError, TransientError
from qepa_qkd.kme import BAD_REQUEST, Kme, error_document, make_app

logger = logging.getLogger(__name__)

MOST_BODY_BYTES: Final = 128 * 1024
MOST_HEADER_BYTES: Final = 16 * 1024
MOST_CONNECTIONS: Final = 64
REQUEST_LIMIT_S: Final = 10.0
"""From a request's first byte (or the handshake) to its answer's last."""
EXPIRY_INTERVAL_S: Final = 60.0

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class KmeServer:
    """The API on a port. Bound on construction, so that a busy port is known before anything else starts."""

    def __init__(self, config: KmeSection, kme: Kme, *, request_limit_s: float = REQUEST_LIMIT_S) -> None:
        """Raises ConfigError when the port is busy or a certificate file cannot be used."""
        self._kme = kme
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
            GuardedApp(kme),
            http=_protocol(request_limit_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
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
        expiring = asyncio.ensure_future(self._expire())
        try:
            await asyncio.wait([serving, expiring], return_when=asyncio.FIRST_COMPLETED)
            if expiring.done():
                expiring.result()
        finally:
            expiring.cancel()
            self._server.should_exit = True
            self._server.force_exit = True
            await serving
            self._socket.close()

    async def wait_started(self) -> None:
        """Return once requests are answered."""
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def _expire(self) -> None:
        while True:
            try:
                self._kme.expire()
            except TransientError as error:
                logger.warning("old key is not destroyed yet: %s", error)
            await asyncio.sleep(EXPIRY_INTERVAL_S)


class GuardedApp:
    """The ASGI application of a KME: refuses large bodies and tells it which answers certainly did not leave."""

    def __init__(self, kme: Kme) -> None:
        self._kme, self._app = kme, make_app(kme)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        state = scope["state"]
        connection = state.get("connection")

        async def send_if_connected(message: _Message) -> None:
            if message["type"] == "http.response.start" and "delivery" in state:
                # Storing took a while: let the loop see a client that has gone before the keys leave.
                for _ in range(4):
                    await asyncio.sleep(0)
            await send(message)

        body = await _read_body(receive)
        if body is None:
            await _send_error(send, [{"reason": f"a body has at most {MOST_BODY_BYTES} bytes"}])
            return
        await self._app(scope, _replay(body, receive), send_if_connected)
        if "delivery" in state and connection is not None and connection.lost_answer:
            self._kme.delivery.mark_unsent(state["delivery"])


async def _read_body(receive: _Receive) -> bytes | None:
    """Return the whole body; None when it is too large or the client went before its end."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY_BYTES or message["type"] != "http.request":
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: _Receive) -> _Receive:
    pending = [body]

    async def next_message() -> _Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return next_message


async def _send_error(send: _Send, details: list[dict[str, str]]) -> None:
    headers, body = _bad_request(details)
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bad_request(details: list[dict[str, str]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an answer after which the connection is closed."""
    body = json.dumps(error_document(BAD_REQUEST, details)).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    return headers, body


class _Server(uvicorn.Server):
    """Signals belong to the program, not to the server inside it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _SaeProtocol(H11Protocol):
    """One connection. Puts into the request state what ASGI cannot carry: the client's name and the connection."""

    request_limit_s = REQUEST_LIMIT_S
    _deadline: asyncio.TimerHandle | None = None

    @property
    def lost_answer(self) -> bool:
        """Whether the client went before the last byte of the newest answer was handed to the system."""
        return bool(self.cycle.disconnected)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else {}
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        name = names[0] if len(names) == 1 else ""
        self.app_state = {**self.app_state, "client_name": name, "connection": self}
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        self._start_clock()
        super().data_received(data)

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size() == 0:
            self._stop_clock()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        headers, body = _bad_request([{"reason": msg}])
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_clock(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_limit_s, self.transport.abort)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _protocol(limit_s: float) -> type[_SaeProtocol]:
    return type("SaeProtocol", (_SaeProtocol,), {"request_limit_s": limit_s})
