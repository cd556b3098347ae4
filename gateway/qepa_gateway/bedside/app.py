"""Bedside API and page. Reading needs the token unless the page is on the loopback interface; writing always does."""

import hmac
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..ble.transport import Report
from ..core import Gateway
from ..errors import Refused
from ..health import REASONS
from ..transport import Clock
from .metrics import prometheus_text
from .state import bedside_state

_PAGE = Path(__file__).with_name("page.html")
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
MAX_BODY_BYTES = 65536


class LabelIn(BaseModel):
    """A clinician's class for the beat at ``sample``."""

    model_config = ConfigDict(extra="forbid")
    sample: int = Field(ge=0, le=0xFFFFFFFF)
    beat_class: int = Field(ge=0, le=3)


class LabelsIn(BaseModel):
    """Labels of one boot of one board."""

    model_config = ConfigDict(extra="forbid")
    board: int = Field(ge=1, le=0xFFFFFFFF)
    boots: int = Field(ge=0, le=0xFFFFFFFF)
    labels: list[LabelIn] = Field(min_length=1, max_length=512)


async def _read_labels(request: Request) -> LabelsIn:
    """Read a body that FastAPI was not asked for: it would read all of it before it looks at the token."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"labels have at most {MAX_BODY_BYTES} bytes")
    try:
        return LabelsIn.model_validate_json(bytes(body))
    except ValidationError as error:
        raise HTTPException(422, f"{error.error_count()} fields do not fit") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_faults() -> tuple[str, ...]:
    return ()


def make_app(
    gateway: Gateway,
    token: str,
    clock: Clock,
    *,
    host: str,
    wake: Callable[[], None],
    faults: Callable[[], tuple[str, ...]] = _no_faults,
    recoveries: Mapping[str, int] | None = None,
    ble: Callable[[], Report] | None = None,
) -> FastAPI:
    """Return the ASGI application.

    ``wake`` makes the daemon send what a request has queued; ``faults``, ``recoveries`` and ``ble`` say how it is.
    """
    app = FastAPI(title="QEPA bedside", docs_url=None, redoc_url=None, openapi_url=None)
    local = _is_loopback(host)
    # Against DNS rebinding: a page of another site must not read the bedside through the nurse's browser.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOOPBACK_NAMES if local else [host, *_LOOPBACK_NAMES])

    def check_token(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise HTTPException(401, "bearer token missing or wrong", {"WWW-Authenticate": "Bearer"})

    def check_reader(request: Request) -> None:
        if not local:
            check_token(request)

    reader = [Depends(check_reader)]

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        reasons = faults()
        return {
            "ok": True,
            "name": gateway.name,
            "session": not gateway.link.away,
            "degraded": {reason: REASONS.get(reason, reason) for reason in reasons},
        }

    @app.get("/api/state", dependencies=reader)
    async def state() -> dict[str, Any]:
        return bedside_state(gateway, clock(), faults())

    @app.get("/metrics", dependencies=reader)
    async def metrics() -> PlainTextResponse:
        text = prometheus_text(
            gateway, clock(), faults=faults(), recoveries=recoveries, ble=None if ble is None else ble()
        )
        return PlainTextResponse(text, media_type=CONTENT_TYPE_LATEST)

    @app.post("/api/labels", status_code=202, dependencies=[Depends(check_token)])
    async def labels(request: Request) -> dict[str, Any]:
        body = await _read_labels(request)
        try:
            gateway.care.label(body.board, body.boots, [(each.sample, each.beat_class) for each in body.labels])
        except Refused as error:
            raise HTTPException(409, str(error)) from error
        wake()
        return {"accepted": len(body.labels)}

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        policy = (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return HTMLResponse(_PAGE.read_text(), headers={"Content-Security-Policy": policy})

    @app.middleware("http")
    async def headers(request: Request, call_next):  # type: ignore[no-untyped-def]
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    return app
