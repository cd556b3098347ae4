"""The server's API without a socket, for commands under test."""

import asyncio

import httpx
from hospital_rig import Rig

from qepa_server.api.app import create_app


class InProcess(httpx.BaseTransport):
    """Asks the application itself."""

    def __init__(self, rig: Rig) -> None:
        self._app = httpx.ASGITransport(create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event()))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._app.handle_async_request(request)
            return httpx.Response(answer.status_code, content=await answer.aread())

        return asyncio.run(ask())
