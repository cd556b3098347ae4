"""The folder of a ward: identities, certificates and configurations of everyone in it.

One machine plays every party here, the offline root included; on a real ward the root's key is in a safe.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity, Role, Root

from ..errors import ToolError
from .plan import WardPlan

TomlValue = str | int | float | bool | list[str]
TomlTable = Mapping[str, TomlValue | Mapping[str, TomlValue]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths inside a ward's folder."""

    root: Path

    @property
    def logs(self) -> Path:
        """What the programs write to stderr."""
        return self.root / "logs"

    @property
    def root_public(self) -> Path:
        """Public key of the offline root."""
        return self.root / "root.pub"

    @property
    def server_certificate(self) -> Path:
        """What gateways pin of the server."""
        return self.root / "server.cert.json"

    def identity(self, name: str) -> Path:
        """Keys and certificate of one party."""
        return self.root / "identities" / f"{name}.json"

    def state(self, name: str) -> Path:
        """State directory of one program."""
        return self.root / name

    def config(self, name: str) -> Path:
        """Configuration file of one program."""
        return self.root / "config" / f"{name}.toml"

    def flash(self, board: int) -> Path:
        """Flash of one virtual board."""
        return self.root / "boards" / f"{board:08x}"

    def feed(self, board: int) -> Path:
        """ADC counts that one virtual board will see."""
        return self.root / "feeds" / f"{board:08x}.u16"


@dataclass(frozen=True, slots=True)
class Parties:
    """Everyone who signs."""

    root_key: bytes
    server: Identity
    dock: Identity
    consent_desk: Identity


def prepare(plan: WardPlan) -> tuple[Layout, Parties]:
    """Create the ward's folder and identities, or take up those of an earlier run. Raises ToolError."""
    layout = Layout(plan.directory)
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        layout.root.chmod(0o700)
        (layout.root / "config").mkdir(exist_ok=True)
        root = Root.open(layout.root / "root.key")
        layout.root_public.write_bytes(root.public_key)
        server = _identity(layout, root, "server", "server")
        dock = _identity(layout, root, "dock", "dock")
        desk = _identity(layout, root, "consent-desk", "consent")
        _identity(layout, root, "release-desk", "release")  # for who orders releases
        for gateway in plan.gateway_names():
            _identity(layout, root, gateway, "gateway")
        layout.server_certificate.write_text(server.certificate.model_dump_json())
    except (OSError, UplinkError) as error:
        raise ToolError(f"the ward's folder {layout.root} can't be used: {error}") from error
    return layout, Parties(root.public_key, server, dock, desk)


def _identity(layout: Layout, root: Root, name: str, role: Role) -> Identity:
    path = layout.identity(name)
    if path.exists():
        return Identity.load(path)
    identity = root.issue(name, role)
    identity.save(path)
    return identity


def write_toml(path: Path, content: TomlTable) -> Path:
    """Write a flat configuration with one level of tables, and return its path."""
    plain = [_line(key, value) for key, value in content.items() if not isinstance(value, Mapping)]
    tables = [
        "\n".join([f"\n[{name}]", *(_line(key, value) for key, value in table.items())])
        for name, table in content.items()
        if isinstance(table, Mapping)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*plain, *tables]) + "\n")
    return path


def _line(key: str, value: TomlValue) -> str:
    return f"{key} = {json.dumps(value)}"  # JSON's scalars and lists of strings are TOML's, too
