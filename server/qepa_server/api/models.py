"""Lines of models as screens and `qepa model` see them, and orders about them."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from qepa_uplink.bedside_models import CONTRACTS
from qepa_uplink.releases import BOARD_MODEL, SignedOrder
from qepa_wire.model import decode_model

from ..errors import RefusedError
from ..hospital import Hospital
from ..registry import cards
from ..registry.versions import CANARY, PREPARED, ROLLBACK, UNBORNE, WITHDRAWN, Version
from .bodies import MAX_ORDER_BYTES, read_body

SHOWN_VERSIONS = 20
Json = dict[str, Any]


def add_models(app: FastAPI, hospital: Hospital) -> None:
    """Add the routes."""

    @app.get("/api/models")
    async def models() -> JSONResponse:
        names = (BOARD_MODEL, *CONTRACTS)
        return JSONResponse({"models": [line(hospital, name) for name in names if hospital.releases.newest(name)]})

    @app.get("/api/models/{name}")
    async def history(name: str) -> JSONResponse:
        found = hospital.releases.versions.history(name, SHOWN_VERSIONS)
        views = [version_view(each) for each in found]
        for view in views[1:]:
            if view["state"] in (PREPARED, CANARY):
                view["state"] = "superseded"  # before it had come everywhere
        return JSONResponse({"name": name, "versions": views})

    @app.get("/api/models/{name}/{version}")
    async def card(name: str, version: int) -> JSONResponse:
        found = _find(hospital, name, version)
        return JSONResponse({**version_view(found), "card": found.card})

    @app.get("/api/models/{name}/{version}/card.md")
    async def page(name: str, version: int) -> Response:
        text = cards.markdown(_find(hospital, name, version).card)
        return Response(text.encode("utf-8", "replace"), media_type="text/markdown; charset=utf-8")

    @app.get("/api/models/{name}/{version}/blob")
    async def blob(name: str, version: int) -> Response:
        found = _find(hospital, name, version)
        if not found.blob:
            raise RefusedError("version", f"{name} {version} ships with gateways; the server does not hold it")
        return Response(found.blob, media_type="application/octet-stream")

    @app.post("/v1/models")
    async def order(request: Request) -> JSONResponse:
        made = hospital.releases.order(await read_body(request, SignedOrder, MAX_ORDER_BYTES))
        return JSONResponse(version_view(made))


def _find(hospital: Hospital, name: str, version: int) -> Version:
    found = hospital.releases.versions.find(name, version) if 0 < version < 2**63 else hospital.releases.newest(name)
    if found is None:
        what = f"version {version} of {name}" if version else f"model {name}"
        raise RefusedError("version", f"there is no {what}")
    return found


def version_view(version: Version) -> Json:
    """A version without contents."""
    return {
        "name": version.name,
        "version": version.version,
        "state": version.state,
        "origin": version.origin,
        "parent": version.parent or None,
        "began": version.began or None,
        "round": version.round or None,
        "rounds_trained": version.rounds_trained,
        "by": version.by,
        "reason": version.reason,
        "digest": version.digest.hex(),
        "drift_windows": version.drift_windows,
        "created_ms": version.created_ms,
        "changed_ms": version.changed_ms,
    }


def model_view(version: Version) -> Json:
    """The board's model in the state that screens show; ``reason`` where it was taken back or withdrawn."""
    failed = version.state == WITHDRAWN or version.reason.startswith(UNBORNE)
    told = version.reason if version.origin == ROLLBACK or failed else ""
    return {
        "version": version.version,
        "rounds_trained": version.rounds_trained,
        "state": version.state,
        "origin": version.origin,
        "reason": told,
    }


def line(hospital: Hospital, name: str) -> Json:
    """The newest version of a line, and how far it is at each gateway."""
    newest = hospital.releases.newest(name)
    if newest is None:
        raise RefusedError("model", f"no line of models is called {name}")
    gateways = _at_boards(hospital, newest) if name == BOARD_MODEL else _at_gateways(hospital, newest)
    shape: Json = {}
    if name == BOARD_MODEL:
        model = decode_model(newest.blob)
        shape = {"features": model.features, "hidden": model.hidden, "classes": model.classes}
    return {**version_view(newest), **shape, "gateways": gateways}


def _at_boards(hospital: Hospital, newest: Version) -> list[Json]:
    """Of each gateway: its stage, and how many of its boards use the newest version."""
    found: list[Json] = []
    for gateway in hospital.hub.names:
        heartbeat = hospital.presence.last(gateway)
        status = None if heartbeat is None else heartbeat.status
        boards = () if status is None else status.boards
        told = None if status is None else status.model
        found.append(
            {
                "gateway": gateway,
                "version": None if told is None else told.version,
                "stage": None if told is None else told.stage,
                "boards": len(boards),
                "with_it": sum(board.model_version == newest.version for board in boards),
                "failed": 0 if told is None else len(told.failed),
            }
        )
    return found


def _at_gateways(hospital: Hospital, newest: Version) -> list[Json]:
    found: list[Json] = []
    for gateway, told in sorted(hospital.releases.bedside.told.items()):
        if newest.name in told:
            each = told[newest.name]
            found.append(
                {
                    "gateway": gateway,
                    "version": each.version,
                    "stage": "canary" if gateway == newest.canary and newest.state == "canary" else None,
                    "errors": each.errors,
                    "refused": each.refused,
                }
            )
    return found
