"""Configuration and certificates: what is wrong is said in one sentence."""

import contextlib
import os
import ssl
from pathlib import Path

import pytest

from qepa_qkd.config import SerialChannel, load
from qepa_qkd.decoy import EpsilonBudget, SourceSettings
from qepa_qkd.errors import ConfigError
from qepa_qkd.pki import create_ca, issue

GOOD = """
link = "gw-1"
serial_port = "/dev/optics"
initial_secret = "secret"
listen = "127.0.0.1:9000"
connect = "127.0.0.1:9000"
[store]
path = "keys.db"
kek = "/var/keys.kek"
signing_key = "passport.key"
[kme]
listen = "127.0.0.1:0"
id = "a"
peer_id = "b"
certificate = "a.pem"
private_key = "a.key"
client_ca = "ca.pem"
sae = [{ master = "dock", slave = "gw-1" }]
[protocol]
"""


def test_defaults_and_relative_paths(tmp_path: Path) -> None:
    path = tmp_path / "link.toml"
    path.write_text(GOOD)
    config = load(path, "alice")
    assert config.initial_secret == tmp_path / "secret"
    assert config.store.kek == Path("/var/keys.kek")
    settings = config.settings()
    assert settings.source == SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
    assert settings.epsilon == EpsilonBudget(1e-15, 1e-10)
    path.write_text(GOOD + "qber_threshold = 0.07")
    assert load(path, "bob").settings().digest() != settings.digest()


@pytest.mark.parametrize(
    ("channel", "path", "bits_per_s"),
    [
        ("serial:/dev/ttyUSB0@115200", "/dev/ttyUSB0", 115_200),
        ("serial:/dev/ttyUSB0", "/dev/ttyUSB0", 921_600),
        ("serial:lines/bob@3000000", "{directory}/lines/bob", 3_000_000),
    ],
)
def test_a_serial_line_may_be_the_classical_channel(tmp_path: Path, channel: str, path: str, bits_per_s: int) -> None:
    file = tmp_path / "link.toml"
    addresses = 'listen = "127.0.0.1:9000"\nconnect = "127.0.0.1:9000"'
    file.write_text(GOOD.replace(addresses, f'channel = "{channel}"'))
    for role in ("alice", "bob"):
        config = load(file, role)
        assert config.channel == SerialChannel(Path(path.format(directory=tmp_path)), bits_per_s)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('connect = "127.0.0.1:9000"', 'channel = "serial:/dev/tty1"', "leave one out"),
        ('connect = "127.0.0.1:9000"', 'channel = "/dev/tty1"', "looks like serial:"),
        ('connect = "127.0.0.1:9000"', 'channel = "serial:/dev/tty1@fast"', "looks like serial:"),
        ('connect = "127.0.0.1:9000"', 'channel = "serial:/dev/tty1@300"', "bits a second"),
        ('link = "gw-1"', "", "link"),
        ('listen = "127.0.0.1:9000"', "", "alice needs this address"),
        ('listen = "127.0.0.1:9000"', 'listen = "9000"', "127.0.0.1:9000"),
        ("[protocol]", "[protocol]\nqber_threshold = 0.5", "qber_threshold"),
        ("[protocol]", "[protocol]\nintensities = [0.1, 0.2, 0.3]", "mu1 > mu2"),
        ("[protocol]", '[protocol]\nproof = "trust me"', "Lim2014"),
        ("[protocol]", "[protocol]\nunknown = 1", "unknown"),
        ('slave = "gw-1" }]', 'slave = "gw-1" }, { master = "dock", slave = "gw-1" }]', "listed twice"),
        ("[store]", "[store]\nquota_bits = 50000\nlow_water_bits = 50000", "below quota_bits"),
        ("[kme]", "[kme]\nkey_size_bits = 100", "key_size_bits"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = tmp_path / "link.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        load(path, "alice")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_certificates_are_good_for_mutual_tls_and_keys_are_private(tmp_path: Path) -> None:
    ca = create_ca("test")
    issue(ca, "dock").save(tmp_path / "dock.pem", tmp_path / "dock.key")
    (tmp_path / "ca.pem").write_bytes(ca.certificate_pem)
    assert os.stat(tmp_path / "dock.key").st_mode & 0o077 == 0
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    for context in (server, client):
        context.load_cert_chain(tmp_path / "dock.pem", tmp_path / "dock.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_client = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (at_client, at_server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    subject = at_server.getpeercert()["subject"]  # type: ignore[index]
    assert subject == ((("commonName", "dock"),),)
    with pytest.raises(FileExistsError):
        issue(ca, "dock").save(tmp_path / "dock.pem", tmp_path / "dock.key")
