"""The optical link of one gateway: virtual bench, Alice at the key dock, Bob at the gateway, and their TLS papers."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qepa_qkd.authentication import SECRET_BYTES
from qepa_qkd.kme_client import KmeClient
from qepa_qkd.pki import Credential, create_ca, issue
from qepa_uplink.identity import write_private

from .layout import Layout
from .ports import free_port

DOCK = "dock"
Run = Callable[[str, str, list[str]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Certificate, private key and the authority both sides trust."""

    ca: Path
    certificate: Path
    private_key: Path


@dataclass(slots=True)
class Link:
    """A running link."""

    gateway: str
    alice_url: str
    bob_url: str
    dock_tls: TlsFiles
    gateway_tls: TlsFiles

    def dock_client(self) -> KmeClient:
        """Alice's KME as the dock sees it."""
        tls = self.dock_tls
        return KmeClient(self.alice_url, ca=tls.ca, certificate=tls.certificate, private_key=tls.private_key)


async def start_link(layout: Layout, gateway: str, seed: int, run: Run) -> Link:
    """Start the three programs of the link to ``gateway`` by ``run``; both KMEs answer when this returns."""
    folder = layout.state(f"link-{gateway}")
    tls = _papers(folder / "tls", gateway)
    initial = folder / "initial-secret"
    if not initial.exists():
        write_private(initial, os.urandom(SECRET_BYTES))
    serial = folder / "serial"
    await run(f"bench-{gateway}", "qepa_tools.bench", ["--seed", str(seed), "--link-dir", str(serial)])
    channel = f"127.0.0.1:{free_port()}"
    urls = []
    for role, terminal in (("alice", "transmitter"), ("bob", "receiver")):
        kme = f"127.0.0.1:{free_port()}"
        config = layout.config(f"{role}-{gateway}")
        config.write_text(_link_toml(role, gateway, folder, serial / terminal, channel=channel, kme=kme, tls=tls[role]))
        await run(f"{role}-{gateway}", f"qepa_qkd.{role}", ["--config", str(config)])
        urls.append(f"https://{kme}")
    return Link(gateway, urls[0], urls[1], tls[DOCK], tls[gateway])


def _papers(folder: Path, gateway: str) -> dict[str, TlsFiles]:
    """One certificate authority a link; the dock and the gateway are its clients."""
    ca_files = folder / "ca.crt", folder / "ca.key"
    if ca_files[1].exists():
        ca = Credential.load(*ca_files)
    else:
        ca = create_ca(f"QEPA link {gateway}")
        ca.save(*ca_files)
    papers = {}
    for name in ("alice", "bob", DOCK, gateway):
        files = TlsFiles(ca_files[0], folder / f"{name}.crt", folder / f"{name}.key")
        if not files.private_key.exists():
            issue(ca, name).save(files.certificate, files.private_key)
        papers[name] = files
    return papers


def _link_toml(
    role: str, gateway: str, folder: Path, serial_port: Path, *, channel: str, kme: str, tls: TlsFiles
) -> str:
    peer = "bob" if role == "alice" else "alice"
    return f"""\
link = "{gateway}"
serial_port = "{serial_port}"
initial_secret = "{folder}/initial-secret"
{"listen" if role == "alice" else "connect"} = "{channel}"

[store]
path = "{folder}/{role}.db"
kek = "{folder}/{role}.kek"
signing_key = "{folder}/{role}.signing"

[kme]
listen = "{kme}"
id = "kme-{role}-{gateway}"
peer_id = "kme-{peer}-{gateway}"
certificate = "{tls.certificate}"
private_key = "{tls.private_key}"
client_ca = "{tls.ca}"
sae = [{{ master = "{DOCK}", slave = "{gateway}" }}]
"""
