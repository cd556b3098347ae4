"""A flasher's bench without hardware: virtual boards that esptool and mpremote take for real ones, a hospital, a dock.

The boards' MicroPython is real (the i386 port), their loader, flash and chip are simulated: no xtensa code runs here,
and no radio.
"""

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from mpremote.transport_serial import SerialTransport
from typer.testing import CliRunner

from qepa_qkd.kme_client import QkdKey
from qepa_server.api.app import create_app
from qepa_tools.board import session
from qepa_tools.board import station as station_module
from qepa_tools.board.cli import app
from qepa_tools.board.inventory import DIRECTORY_VARIABLE
from qepa_tools.firmware_build.bundle import Bundle, assemble, build_bundle
from qepa_tools.firmware_build.signing import make_key, sign_bundle
from qepa_tools.unix_port.board import UnixBoard
from qepa_tools.unix_port.runtime import UnixPortMissingError, ensure_unix_port
from qepa_tools.virtual_esp32.device import DEAD, VirtualEsp32, mac_of
from qepa_tools.virtual_esp32.images import synthetic_image
from qepa_tools.virtual_esp32.ports import PtyPort, SocketPort

from ..unit.server.hospital_rig import Rig

GATEWAY = "gw-1"
_ENTER_DEAD_S, _ENTER_S = 1.0, 15.0  # how long to wait for a console; the machine that runs this may be slow


@pytest.fixture(scope="session", autouse=True)
def _unix_port() -> None:
    try:
        ensure_unix_port()
    except UnixPortMissingError as error:
        pytest.skip(f"VIRTUAL BOARDS ARE NOT TESTED HERE: {error}")


@dataclass
class Result:
    """What a command ended with."""

    code: int
    record: dict[str, Any]
    error: str

    @property
    def sentence(self) -> str:
        """Its complaint, which is one line."""
        assert self.error.startswith("qepa: ")
        assert len(self.error.strip().splitlines()) == 1
        return self.error


Qepa = Callable[..., Result]
PlugIn = Callable[..., PtyPort | SocketPort]
Flashed = Callable[..., PtyPort]


@pytest.fixture
def boards_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where inventory and backups go."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "boards"))
    return tmp_path / "boards"


@pytest.fixture
def qepa(boards_dir: Path) -> Qepa:
    """Runs `qepa board ... --json`; fails the test unless it ends with ``code``."""

    def run(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.stderr
        return Result(done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.stderr)

    return run


@dataclass
class Images:
    """MicroPython's stand-ins: files that chip and esptool accept, with their SHA-256."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def arguments(self, chip: str = "esp32", **differences: Any) -> list[str]:
        """--image and --sha256 of a synthetic image."""
        data = synthetic_image(chip, payload=bytes(range(256)) * 1000, **differences)
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{digest[:8]}.bin"
        path.write_bytes(data)
        return ["--image", str(path), "--sha256", digest]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


class Releases:
    """Signed firmware bundles: the real firmware, and others that differ from it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.keys = folder, folder / "keys"
        make_key(self.keys)
        self._first = build_bundle("esp32", 1, folder / "unsigned.zip")

    def path(self, version: int = 1, **changed: bytes) -> Path:
        """A release; ``changed`` replaces modules of the application, by name."""
        path = self._folder / f"{version}-{'-'.join(changed)}.zip"
        if not path.is_file():
            names = {f"lib/qepa_board/{name}": content for name, content in changed.items()}
            files = {name: data for name, data in self._first.files.items() if name.removesuffix(".mpy") not in names}
            files |= {f"{name}.py": content for name, content in names.items()}
            if version > 1:
                files["lib/qepa_board/news.py"] = b"# of version %d\n" % version * 100
            sign_bundle(assemble("esp32", version, files), self.keys).write(path)
        return path

    @property
    def first(self) -> Bundle:
        """The real firmware, as version 1."""
        return self._first


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return Releases(tmp_path_factory.mktemp("releases"))


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlugIn]:
    """Plugs in another virtual board and returns its port; all are unplugged in the end.

    Each has a heap of 160 kB, and unless ``rom`` is false a ROM partition. What is put into ``cuts`` is when
    its power fails (UnixBoard), once it is plugged in again. Only a chip that starts nothing is given up on soon.
    """
    ports: list[PtyPort | SocketPort] = []
    enter = session._enter

    def enter_patiently(transport: SerialTransport, *, fresh: bool) -> None:
        is_dead = any(port.board.mode == DEAD for port in ports if port.url == transport.device_name)
        monkeypatch.setattr(session, "_ENTER_TIMEOUT_S", _ENTER_DEAD_S if is_dead else _ENTER_S)
        enter(transport, fresh=fresh)

    monkeypatch.setattr(session, "_enter", enter_patiently)

    def plug(
        *,
        chip: str = "esp32",
        blank: bool = False,
        over: type = PtyPort,
        rom: bool = True,
        cuts: list[int] | None = None,
    ) -> PtyPort | SocketPort:
        number = len(ports) + 1
        mac = mac_of(number)

        def start(files: Path) -> UnixBoard:
            partition = files.parent / "rom.bin" if rom else None
            return UnixBoard(files, unique_id=mac, rom=partition, cut_at=cuts.pop() if cuts else None)

        board = VirtualEsp32(
            tmp_path / f"board-{number}",
            start,
            chip=chip,
            mac=mac,
            blank=blank,
            lines=False,
        )
        ports.append(over(board).open())
        return ports[-1]

    yield plug
    for port in ports:
        port.close()


