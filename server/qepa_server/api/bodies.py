"""Bodies of requests, of bounded size."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel

from qepa_uplink.errors import UplinkError

from ..parsing import parse

MAX_BODY_BYTES = 65536
MAX_ORDER_BYTES = 1 << 20
M = TypeVar("M", bound=BaseModel)


async def read_bytes(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Read a body; raises UplinkError("length")."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise UplinkError("length", f"a body has at most {most} bytes")
    return bytes(body)


async def read_body(request: Request, model: type[M], most: int = MAX_BODY_BYTES) -> M:
    """Read a JSON body; raises UplinkError("length" or "schema")."""
    return parse(model, await read_bytes(request, most))
