"""A broker's folder: who may what, and that writing it again takes nothing away."""

import json
import stat

import pytest
from cryptography import x509

from qepa_gateway.errors import ConfigError
from qepa_gateway.mosquitto.command import mosquitto_command, parse_site, write_broker
from qepa_gateway.mosquitto.configuration import Site, access_list, password_file
from qepa_uplink.broker import read_login


def write(out, *sites, address="10.0.0.2"):
    write_broker(out, [parse_site(text) for text in sites], address=address, port=8883, local_port=1883)
    return {path.stem: json.loads(path.read_text()) for path in (out / "clients").glob("*.json")}


def test_a_site_is_a_gateway_and_its_boards():
    assert parse_site("gw-1=1-3,42") == Site("gw-1", (1, 2, 3, 42))
    assert parse_site("gw-1") == Site("gw-1", ())


@pytest.mark.parametrize(
    "text", ["", "GW=1", "gw=0", "gw=3-1", "gw=1-", "gw=-1", "gw=1;2", "gw=1-9999999", "gw=4294967296"]
)
def test_what_is_no_site_is_refused(text):
    with pytest.raises(ConfigError):
        parse_site(text)


def test_everyone_is_confined_to_topics_of_his_own():
    rights = {}
    for block in access_list([Site("gw-1", (42,)), Site("gw-2")]).split("\n\n"):
        user, *lines = block.strip().splitlines()
        rights[user.removeprefix("user ")] = {line.removeprefix("topic ") for line in lines}
    assert rights["board-0000002a"] == {
        "write qepa/1/board/gw-1/0000002a/up",
        "read qepa/1/board/gw-1/0000002a/down",
    }
    assert rights["gw-2"] == {
        "read qepa/1/board/gw-2/+/up",
        "write qepa/1/board/gw-2/+/down",
        "read qepa/1/gateway/gw-2",
        "write qepa/1/server/gw-2",
        "write qepa/1/gateway/+",
    }
    assert rights["server"] == {"read qepa/1/server/+", "write qepa/1/gateway/+"}


def test_passwords_are_hashed_as_mosquitto_does():
    # mosquitto_passwd -c -b FILE alice secret, version 2.0.11, and the salt that it drew
    line = password_file({"alice": "secret"}, {"alice": bytes.fromhex("ed06ce47786d51d4fcf3780d")})
    assert line == (
        "alice:$7$101$7QbOR3htUdT883gN$"
        "fqHLNEF+BpsAzSd7XJrMU/lp/VE6e5bj+dPKWrjzHO+ZX1vmJv+OoB3zpcJU+1sxNHH69u9a1EBZ/7eSW24GbQ==\n"
    )


def test_secrets_are_for_their_owner_alone_and_nothing_is_lost_when_it_is_written_again(tmp_path):
    out = tmp_path / "broker"
    first = write(out, "gw-1=1-2")
    keys = {name: (out / name).read_bytes() for name in ("ca.pem", "ca.key", "broker.pem", "broker.key")}
    second = write(out, "gw-1=1-3", "gw-2=9")
    assert set(second) == {"server", "gw-1", "gw-2", *(f"board-{number:08x}" for number in (1, 2, 3, 9))}
    assert {user: second[user] for user in first} == first
    assert {name: (out / name).read_bytes() for name in keys} == keys
    assert len({client["password"] for client in second.values()}) == len(second)
    for path in (out / "passwords", out / "acl", out / "ca.key", out / "broker.key", *(out / "clients").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        told = any(client["password"] in path.read_text() for client in second.values())
        assert told == (path.parent.name == "clients")


def test_gateways_and_server_find_their_password_alone_in_a_file(tmp_path):
    clients = write(tmp_path, "gw-1=1-2", "gw-2=9")
    for user in ("gw-1", "gw-2", "server"):
        found = read_login(tmp_path / "clients" / f"{user}.password", tmp_path / "ca.pem")
        assert (found[0], found[1] is None) == (clients[user]["password"], False)
    assert not list((tmp_path / "clients").glob("board-*.password"))


def test_certificates_hold_for_boards_that_think_it_is_1970(tmp_path):
    client = write(tmp_path, "gw-1=1")["board-00000001"]
    ca = x509.load_pem_x509_certificate(client["tls"]["ca"].encode())
    broker = x509.load_pem_x509_certificate((tmp_path / "broker.pem").read_bytes())
    assert {certificate.not_valid_before_utc.year for certificate in (ca, broker)} == {1970}
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert client["tls"]["name"] in [str(name.value) for name in names]


@pytest.mark.parametrize("sites", [("gw-1=1,2", "gw-2=2"), ("gw-1=1", "gw-1=2")])
def test_a_board_has_one_gateway(tmp_path, sites):
    with pytest.raises(ConfigError, match="twice"):
        write(tmp_path, *sites)


def test_a_fault_is_one_sentence(tmp_path, capsys):
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "server.json").write_text("{}")
    assert mosquitto_command(["--out", str(tmp_path), "--site", "gw-1=1"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
