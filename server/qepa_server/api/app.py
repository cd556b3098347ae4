"""REST, server-sent events and the ward page."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from qepa_uplink.enrolment import SignedEnrolment, SignedRetirement, SignedWithdrawal
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import SignedConsent
from qepa_uplink.releases import SignedFirmwareOrder, SignedOrder

from ..errors import RefusedError
from ..hospital import Hospital
from .beats import add_beats
from .bodies import MAX_ORDER_BYTES, read_body
from .feed import Feed
from .models import add_models
from .state import StateView
from .waveforms import add_waveforms

_STATUS = {
    "schema": 400,
    "length": 413,
    "replay": 409,
    "conflict": 409,
    "older": 409,
    "time": 403,
    "alarm": 404,
    "consent": 404,
    "version": 404,
    "origin": 403,
}
_FORBIDDEN = {"signature", "certificate", "seal"}
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def web_folder() -> Path | None:
    """The ward page's static files: beside the package when installed, server/web in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "web", package.parent / "web"):
        if (folder / "index.html").is_file():
            return folder
    return None


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def create_app(hospital: Hospital, *, host: str, stopping: asyncio.Event) -> FastAPI:
    """Return the application; ``stopping`` ends the event streams."""
    app = FastAPI(title="QEPA server", openapi_url=None)
    # A page of another site can reach a local port by a name of its own (DNS rebinding): only our names are served.
    hosts = ["*"] if host in ("0.0.0.0", "::") else [host, "localhost", "127.0.0.1"]  # noqa: S104
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    view = StateView(hospital)
    feed = Feed(view.text, stopping)
    _add_errors(app, hospital)
    _add_desks(app, hospital, view)
    add_models(app, hospital)
    add_waveforms(app, hospital, stopping)
    add_beats(app, hospital)

    @app.get("/api/state")
    async def state() -> Response:
        return _json(view.text())

    @app.get("/api/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(feed.events(), media_type="text/event-stream")

    @app.get("/api/rounds/{number}")
    async def round_detail(number: int) -> JSONResponse:
        detail = view.round_detail(number)
        if detail is None:
            return JSONResponse({"error": "round", "detail": f"no round {number}"}, 404)
        return JSONResponse(detail)

    @app.get("/api/model")
    async def model() -> JSONResponse:
        return JSONResponse(view.model())

    folder = web_folder()
    if folder is not None:
        app.mount("/", StaticFiles(directory=folder, html=True))
    return app


def _add_desks(app: FastAPI, hospital: Hospital, view: StateView) -> None:
    @app.post("/v1/enrolments")
    async def enrol(request: Request) -> Response:
        reply = hospital.enrolment.enrol(await read_body(request, SignedEnrolment))
        return _json(reply.model_dump_json())

    @app.post("/v1/retirements")
    async def retire(request: Request) -> Response:
        reply = hospital.retirement.retire(await read_body(request, SignedRetirement))
        return _json(reply.model_dump_json())

    @app.post("/v1/consents")
    async def consent(request: Request) -> JSONResponse:
        consent_id = hospital.consents.accept(await read_body(request, SignedConsent))
        return JSONResponse({"consent_id": consent_id.hex()})

    @app.get("/v1/consents")
    async def consents(patient: str) -> JSONResponse:
        return JSONResponse({"consents": view.consents(patient)})

    @app.post("/v1/withdrawals")
    async def withdraw(request: Request) -> JSONResponse:
        consent_id = hospital.consents.withdraw(await read_body(request, SignedWithdrawal))
        return JSONResponse({"consent_id": consent_id.hex()})

    @app.post("/api/alarms/{number}/acknowledge")
    async def acknowledge(request: Request, number: int) -> JSONResponse:
        _refuse_other_sites(request)
        hospital.alarms.acknowledge(number)
        return JSONResponse({"acknowledged": number})

    @app.post("/v1/firmware")
    async def firmware(request: Request) -> JSONResponse:
        made = hospital.firmware.order(await read_body(request, SignedFirmwareOrder, MAX_ORDER_BYTES))
        return JSONResponse({"number": made.number, "kind": made.kind, "boards": made.boards})

    @app.get("/v1/firmware")
    async def releases() -> JSONResponse:
        return JSONResponse({"releases": hospital.firmware.state()})

    @app.get("/api/suspicion")
    async def suspicion() -> JSONResponse:
        return JSONResponse([asdict(score) for score in hospital.warden.scores])

    @app.post("/v1/quarantines")
    async def end_quarantine(request: Request) -> JSONResponse:
        order = hospital.end_quarantine(await read_body(request, SignedOrder))
        return JSONResponse({"kind": order.kind, "name": order.name})


def _refuse_other_sites(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise RefusedError("origin", "asked for by another site's page")


def _add_errors(app: FastAPI, hospital: Hospital) -> None:
    @app.exception_handler(UplinkError)
    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: Exception) -> JSONResponse:
        reason = error.reason if isinstance(error, UplinkError | RefusedError) else "error"
        hospital.refused[reason] += 1
        status = 403 if reason in _FORBIDDEN else _STATUS.get(reason, 422)
        return JSONResponse({"error": reason, "detail": str(error)}, status)

    @app.middleware("http")
    async def headers(request: Request, call_next):  # type: ignore[no-untyped-def]
        response = await call_next(request)
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response
