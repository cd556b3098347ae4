"""The key dock's settings, and what boards are told of the broker by them."""

import asyncio
import datetime
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from qepa_board.keys.identity import parse_identity
from qepa_gateway.mosquitto.command import write_broker
from qepa_gateway.mosquitto.configuration import Site
from qepa_qkd.kme_client import QkdKey
from qepa_tools.board.provisioning import Enrolment, KeyLoad, load_keys
from qepa_tools.board.station import begins_after_1970, ca_pem, load_station
from qepa_tools.dock import BoardSettings, Dock
from qepa_tools.errors import ToolError

MINIMAL = 'server = "https://h"\nidentity = "d.json"\nroot_key = "r"\nserver_certificate = "s"\n'


def certificate(*, ca: bool = True, year: int = 1970, name: str = "QEPA broker CA") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2049, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def station(folder: Path, broker: str = "", more: str = "") -> Path:
    path = folder / "dock.toml"
    path.write_text(f'{MINIMAL}[broker]\nhost = "10.0.0.2"\n{broker}\n{more}')
    return path


def identity(settings: BoardSettings) -> Any:
    """As the board reads it."""
    record = {
        "board": 7,
        "gateway": "gw-1",
        "broker": {"host": settings.broker_host, "port": settings.broker_port} | settings.broker.record,
        "fs_hz": settings.fs_hz,
        "mains_hz": settings.mains_hz,
        "rekey_s": settings.rekey_s,
        "suite": settings.suite,
        "end_key": "11" * 32,
        "cohort_key": "22" * 32,
        "model_root": "33" * 60,
    }
    return parse_identity(json.dumps(record))


def test_a_board_is_told_no_more_of_the_broker_than_it_needs(tmp_path: Path) -> None:
    told = identity(load_station(station(tmp_path)).settings(7, 256))
    assert (told.broker_host, told.broker_port, told.suite) == ("10.0.0.2", 1883, "aes256")
    assert (told.broker_user, told.broker_password, told.broker_tls) == (None, None, None)


def test_a_board_reads_the_brokers_authority_name_user_and_password(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"Subject: a comment\n" + certificate() + certificate(name="the one before"))
    (tmp_path / "broker.password").write_text("long and secret\n")
    config = station(
        tmp_path, 'port = 8883\nca = "ca.pem"\nname = "broker.ward"\nuser = "boards"\npassword_file = "broker.password"'
    )
    settings = load_station(config).settings(7, 256, "otp")
    told = identity(settings)
    authorities, name, own, key = told.broker_tls
    assert [x509.load_der_x509_certificate(der).serial_number for der in authorities] == [7, 7]
    assert (name, own, key) == ("broker.ward", None, None)
    assert (told.broker_user, told.broker_password, told.suite) == ("boards", "long and secret", "otp")
    assert "comment" not in settings.broker.ca
    assert "secret" not in repr(settings)


def test_what_a_command_names_goes_before_what_the_file_names(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("of ward 2")
    config = load_station(station(tmp_path, 'user = "boards"\npassword_file = "missing"'))
    changed = config.with_broker(user="ward-2", password_file=tmp_path / "other", ca=None)
    assert changed.settings(7, 256).broker.record == {"user": "ward-2", "password": "of ward 2"}
    typed = "at the terminal"
    assert load_station(station(tmp_path, 'user = "boards"')).settings(7, 256, password=typed).broker.password == typed


def test_each_board_gets_into_our_own_broker_by_its_own_file(tmp_path: Path) -> None:
    write_broker(tmp_path / "broker", [Site("gw-1", (7, 42))], address="10.0.0.2", port=8883, local_port=1883)
    path = tmp_path / "dock.toml"
    path.write_text(f'{MINIMAL}[broker]\nclients = "broker/clients"\n')
    config = load_station(path)
    told = identity(config.settings(7, 256))
    assert (told.broker_host, told.broker_port, told.broker_user) == ("10.0.0.2", 8883, "board-00000007")
    assert told.broker_tls is not None
    passwords = {config.settings(board, 256).broker.password for board in (7, 42)}
    assert len(passwords) == 2
    with pytest.raises(ToolError, match=r"board-00000008\.json cannot be read: No such file"):
        config.settings(8, 256)
    with pytest.raises(ToolError, match="by their files"):
        config.with_broker(user="boards")
    path.write_text(f'{MINIMAL}[broker]\nclients = "broker/clients"\nhost = "10.0.0.2"\n')
    with pytest.raises(ToolError, match="nothing else"):
        load_station(path)


@pytest.mark.parametrize(
    ("broker", "says"),
    [
        ('user = "boards"', "has no password"),
        ('password_file = "long"', "goes with a user"),
        ('user = "boards"\npassword_file = "long"', "1 to 128 characters"),
        ('user = "boards"\npassword_file = "nowhere"', "cannot be read"),
        ('ca = "nowhere"', "cannot be read"),
        ('ca = "long"', "not the certificate of an authority"),
        ('ca = "leaf.pem"', "no authority"),
        ('ca = "many.pem"', "leave only what is needed"),
        ('user = ""', "broker.user"),
        ('password = "in the open"', "broker.password"),
    ],
)
def test_what_a_board_could_not_use_is_refused_before_it_is_enrolled(tmp_path: Path, broker: str, says: str) -> None:
    (tmp_path / "long").write_text("x" * 129)
    (tmp_path / "leaf.pem").write_bytes(certificate(ca=False))
    (tmp_path / "many.pem").write_bytes(certificate() * 20)
    with pytest.raises(ToolError, match=says):
        load_station(station(tmp_path, broker)).settings(7, 256)


def test_an_authority_younger_than_a_boards_clock_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "old.pem").write_bytes(certificate())
    (tmp_path / "young.pem").write_bytes(certificate(year=2026))
    assert not begins_after_1970(ca_pem(tmp_path / "old.pem"))
    assert begins_after_1970(ca_pem(tmp_path / "young.pem"))


