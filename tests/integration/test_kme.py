"""Both KMEs behind mutual TLS: the conformance suite as a command, and an independent client of the standard."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "qkd"))

from kme_ends import ROLES, Ends, section

from qepa_qkd.config import SaePair
from qepa_qkd.kme_server import KmeServer
from qepa_qkd.pki import create_ca, issue

PAIRS = [SaePair(master="dock", slave="gw-1"), SaePair(master="dock", slave="gw-2")]


class Kmes:
    """Both KMEs of a link, in a thread of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ca = create_ca("test CA")
        (directory / "ca.pem").write_bytes(ca.certificate_pem)
        for name in ("alice", "bob", "dock", "gw-1", "gw-2"):
            issue(ca, name).save(directory / f"{name}.pem", directory / f"{name}.key")
        self.urls: dict[str, str] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ends = Ends(self.directory, key=os.urandom(6000), sae=PAIRS)
        serving = []
        for role in ROLES:
            files = {"certificate": f"{role}.pem", "private_key": f"{role}.key", "client_ca": "ca.pem"}
            paths = {what: self.directory / name for what, name in files.items()}
            server = KmeServer(section(self.directory, role, sae=PAIRS, **paths), ends.kmes[role])
            serving.append(asyncio.ensure_future(server.serve()))
            await server.wait_started()
            self.urls[role] = server.url
        self._started.set()
        await self._stop.wait()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        ends.close()

    def file(self, name: str) -> str:
        return str(self.directory / name)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture
def kmes(tmp_path: Path) -> Iterator[Kmes]:
    kmes = Kmes(tmp_path)
    yield kmes
    kmes.stop()


def conformance(kmes: Kmes, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    papers = ["--cert", kmes.file("dock.pem"), "--key", kmes.file("dock.key"), "--ca", kmes.file("ca.pem")]
    command = [sys.executable, "-m", "qepa_tools.cli", "kme", "conformance", url, *papers, "--slave", "gw-1", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def slaves(kmes: Kmes) -> list[str]:
    options = ["--slave-url", kmes.urls["bob"], "--third", "gw-2"]
    for option, name in (("slave", "gw-1"), ("third", "gw-2")):
        options += [f"--{option}-cert", kmes.file(f"{name}.pem"), f"--{option}-key", kmes.file(f"{name}.key")]
    return options


def test_our_kmes_conform(kmes: Kmes) -> None:
    result = conformance(kmes, kmes.urls["alice"], *slaves(kmes), "--json")
    report = json.loads(result.stdout)
    assert {check["result"] for check in report["checks"]} == {"passed"}, result.stdout
    assert report["conforms"]
    assert result.returncode == 0


def test_a_kme_that_hands_nothing_out_does_not_conform(kmes: Kmes) -> None:
    result = conformance(kmes, kmes.urls["bob"], *slaves(kmes))
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "passed" in result.stdout


def test_a_kme_that_is_not_there_is_said_in_one_sentence(kmes: Kmes) -> None:
    for url in ("https://127.0.0.1:1", "http://127.0.0.1:1"):
        result = conformance(kmes, url)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_an_independent_client_shares_keys_among_several_slaves(kmes: Kmes) -> None:
    peer = pytest.importorskip("etsi_qkd_014_client")

    def client(role: str, sae: str) -> Any:
        files = (kmes.file(f"{sae}.pem"), kmes.file(f"{sae}.key"), kmes.file("ca.pem"))
        return peer.QKD014Client(kmes.urls[role].removeprefix("https://"), *files)

    dock, first, second = client("alice", "dock"), client("bob", "gw-1"), client("bob", "gw-2")
    code, status = dock.get_status("gw-1")
    assert (code, status.max_sae_id_count) == (200, 1)
    code, given = dock.get_key("gw-1", number=2, size=512, additional_slave_sae_ids=["gw-2"])
    assert code == 200
    code, alone = dock.get_key("gw-1")
    assert code == 200
    ids = [key.key_id for key in given.keys]
    for slave in (first, second):
        code, got = slave.get_key_with_key_IDs("dock", ids)
        assert (code, [key.key for key in got.keys]) == (200, [key.key for key in given.keys])
        code, error = slave.get_key_with_key_IDs("dock", ids)
        assert (code, error.message) == (400, "one or more keys specified are not found on KME")
    code, _ = second.get_key_with_key_IDs("dock", [alone.keys[0].key_id])
    assert code == 401
    code, error = dock.get_key("gw-1", extension_mandatory=[{"route": "direct"}])
    assert (code, error.message) == (400, "not all extension_mandatory parameters are supported")
    code, error = dock.get_key("gw-1", number=128, size=8192)
    assert code == 503
