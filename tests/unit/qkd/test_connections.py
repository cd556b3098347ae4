"""Bob's calls over TCP: to Alice or to nobody, never to himself."""

import asyncio
import socket
from typing import Any

import pytest

from qepa_qkd.config import LinkConfig
from qepa_qkd.connections import Caller
from qepa_qkd.errors import TransientError
from qepa_tools.ward.ports import free_port


def caller_of(port: int) -> Caller:
    return Caller(LinkConfig.model_construct(channel=None, connect=f"127.0.0.1:{port}"))


async def test_nobody_there_is_transient() -> None:
    with pytest.raises(TransientError, match="not reachable"):
        await caller_of(free_port()).connect()


async def test_a_call_that_reached_itself_is_nobody_and_leaves_alices_port_to_her(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    open_connection = asyncio.open_connection

    async def from_the_same_port(host: str, number: int) -> Any:
        return await open_connection(host, number, local_addr=(host, number))

    monkeypatch.setattr(asyncio, "open_connection", from_the_same_port)
    with pytest.raises(TransientError, match="not reachable"):
        await caller_of(port).connect()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn
    with socket.create_server(("127.0.0.1", port)):  # with SO_REUSEADDR, as asyncio listens
        pass
