"""The folder of a link on one bench: configuration, certificates, secrets and stores of both ends.

What is there is used as it is; what is missing is made. Alice and Bob share the initial secret because it is made here,
on one machine: where the ends are apart it goes by dock, and each end has its own folder.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qepa_qkd.authentication import SECRET_BYTES
from qepa_qkd.config import LinkConfig, Role, load
from qepa_qkd.history import behind_pseudo_terminal
from qepa_qkd.kme_client import KmeClient
from qepa_qkd.pki import create_ca, issue
from qepa_qkd.store_database import write_secret_file

from ..errors import ToolError
from ..ward.ports import free_port

MASTER, SLAVE = "dock", "gateway"
ROLES: Final[tuple[Role, Role]] = ("alice", "bob")
_VIRTUAL: Final[dict[Role, str]] = {"alice": "bench/transmitter", "bob": "bench/receiver"}
_NAMES: Final[dict[Role, str]] = {"alice": MASTER, "bob": SLAVE}

_CONFIG: Final = """\
link = "{link}"
serial_port = "{port}"
initial_secret = "initial.secret"
{verb} = "127.0.0.1:{channel}"

[protocol]
{protocol}
[store]
path = "{role}/keys.db"
kek = "{role}/keys.kek"
signing_key = "{role}/passport.key"
quota_bits = 10_000_000
low_water_bits = 5_000_000

[kme]
listen = "127.0.0.1:0"
id = "kme-{role}"
peer_id = "kme-{peer}"
certificate = "tls/kme-{role}.pem"
private_key = "tls/kme-{role}.key"
client_ca = "tls/ca.pem"
sae = [{{ master = "{master}", slave = "{slave}" }}]
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Serial ports of the two controllers; None: the virtual bench."""

    transmitter: str | None = None
    receiver: str | None = None

    def __post_init__(self) -> None:
        """Both or none."""
        if (self.transmitter is None) != (self.receiver is None):
            raise ToolError("give --transmitter and --receiver, or neither for the virtual bench")
        for port in (self.transmitter, self.receiver):
            if port is not None and not Path(port).exists():
                raise ToolError(f"there is no serial port {port}")


@dataclass(frozen=True, slots=True)
class LinkFolder:
    """A folder whose files are complete."""

    path: Path
    configs: dict[Role, LinkConfig]

    @property
    def virtual(self) -> bool:
        """Whether the bench has to be started."""
        return self.configs["alice"].serial_port == self.path / _VIRTUAL["alice"]

    @property
    def simulated(self) -> bool:
        """Whether no real controllers are behind the ports."""
        return self.virtual or behind_pseudo_terminal(self.configs["alice"].serial_port)

    def config_file(self, role: Role) -> Path:
        """Configuration of one end."""
        return self.path / f"{role}.toml"

    def client(self, role: Role, url: str) -> KmeClient:
        """The KME of one end, as its application sees it."""
        tls, name = self.path / "tls", _NAMES[role]
        return KmeClient(url, ca=tls / "ca.pem", certificate=tls / f"{name}.pem", private_key=tls / f"{name}.key")


def open_folder(path: Path, ports: Ports, protocol: dict[str, Any] | None = None) -> LinkFolder:
    """Open the folder at `path`, made with `ports` and `protocol` settings if there is none.

    Raises ToolError when it has other ports than asked for, ConfigError when its files make no sense.
    """
    if not (path / "alice.toml").exists():
        try:
            _create(path, ports, protocol or {})
        except OSError as error:
            raise ToolError(f"the folder {path} cannot be used: {error.strerror}") from None
    folder = LinkFolder(path.resolve(), {role: load(path.resolve() / f"{role}.toml", role) for role in ROLES})
    given: dict[Role, str | None] = {"alice": ports.transmitter, "bob": ports.receiver}
    for role, port in given.items():
        if port is not None and folder.configs[role].serial_port != Path(port).absolute():
            raise ToolError(f"{path}/{role}.toml names another serial port than {port}; change it there")
    if not _private(folder.path / "initial.secret"):
        raise ToolError(f"{path}/initial.secret is missing or open to others; its mode has to be 0600")
    return folder


def _create(path: Path, ports: Ports, protocol: dict[str, Any]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    ca = create_ca("QEPA bench")
    (path / "tls").mkdir(exist_ok=True)
    (path / "tls/ca.pem").write_bytes(ca.certificate_pem)
    for name in ("kme-alice", "kme-bob", MASTER, SLAVE):
        issue(ca, name).save(path / f"tls/{name}.pem", path / f"tls/{name}.key")
    write_secret_file(path / "initial.secret", os.urandom(SECRET_BYTES))
    channel = free_port()
    given: dict[Role, str | None] = {"bob": ports.receiver, "alice": ports.transmitter}
    for role, port in given.items():  # alice.toml last: then all is there
        text = _CONFIG.format(
            link="bench",
            role=role,
            peer="bob" if role == "alice" else "alice",
            verb="listen" if role == "alice" else "connect",
            channel=channel,
            port=_VIRTUAL[role] if port is None else Path(port).absolute(),
            protocol="".join(f"{name} = {_toml(value)}\n" for name, value in protocol.items()),
            master=MASTER,
            slave=SLAVE,
        )
        (path / f"{role}.toml").write_text(text)


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)


def _private(path: Path) -> bool:
    return path.exists() and not stat.S_IMODE(path.stat().st_mode) & 0o077
