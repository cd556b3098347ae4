"""The KME's port: who is let in, what a client may hold up, and answers that did not leave."""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kme_ends import Ends, section

from qepa_qkd import kme_server
from qepa_qkd.errors import QkdError, SecurityError, TransientError
from qepa_qkd.kme_client import KmeClient
from qepa_qkd.kme_server import MOST_BODY_BYTES, MOST_CONNECTIONS, MOST_HEADER_BYTES, KmeServer
from qepa_qkd.pki import create_ca, issue

PATIENCE_S = 100.0
SHORT_LIMIT_S = 1.0


class Served:
    """Alice's KME on a port."""

    def __init__(self, directory: Path, limit_s: float) -> None:
        self.directory = directory
        ca = create_ca("test CA")
        (directory / "ca.pem").write_bytes(ca.certificate_pem)
        for name in ("kme", "dock"):
            issue(ca, name).save(directory / f"{name}.pem", directory / f"{name}.key")
        issue(create_ca("other CA"), "dock").save(directory / "false.pem", directory / "false.key")
        self.ends = Ends(directory)
        files = {"certificate": directory / "kme.pem", "private_key": directory / "kme.key"}
        config = section(directory, "alice", client_ca=directory / "ca.pem", **files)
        self.server = KmeServer(config, self.ends.kmes["alice"], request_limit_s=limit_s)
        self.port = int(self.server.url.rpartition(":")[2])

    def context(self, name: str = "dock") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.directory / "ca.pem")
        context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context or self.context())

    def connect_blocking(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port))
        return self.context().wrap_socket(plain, server_hostname="127.0.0.1")

    def client(self, name: str = "dock", timeout_s: float = PATIENCE_S) -> KmeClient:
        return KmeClient(
            self.server.url,
            ca=self.directory / "ca.pem",
            certificate=self.directory / f"{name}.pem",
            private_key=self.directory / f"{name}.key",
            timeout_s=timeout_s,
        )

    def stock_bits(self) -> int:
        return self.ends.vaults["alice"].keys.stock_bits()


