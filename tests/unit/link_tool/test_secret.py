"""`qepa link secret`: both ends get the same secret, carried or agreed on, and nothing is ever overwritten."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qepa_qkd.authentication import InitialSecret
from qepa_tools.link.cli import app

CONFIG = """
link = "gw-1"
serial_port = "/dev/optics"
initial_secret = "initial.secret"
authentication_origin = "{origin}"
channel = "serial:/dev/ttyUSB0"
[store]
path = "keys.db"
kek = "keys.kek"
signing_key = "passport.key"
[kme]
listen = "127.0.0.1:0"
id = "a"
peer_id = "b"
certificate = "a.pem"
private_key = "a.key"
client_ca = "ca.pem"
sae = [{{ master = "dock", slave = "gw-1" }}]
"""


class Ends:
    """Configurations of both ends in one directory, and the command."""

    def __init__(self, directory: Path, origin: str) -> None:
        self.directory = directory
        for role in ("alice", "bob"):
            (directory / role).mkdir()
            (directory / role / "link.toml").write_text(CONFIG.format(origin=origin))

    def run(
        self, command: str, *arguments: object, role: str | None = None, fails: str | None = None
    ) -> dict[str, Any]:
        config = [] if role is None else ["--config", str(self.directory / role / "link.toml")]
        done = CliRunner().invoke(app, ["secret", command, *map(str, arguments), *config, "--json"])
        if fails is None:
            assert done.exit_code == 0, done.output
            return dict(json.loads(done.stdout))
        assert done.exit_code == 2, done.output
        assert fails in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
        return {}

    def secret(self, role: str) -> Path:
        return self.directory / role / "initial.secret"

    def exchange(self) -> None:
        """Up to Alice's answer."""
        for role in ("alice", "bob"):
            self.run("identity", self.directory / f"{role}.pub", role=role)
        self.run("offer", self.directory / "offer", role="bob")
        self.answer()

    def answer(self, *options: str, fails: str | None = None) -> dict[str, Any]:
        files = (self.directory / "offer", self.directory / "answer")
        return self.run("answer", *files, "--peer", self.directory / "bob.pub", *options, role="alice", fails=fails)

    def accept(self, *options: str, peer: str = "alice", fails: str | None = None) -> dict[str, Any]:
        files = (self.directory / "answer", "--peer", self.directory / f"{peer}.pub")
        return self.run("accept", *files, *options, role="bob", fails=fails)


@pytest.fixture
def carried(tmp_path: Path) -> Ends:
    return Ends(tmp_path, "courier")


@pytest.fixture
def agreed(tmp_path: Path) -> Ends:
    return Ends(tmp_path, "pqc")


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_carried_secret_is_the_same_at_both_ends_and_gone_from_the_stick(carried: Ends) -> None:
    stick = carried.directory / "stick/gw-1.secret"
    carried.run("courier", stick)
    assert private(stick)
    carried.run("install", stick, role="alice")
    assert carried.run("install", stick, "--erase", role="bob")["erased"]
    assert not stick.exists()
    alice, bob = (carried.secret(role) for role in ("alice", "bob"))
    assert alice.read_bytes() == bob.read_bytes()
    assert len(set(alice.read_bytes())) > 200
    assert len(InitialSecret.parse(alice.read_bytes()).pads_to_bob) == 2016
    assert private(alice)
    assert private(bob)


def test_nothing_is_overwritten(carried: Ends) -> None:
    stick = carried.directory / "gw-1.secret"
    carried.run("courier", stick)
    before = stick.read_bytes()
    carried.run("courier", stick, fails="exists already")
    carried.run("install", stick, role="alice")
    carried.run("install", stick, "--erase", role="alice", fails="exists already")
    assert stick.read_bytes() == before


def test_a_dry_run_checks_and_writes_nothing(carried: Ends) -> None:
    stick = carried.directory / "gw-1.secret"
    assert carried.run("courier", stick, "--dry-run")["dry_run"]
    assert not stick.exists()
    carried.run("courier", stick)
    carried.run("install", stick, "--erase", "--dry-run", role="bob")
    assert not carried.secret("bob").exists()
    assert stick.exists()
    carried.run("courier", stick, "--dry-run", fails="exists already")


def test_what_is_no_secret_or_open_to_others_is_refused(carried: Ends) -> None:
    stick = carried.directory / "gw-1.secret"
    carried.run("install", stick, role="alice", fails="cannot be read")
    stick.write_bytes(bytes(99))
    stick.chmod(0o600)
    carried.run("install", stick, role="alice", fails="at least")
    stick.chmod(0o644)
    carried.run("install", stick, role="alice", fails="0600")
    carried.run("offer", carried.directory / "offer", role="bob", fails='make it "pqc" first')


def test_both_ends_agree_on_a_secret_that_never_travels(agreed: Ends) -> None:
    agreed.exchange()
    told = agreed.accept()
    secrets = [agreed.secret(role).read_bytes() for role in ("alice", "bob")]
    assert secrets[0] == secrets[1]
    assert private(agreed.secret("alice"))
    assert private(agreed.secret("bob"))
    public = [(agreed.directory / name).read_bytes() for name in ("offer", "answer", "alice.pub", "bob.pub")]
    assert not any(secrets[0][i : i + 16] in data for data in public for i in range(0, 4096, 16))
    again = agreed.run("identity", agreed.directory / "again.pub", role="alice")
    assert told["peer_fingerprint"] == again["fingerprint"]
    assert not list(agreed.directory.glob("bob/*.offer"))
    agreed.accept(fails="exists already")


def test_an_answer_that_another_signed_is_refused_and_the_offer_waits_on(agreed: Ends) -> None:
    agreed.exchange()
    agreed.accept(peer="bob", fails="did not sign")
    assert not agreed.secret("bob").exists()
    answer = agreed.directory / "answer"
    right = answer.read_bytes()
    answer.write_bytes(right[:50] + bytes([right[50] ^ 1]) + right[51:])
    agreed.accept(fails="did not sign")
    answer.write_bytes(right)
    agreed.accept("--dry-run")
    assert not agreed.secret("bob").exists()
    agreed.accept()
    assert agreed.secret("bob").read_bytes() == agreed.secret("alice").read_bytes()


def test_a_changed_offer_gives_no_secret(agreed: Ends) -> None:
    for role in ("alice", "bob"):
        agreed.run("identity", agreed.directory / f"{role}.pub", role=role)
    agreed.accept(fails="no offer waits")
    agreed.run("offer", agreed.directory / "offer", role="bob")
    agreed.run("offer", agreed.directory / "other", role="bob", fails="waits for its answer")
    offer = agreed.directory / "offer"
    right = offer.read_bytes()
    offer.write_bytes(right[:-1])
    agreed.answer(fails="did not sign")
    assert not agreed.secret("alice").exists()
    offer.write_bytes(right)
    agreed.answer("--dry-run")
    assert not agreed.secret("alice").exists()
    (agreed.directory / "bob.pub").write_text("no key")
    agreed.answer(fails="no public key")