@pytest.fixture
def flashed(plug_in: PlugIn, qepa: Qepa, images: Images, releases: Releases) -> Flashed:
    """Plugs in a board that has the firmware and waits for its identity."""

    def make(**board: Any) -> PtyPort:
        port = plug_in(**board)
        assert isinstance(port, PtyPort)
        qepa("flash", "--port", port.url, "--bundle", releases.path(), "--profile", "demo_ad8232", "--wait", 0)
        return port

    return make


class Hospital:
    """A server on a local port with nothing behind it, and Alice's KME in memory."""

    def __init__(self, rig: Rig, server: uvicorn.Server, folder: Path, firmware_key: Path) -> None:
        self.rig, self.given = rig, []
        (folder / "root.pub").write_bytes(rig.root.public_key)
        rig.identities["dock"].save(folder / "dock.json")
        (folder / "server.cert").write_text(rig.identities["server"].certificate.model_dump_json())
        port = server.servers[0].sockets[0].getsockname()[1]
        self.station = folder / "station.toml"
        self.station.write_text(
            f'server = "http://127.0.0.1:{port}"\nidentity = "dock.json"\nroot_key = "root.pub"\n'
            f'server_certificate = "server.cert"\nfirmware_key = "{firmware_key}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = 9\n'
            f'[kme.{GATEWAY}]\nurl = "https://alice"\nca = "a"\ncert = "b"\nkey = "c"\n'
        )

    def end_key(self, board: int) -> bytes | None:
        """What the server holds for a board."""
        enrolled = self.rig.hospital.register.get(board)
        return None if enrolled is None else enrolled.end_key

    def kme(self, *_: object, **__: object) -> "AliceKme":
        """In place of a client over TLS."""
        return AliceKme(self.given)


class AliceKme:
    """Gives random keys and remembers them."""

    def __init__(self, given: list[QkdKey]) -> None:
        self._given = given

    async def __aenter__(self) -> "AliceKme":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def enc_keys(self, slave: str, number: int = 1, size: int | None = None) -> list[QkdKey]:
        assert (slave, size) == (GATEWAY, 256)
        keys = [QkdKey(uuid4(), uuid4().bytes + uuid4().bytes) for _ in range(number)]
        self._given += keys
        return keys


@pytest.fixture
def hospital(tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    rig = Rig(tmp_path / "hospital", {})
    config = uvicorn.Config(
        create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event()), port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    made = Hospital(rig, server, tmp_path, releases.keys)
    monkeypatch.setattr(station_module, "KmeClient", made.kme)
    yield made
    server.should_exit = True
    thread.join()
    rig.store.close()