@pytest.fixture
async def served(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Its limit of a request, PATIENCE_S, can be set by indirect parametrization."""
    served = Served(tmp_path, getattr(request, "param", PATIENCE_S))
    task = asyncio.ensure_future(served.server.serve())
    await served.server.wait_started()
    yield served
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    served.ends.close()


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} /api/v1/keys/{path} HTTP/1.1", "Host: kme", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    body = await asyncio.wait_for(reader.readexactly(int(length.split(b":")[1])), PATIENCE_S)
    return int(head.split()[1]), json.loads(body)


async def test_only_tls_1_3_with_a_certificate_of_the_authority_is_served(served: Served) -> None:
    async with served.client() as dock:
        assert len(await dock.enc_keys("gw-1")) == 1
    async with served.client("false") as stranger:
        with pytest.raises((SecurityError, TransientError)):
            await stranger.enc_keys("gw-1")
    old = served.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served.connect(old)
    assert served.stock_bits() == 3200 - 256


async def test_a_connection_serves_many_requests(served: Served) -> None:
    reader, writer = await served.connect()
    for _ in range(3):
        writer.write(request("GET", "gw-1/enc_keys"))
        assert (await answer(reader))[0] == 200
    writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * (MOST_HEADER_BYTES + 1),
        request("POST", "gw-1/enc_keys", b"{" + b" " * MOST_BODY_BYTES + b"}", "Content-Type: application/json"),
        b"POST /api/v1/keys/gw-1/enc_keys HTTP/1.1\r\nHost: kme\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no-http", "long-header", "long-body", "bad-chunk"],
)
async def test_what_is_too_large_or_no_http_gets_an_error_object(served: Served, raw: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(raw)
    code, error = await answer(reader)
    assert (code, error["message"]) == (400, "bad request format")
    writer.close()
    async with served.client() as dock:
        assert (await dock.status("gw-1"))["stored_key_count"] == 12


@pytest.mark.parametrize("served", [SHORT_LIMIT_S], indirect=True)
@pytest.mark.parametrize("part", [b"", b"GET /api", request("POST", "gw-1/enc_keys", b"{}")[:-1]])
async def test_slow_clients_are_let_go(served: Served, part: bytes) -> None:
    started = time.monotonic()
    reader, writer = await served.connect()
    writer.write(part)

    async def dribble() -> None:
        while not part.endswith(b"{"):  # one more byte would complete the body
            await asyncio.sleep(SHORT_LIMIT_S / 5)
            writer.write(b"a" if part else b"")

    dribbling = asyncio.ensure_future(dribble())
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    dribbling.cancel()
    assert time.monotonic() - started > 0.9 * SHORT_LIMIT_S
    writer.close()
    assert served.stock_bits() == 3200


async def test_too_many_connections_do_not_stop_those_that_are_served(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("GET", "gw-1/status"))
    await answer(reader)
    context = served.context()
    others = [await served.connect(context) for _ in range(4)]
    for _ in range(MOST_CONNECTIONS // 4):
        results = await asyncio.gather(*[served.connect(context) for _ in range(4)], return_exceptions=True)
        others += [pair for pair in results if not isinstance(pair, BaseException)]
    refused, _ = others[-1]
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(refused.read(), PATIENCE_S) == b""
    for _, other in others:
        other.close()
    writer.close()
    async with served.client() as dock:
        assert (await dock.status("gw-1"))["stored_key_count"] == 12


async def test_a_client_that_went_before_its_answer_gets_it_on_asking_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = served.ends.kmes["alice"].delivery
    hand_out = delivery.hand_out
    stalled = []

    def slow(*arguments: Any) -> Any:
        result = hand_out(*arguments)
        if not stalled:
            stalled.append(result)
            gone.close()
            time.sleep(0.2)  # the disk
        return result

    monkeypatch.setattr(delivery, "hand_out", slow)
    gone = await asyncio.to_thread(served.connect_blocking)
    gone.sendall(request("GET", "gw-1/enc_keys"))
    while not stalled:
        await asyncio.sleep(0.01)
    reader, writer = await served.connect()
    writer.write(request("GET", "gw-1/enc_keys"))
    code, container = await answer(reader)
    assert code == 200
    assert [key["key_ID"] for key in container["keys"]] == [str(key.key_id) for key in stalled[0].keys]
    writer.write(request("GET", "gw-1/enc_keys"))
    _, next_container = await answer(reader)
    assert next_container != container
    assert served.stock_bits() == 3200 - 2 * 256
    writer.close()


async def test_our_client_loses_no_key_when_its_answer_is_lost(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, lost = kme_server._SaeProtocol.data_received, []

    def lose_first(protocol: Any, data: bytes) -> None:
        if not lost:
            lost.append(protocol)
            protocol.transport.write = lambda _: protocol.transport.abort()
        receive(protocol, data)

    monkeypatch.setattr(kme_server._SaeProtocol, "data_received", lose_first)
    async with served.client() as dock:
        assert len(await dock.enc_keys("gw-1")) == 1
    assert len(lost) == 1
    assert served.stock_bits() == 3200 - 256


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Encoding": "gzip"}, b"no gzip"),
        ({}, b"[" * 100_000),
        ({}, b"\xff\xfe"),
        ({}, b'{"keys": 7}'),
    ],
)
async def test_whatever_a_kme_answers_is_an_error_of_the_link(
    served: Served, headers: dict[str, str], content: bytes
) -> None:
    """Others than a QkdError would end the gateway that asks, again and again for as long as the KME does so."""

    async def answered(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(content))

    client = served.client()
    await client.close()
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(answered), base_url="https://kme")
    with pytest.raises(QkdError):
        await client.enc_keys("gw-1")
    await client.close()
