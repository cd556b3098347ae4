"""Why a gateway's model called the newest beat of one board so."""

from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import JSONResponse

from ..errors import RefusedError
from ..hospital import Hospital


def add_beats(app: FastAPI, hospital: Hospital) -> None:
    """Add `GET /api/boards/BOARD/beat`; 404 without a consent in force, and where there is no such beat."""

    @app.get("/api/boards/{board}/beat")
    async def beat(board: Annotated[str, Path(pattern=r"^[0-9a-f]{8}$")]) -> JSONResponse:
        number, now_ms = int(board, 16), hospital.clock_ms()
        if hospital.register.get(number) is None:
            raise RefusedError("board", f"{board} is not enrolled")
        if not hospital.consents.watched(number, now_ms):
            raise RefusedError("consent", f"no consent in force covers {board}")
        explained = hospital.explained.newest(number, now_ms)
        if explained is None:
            return JSONResponse({"error": "beat", "detail": f"no beat of {board} was explained lately"}, 404)
        return JSONResponse({"board": board} | explained.whole(now_ms))
