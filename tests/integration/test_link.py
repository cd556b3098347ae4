"""The optical link as it runs: bench, Alice and Bob as three processes, keys fetched over mutual TLS."""

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qepa_qkd.errors import KeyNotFound, ProtocolError, SecurityError, StockTooLow, TransientError
from qepa_qkd.kme_client import KmeClient
from qepa_qkd.pki import create_ca, issue
from qepa_qkd.store_database import write_secret_file

CONFIG = """
link = "gw-1"
serial_port = "{serial}"
initial_secret = "{role}/initial.secret"
{address}

[store]
path = "{role}/keys.db"
kek = "{role}/keys.kek"
signing_key = "{role}/passport.key"
quota_bits = {quota}
low_water_bits = {low}

[kme]
listen = "127.0.0.1:0"
id = "kme-{role}"
peer_id = "kme-{peer}"
certificate = "pki/kme-{role}.pem"
private_key = "pki/kme-{role}.key"
client_ca = "pki/ca.pem"

[[kme.sae]]
master = "dock"
slave = "gw-1"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Link:
    """The three processes of one link in one directory."""

    def __init__(self, directory: Path, quota: int = 1_000_000, low: int = 500_000) -> None:
        self.directory = directory
        ca = create_ca("test CA")
        (directory / "pki").mkdir()
        (directory / "pki/ca.pem").write_bytes(ca.certificate_pem)
        for name in ("kme-alice", "kme-bob", "dock", "gw-1", "stranger"):
            issue(ca, name).save(directory / f"pki/{name}.pem", directory / f"pki/{name}.key")
        secret = secrets.token_bytes(4096)
        port = free_port()
        for role, peer, serial, address in (
            ("alice", "bob", "bench/transmitter", f'listen = "127.0.0.1:{port}"'),
            ("bob", "alice", "bench/receiver", f'connect = "127.0.0.1:{port}"'),
        ):
            write_secret_file(directory / role / "initial.secret", secret)
            text = CONFIG.format(role=role, peer=peer, serial=serial, address=address, quota=quota, low=low)
            (directory / f"{role}.toml").write_text(text)
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.urls: dict[str, str] = {}

    def start(self, name: str, *options: str) -> None:
        if name == "bench":
            command = ["-m", "qepa_tools.bench", "--link-dir", str(self.directory / "bench"), *options]
        else:
            command = ["-m", f"qepa_qkd.{name}", "--config", str(self.directory / f"{name}.toml")]
        log = (self.directory / f"{name}.log").open("a")
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes[name] = process
        assert process.stdout is not None
        document = json.loads(process.stdout.readline() or "null")
        assert document, (self.directory / f"{name}.log").read_text()
        if name != "bench":
            assert document["ready"]
            self.urls[name] = document["kme"]

    def start_all(self, *bench_options: str) -> None:
        self.start("bench", *bench_options)
        self.start("alice")
        self.start("bob")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(10)

    def client(self, role: str, sae: str) -> KmeClient:
        pki = self.directory / "pki"
        return KmeClient(
            self.urls[role], ca=pki / "ca.pem", certificate=pki / f"{sae}.pem", private_key=pki / f"{sae}.key"
        )

    async def until_blocks(self, blocks: int, role: str = "alice", limit_s: float = 60.0) -> dict[str, object]:
        """Wait until `role` has produced key from at least `blocks` blocks since it started."""
        end = time.monotonic() + limit_s
        async with self.client(role, "dock") as dock:
            while True:
                extension = (await dock.status("gw-1"))["status_extension"]
                if extension["blocks"] - extension["blocks_without_key"] >= blocks:
                    return dict(extension)
                assert time.monotonic() < end, extension
                await asyncio.sleep(0.2)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path)
    yield link
    link.stop()


async def test_both_kmes_give_the_same_keys_over_mutual_tls(link: Link) -> None:
    started = time.monotonic()
    link.start_all()
    extension = await link.until_blocks(1)
    assert time.monotonic() - started < 20
    assert 0.005 < extension["qber"] < 0.03
    async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
        for number, size in ((5, 256), (2, 4096), (1, 64)):
            mine = await dock.enc_keys("gw-1", number, size)
            theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
            assert [(k.key_id, k.value) for k in mine] == [(k.key_id, k.value) for k in theirs]
            assert all(len(k.value) * 8 == size for k in mine)
        assert len({k.value for k in await dock.enc_keys("gw-1", 8)}) == 8
        with pytest.raises(KeyNotFound):
            await gateway.dec_keys("dock", [mine[0].key_id])
        with pytest.raises(ProtocolError):
            await dock.enc_keys("gw-1", 1, 100)
        with pytest.raises(ProtocolError):
            await dock.enc_keys("gw-1", 100_000)
        with pytest.raises(StockTooLow):
            for _ in range(10_000):
                await dock.enc_keys("gw-1", 64, 8192)
    async with link.client("alice", "stranger") as stranger:
        with pytest.raises(SecurityError):
            await stranger.enc_keys("gw-1")
    link.stop()
    assert [p.returncode for p in link.processes.values()] == [0, 0, 0]
