"""The ECG of one board as server-sent events: a record of about a second each, for as long as somebody listens."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import StreamingResponse

from ..care.waves import WATCH_S
from ..errors import RefusedError
from ..hospital import Hospital

_LOOK_EVERY_S = 0.25


def add_waveforms(app: FastAPI, hospital: Hospital, stopping: asyncio.Event) -> None:
    """Add `GET /api/boards/BOARD/ecg`; 404 without a consent in force. ``stopping`` ends the streams."""

    @app.get("/api/boards/{board}/ecg")
    async def ecg(board: Annotated[str, Path(pattern=r"^[0-9a-f]{8}$")]) -> StreamingResponse:
        number = int(board, 16)
        hospital.waves.watch(number)
        return StreamingResponse(records(hospital, number, stopping), media_type="text/event-stream")


async def records(hospital: Hospital, number: int, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Events of ``number`` as they come; ends with its consent."""
    clock = asyncio.get_running_loop().time
    again_s = clock() + WATCH_S / 2
    after = 0
    while not stopping.is_set():
        if clock() >= again_s:
            again_s = clock() + WATCH_S / 2
            try:
                hospital.waves.watch(number)
            except RefusedError:
                return
        new = hospital.waves.since(number, after)
        if new is None:
            return
        for record in new:
            after = record.number
            yield f"data: {json.dumps(record.shown(), separators=(',', ':'))}\n\n"
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stopping.wait()
        except TimeoutError:
            continue
