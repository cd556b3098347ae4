"""uvicorn on a socket that is bound before anything else starts, so that a busy port is a start fault."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from ..errors import ConfigError


class _Server(uvicorn.Server):
    """Leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; raises ConfigError with one sentence."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, proto)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(64)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port} for the bedside page: {error.strerror or error}") from error
    return door


async def serve(app: FastAPI, door: socket.socket) -> None:
    """Serve until cancelled."""
    server = _Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    await server.serve(sockets=[door])
