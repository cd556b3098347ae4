"""Both KMEs of one link over the same block of key, without sockets; time stands still unless a test moves it."""

import os
from pathlib import Path
from typing import Any

import httpx

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.config import KmeSection, Role, SaePair
from qepa_qkd.kme import Kme
from qepa_qkd.kme_server import GuardedApp
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.vault import Vault

SECRET = InitialSecret.parse(bytes(range(256)) * 2)
PAIRS = (SaePair(master="dock", slave="gw-1"),)
ROLES: tuple[Role, ...] = ("alice", "bob")


def section(directory: Path, role: Role, **changes: Any) -> KmeSection:
    return KmeSection(
        **{
            "listen": "127.0.0.1:0",
            "id": f"kme-{role}",
            "peer_id": "peer",
            "certificate": directory,
            "private_key": directory,
            "client_ca": directory,
            "sae": list(PAIRS),
        }
        | changes
    )


class Ends:
    """Both ends, asked by whichever SAE a test names."""

    def __init__(self, directory: Path, key: bytes | None = None, **changes: Any) -> None:
        self.directory, self.changes = directory, changes
        self.now_s = 1.7e9
        self.key = os.urandom(400) if key is None else key
        self.vaults: dict[str, Vault] = {}
        self.kmes: dict[str, Kme] = {}
        for role in ROLES:
            self.open(role)
        self.add_block(9, self.key)

    def open(self, role: Role) -> None:
        """Open an end, again after `close`."""
        path = self.directory / f"{role}.db"
        vault = Vault(path, path.with_suffix(".kek"), SECRET, is_alice=role == "alice")
        config = section(self.directory, role, **self.changes)
        kme = Kme(config, role, vault, LinkStatus(state="running", qber=0.0125), 10_000, clock=lambda: self.now_s)
        self.vaults[role], self.kmes[role] = vault, kme

    def add_block(self, block_id: int, key: bytes) -> None:
        for vault in self.vaults.values():
            vault.store_block(block_id, key, 0, "{}", live=True, created_s=self.now_s)

    async def ask(
        self,
        role: str,
        sae: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **content: Any,
    ) -> tuple[int, dict[str, Any]]:
        guarded = GuardedApp(self.kmes[role])

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await guarded({**scope, "state": {"client_name": sae}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kme") as client:
            if body is not None:
                content["json"] = body
            response = await client.request(method, f"/api/v1/keys/{path}", headers=headers, **content)
        return response.status_code, response.json()

    def close(self) -> None:
        for vault in self.vaults.values():
            vault.close()
