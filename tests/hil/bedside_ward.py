"""One bedside of real programs: broker, server, gateway, and both KMEs of a link whose optics are left out.

The block of key that Alice's and Bob's stores hold is random bytes put into both: a stand-in of the optical link.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from qepa_qkd.config import SaePair
from qepa_qkd.kme_server import KmeServer
from qepa_qkd.pki import create_ca, issue
from qepa_tools.consent.desk import ConsentDesk
from qepa_tools.ward.layout import write_toml
from qepa_tools.ward.ports import free_port
from qepa_uplink.identity import Identity, Root

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "qkd"))

from kme_ends import ROLES, Ends, section

PATIENTLY_S = 100
"""For whatever waits on another program: the machine may be ten times slower than usual."""


class BedsideWard:
    """Programs and papers below ``root``; ``start()`` begins them, ``end()`` ends them."""

    def __init__(self, root: Path, gateway: str, firmware_key: Path) -> None:
        self.root, self.gateway = root, gateway
        self._firmware_key = firmware_key
        self._processes: list[subprocess.Popen[str]] = []
        self._identify()
        self._broker_port = free_port()
        self.kme_urls: dict[str, str] = {}
        self._server = self._bedside = ""
        self.token_file = root / "bedside.token"

    def start(self) -> None:
        """Start all and return: the slowest takes seconds, which others can use."""
        self._start("broker", "qepa_tools.ward.broker", "--port", str(self._broker_port))
        config = write_toml(
            self.root / "server.toml",
            {
                "name": "server",
                "state_dir": "server",
                "identity": "server.json",
                "root_key": "root.pub",
                "broker": {"host": "127.0.0.1", "port": self._broker_port},
                "api": {"host": "127.0.0.1", "port": 0},
            },
        )
        self._start("server", "qepa_server", "--config", str(config))
        self._start_kmes()

    def await_ready(self) -> None:
        """Wait until the server answers, and start the gateway."""
        self._server = self._ready("server")["api"]
        tls = {"ca": "ca.pem", "cert": f"{self.gateway}.pem", "key": f"{self.gateway}.key"}
        config = write_toml(
            self.root / "gateway.toml",
            {
                "name": self.gateway,
                "state_dir": "gateway",
                "identity": f"{self.gateway}.json",
                "root_key": "root.pub",
                "server_certificate": "server.cert",
                "broker": {"host": "127.0.0.1", "port": self._broker_port},
                "kme": {"url": self.kme_urls["bob"], **tls},
                "bedside": {"host": "127.0.0.1", "port": 0, "token_file": self.token_file.name},
            },
        )
        self._start("gateway", "qepa_gateway", "--config", str(config))
        self._bedside = self._ready("gateway")["bedside"]

    @property
    def station(self) -> Path:
        """Settings of the key dock."""
        path = self.root / "station.toml"
        path.write_text(
            f'server = "{self._server}"\nidentity = "dock.json"\nroot_key = "root.pub"\n'
            f'server_certificate = "server.cert"\nfirmware_key = "{self._firmware_key}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self._broker_port}\n'
            f'[kme.{self.gateway}]\nurl = "{self.kme_urls["alice"]}"\n'
            'ca = "ca.pem"\ncert = "dock.pem"\nkey = "dock.key"\n'
            f'[bedside.{self.gateway}]\nurl = "{self._bedside}"\ntoken_file = "{self.token_file.name}"\n'
        )
        return path

    def consent(self, patient: str, board: int) -> None:
        """The patient agrees to be watched live."""

        async def give() -> None:
            async with httpx.AsyncClient(base_url=self._server) as http:
                await ConsentDesk(Identity.load(self.root / "desk.json"), http).consent(patient, (board,), valid_s=3600)

        asyncio.run(give())

    def board(self, number: int) -> dict[str, Any] | None:
        """The board on the bedside page; None while the gateway does not serve it."""
        state = httpx.get(f"{self._bedside}/api/state").json()
        return next((each for each in state["boards"] if each["board"] == f"{number:08x}"), None)

    def end(self) -> None:
        """End every program."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(PATIENTLY_S)
        if self.kme_urls:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def log(self, name: str) -> str:
        """What a program wrote to stderr."""
        return (self.root / f"{name}.log").read_text()

    def _identify(self) -> None:
        root = Root.open(self.root / "root.key")
        (self.root / "root.pub").write_bytes(root.public_key)
        roles = {"server": "server", "dock": "dock", "desk": "consent", self.gateway: "gateway"}
        for name, role in roles.items():
            identity = root.issue(name, role)  # type: ignore[arg-type]
            identity.save(self.root / f"{name}.json")
            if role == "server":
                (self.root / "server.cert").write_text(identity.certificate.model_dump_json())

    def _start(self, name: str, module: str, *arguments: str) -> None:
        with (self.root / f"{name}.log").open("w") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=log, text=True
                )
            )

    def _ready(self, name: str) -> dict[str, Any]:
        process = self._processes[-1]
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"{name} did not start: {self.log(name)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start_kmes(self) -> None:
        folder = self.root
        ca = create_ca("test CA")
        (folder / "ca.pem").write_bytes(ca.certificate_pem)
        for name in (*ROLES, "dock", self.gateway):
            issue(ca, name).save(folder / f"{name}.pem", folder / f"{name}.key")
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve_kmes(started)))
        self._thread.start()
        assert started.wait(PATIENTLY_S)

    async def _serve_kmes(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        pairs = [SaePair(master="dock", slave=self.gateway)]
        ends = Ends(self.root, key=os.urandom(8000), sae=pairs)
        serving = []
        for role in ROLES:
            files = {"certificate": f"{role}.pem", "private_key": f"{role}.key", "client_ca": "ca.pem"}
            paths = {what: self.root / name for what, name in files.items()}
            server = KmeServer(section(self.root, role, sae=pairs, **paths), ends.kmes[role])
            serving.append(asyncio.ensure_future(server.serve()))
            await server.wait_started()
            self.kme_urls[role] = server.url
        started.set()
        await self._stop.wait()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        ends.close()


def running_ward(root: Path, gateway: str, firmware_key: Path) -> Iterator[BedsideWard]:
    """A ward that has been started, and is ended whatever happens."""
    ward = BedsideWard(root, gateway, firmware_key)
    try:
        ward.start()
        yield ward
    finally:
        ward.end()