def test_a_bedside_is_known_by_gateway_and_its_token_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 20 + "\n")
    config = load_station(
        station(tmp_path, more='[bedside.gw-1]\nurl = "http://10.0.0.9:8081"\ntoken_file = "token"\n')
    )
    assert config.bedside["gw-1"].open()._http.headers["authorization"] == "Bearer " + "t" * 20
    with pytest.raises(ToolError, match="cannot be read"):
        load_station(station(tmp_path, more='[bedside.gw-1]\nurl = "http://10.0.0.9"\ntoken_file = "none"\n')).bedside[
            "gw-1"
        ].open()


@pytest.mark.parametrize("wrong", [{"suite": "rot13"}, {"patient_boards": 0}, {"patient_boards": 65}])
def test_an_enrolment_that_no_board_takes_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match=r"choose one|wears 1 to 64"):
        Enrolment(7, "p-1", "gw-1", **wrong)


class Cradle:
    """Notes what it is asked to run."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def run(self, code: str) -> str:
        self.calls.append(code)
        return '{"ok": true}'


class Alice:
    """Gives keys of the size that is asked for."""

    async def enc_keys(self, slave: str, number: int = 1, size: int | None = None) -> list[QkdKey]:
        assert slave == "gw-1"
        assert size is not None
        return [QkdKey(UUID(int=i), bytes([i]) * (size // 8)) for i in range(number)]


@pytest.mark.parametrize(("blocks", "n_bytes"), [(3, 4096), (16, 64), (16, 1024)])
def test_keys_reach_a_board_in_calls_that_its_memory_takes(blocks: int, n_bytes: int) -> None:
    cradle = Cradle()
    dock = Dock(None, None, None, {"gw-1": Alice()})  # type: ignore[arg-type]  # neither server nor signature

    async def load() -> None:
        await dock.load(cradle, "gw-1", 128)
        await dock.load_blocks(cradle, "gw-1", blocks, n_bytes)

    asyncio.run(load())
    assert max(map(len, cradle.calls)) < 13_000
    sent = "".join(cradle.calls)
    assert len(sent) >= 2 * (128 * 48 + blocks * (16 + n_bytes)), "all of it, in hexadecimal"


class Session:
    """A board at the dock that tells its status and must not be asked for more."""

    def __init__(self, **status: Any) -> None:
        self.status = {"provisioned": True, "board": 7, "gateway": "gw-1", "pads": 0, "blocks": 0, "block_bytes": 0}
        self.status |= status

    def dock(self, call: str) -> dict[str, Any]:
        assert call == "status()"
        return self.status


@pytest.mark.parametrize(
    ("status", "load", "says"),
    [
        ({"provisioned": False}, {"pads": 1}, "not provisioned"),
        ({"gateway": "gw-2"}, {"pads": 1}, "no KME for gateway gw-2"),
        ({"pads": 100}, {"pads": 29}, "at most 28"),
        ({"blocks": 10}, {"blocks": 7}, "at most 6"),
    ],
)
def test_no_key_is_spent_on_a_board_that_has_no_use_for_it(
    tmp_path: Path, status: dict[str, Any], load: dict[str, int], says: str
) -> None:
    kme = '[kme.gw-1]\nurl = "https://a"\nca = "a"\ncert = "b"\nkey = "c"\n'
    config = load_station(station(tmp_path, more=kme))
    with pytest.raises(ToolError, match=says):
        load_keys(Session(**status), config, KeyLoad(**load))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{}, {"blocks": 1, "block_bytes": 63}, {"blocks": 1, "block_bytes": 4097}])
def test_nothing_and_blocks_of_another_size_are_no_load(wrong: dict[str, int]) -> None:
    with pytest.raises(ToolError, match=r"nothing to load|64 to 4096"):
        KeyLoad(**wrong)
