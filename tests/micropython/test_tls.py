"""The board's MQTT client over TLS, on MicroPython's i386 port (mbedtls, real sockets), against mosquitto."""

import asyncio
import contextlib
import datetime
import json
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from qepa_tools.ward.ports import free_port

from .board_gateway import PATIENCE_S, find_mosquitto

NAME = "broker.ward"
USER, PASSWORD = "board", "not a secret"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

# Connects as an identity says, until it stands or has failed; meanwhile a task notes how long the loop stood still.
PROGRAM = """
import asyncio, json, time
from qepa_board.keys.identity import parse_identity
from qepa_board.transport.opening import open_connection

class Source:
    stood = False
    came = 0
    said = None
    left = {frames}
    def next_frame(self, now_ms):
        if not self.left or {frames} - self.left - self.came >= 32:
            return None  # a broker drops what it cannot pass on
        self.left -= 1
        return b"frame " + bytes({size})
    def connected(self):
        self.stood = True
    def disconnected(self, reason):
        self.said = reason
    def take(self, frame):
        self.came += 1

async def main():
    source = Source()
    with open("/identity.json") as file:
        connection = open_connection(parse_identity(file.read()), None, source, source.take, time.ticks_ms)
    connection._topic_up = connection._topic_down  # so the broker itself answers
    task = asyncio.create_task(connection.run())
    longest_us = 0
    start = time.ticks_ms()
    before = time.ticks_us()
    while not (source.said or source.stood and source.came >= {frames} or task.done()):
        await asyncio.sleep_ms(0)
        now = time.ticks_us()
        longest_us = max(longest_us, time.ticks_diff(now, before))
        before = now
    took = time.ticks_diff(time.ticks_ms(), start)
    if task.done():
        await task
    task.cancel()
    print(json.dumps([source.stood, source.said, source.came, longest_us, took]))

asyncio.run(main())
"""


class Ca:
    """A certificate authority of one test."""

    def __init__(self, name: str = "ward CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), EPOCH, LATER)
        self.certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            self._key, hashes.SHA256()
        )

    def _builder(self, subject, public_key, begins, ends) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=begins,
            not_valid_after=ends,
        )

    @property
    def der(self) -> str:
        return self.certificate.public_bytes(Encoding.DER).hex()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, name: str, begins=EPOCH, ends=LATER):
        """(certificate, key) for ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), begins, ends)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()), key


@pytest.fixture
def ca() -> Ca:
    return Ca()


@pytest.fixture
async def broker(tmp_path: Path, ca: Ca):
    """`await broker(issued=None, plain=False, asks=False)`: the port of a mosquitto that wants a password."""
    if find_mosquitto() is None:
        missing = "NO MOSQUITTO on this machine: TLS was not tested"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    async with contextlib.AsyncExitStack() as stack:

        async def start(issued=None, plain: bool = False, asks: bool = False) -> int:
            port = free_port()
            certificate, key = issued or ca.issue(NAME)
            (tmp_path / "ca.pem").write_text(ca.pem)
            (tmp_path / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
            (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            passwords = tmp_path / "passwords"
            passwords.unlink(missing_ok=True)
            tool = Path(find_mosquitto()).parents[1] / "bin" / "mosquitto_passwd"
            done = await asyncio.create_subprocess_exec(tool, "-b", "-c", passwords, USER, PASSWORD)
            assert await done.wait() == 0
            lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", "user root"]
            if not plain:
                lines += [f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/key.pem", f"cafile {tmp_path}/ca.pem"]
                lines += [f"require_certificate {'true' if asks else 'false'}"]
            (tmp_path / "mosquitto.conf").write_text("\n".join(lines) + "\n")
            process = await asyncio.create_subprocess_exec(
                find_mosquitto(), "-c", tmp_path / "mosquitto.conf",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(OSError):
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        return port
                    await asyncio.sleep(0.05)

        yield start


def identity(port: int, **tls: str) -> str:
    broker = {"host": "127.0.0.1", "port": port, "user": USER, "password": PASSWORD}
    if tls:
        broker["tls"] = tls
    return json.dumps(
        {
            "board": 42, "gateway": "gw-1", "broker": broker, "fs_hz": 360, "rekey_s": 30,
            "end_key": "11" * 32, "cohort_key": "22" * 32, "model_root": "00" * 60,
        }
    )  # fmt: skip


async def refusal(connect, text: str) -> str:
    """Why the board did not connect."""
    stood, reason, *_ = await connect(text)
    assert not stood
    return reason


@pytest.fixture
def connect(unix_run):
    """`await connect(identity, frames=0)` -> (stood, reason, frames that came, longest stand-still in us, ms)."""

    async def run(text: str, frames: int = 0, size: int = 100):
        source = PROGRAM.replace("{frames}", str(frames)).replace("{size}", str(size))
        return json.loads(await asyncio.to_thread(unix_run, source, {"identity.json": text.encode()}))

    return run


async def test_a_certificate_of_our_ca_with_the_right_name_is_taken(broker, connect, ca):
    port = await broker()
    for authorities in (ca.pem, ca.der, Ca("another").pem + ca.pem):
        stood, reason, came, *_ = await connect(identity(port, ca=authorities, name=NAME), frames=3)
        assert (stood, reason, came) == (True, None, 3)


async def test_another_ca_or_name_is_refused_by_name(broker, connect, ca):
    port = await broker()
    assert "not correctly signed by the trusted CA" in await refusal(connect, identity(port, ca=Ca().der, name=NAME))
    assert "does not match" in await refusal(connect, identity(port, ca=ca.der, name="other.ward"))
    # Without a name it is the host's that must be in the certificate.
    assert "does not match" in await refusal(connect, identity(port, ca=ca.der))


async def test_dates_count(broker, connect, ca):
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    port = await broker(ca.issue(NAME, ends=now - day))
    assert "validity has expired" in await refusal(connect, identity(port, ca=ca.der, name=NAME))
    port = await broker(ca.issue(NAME, begins=now + day))
    assert "validity starts in the future" in await refusal(connect, identity(port, ca=ca.der, name=NAME))


async def test_neither_tls_nor_clear_stands_in_for_the_other(broker, connect, ca):
    in_tls, in_clear = await broker(), await broker(plain=True)
    assert "ECONNRESET" in await refusal(connect, identity(in_clear, ca=ca.der, name=NAME))
    assert "ECONNRESET" in await refusal(connect, identity(in_tls))
    assert "nobody listens" in await refusal(connect, identity(free_port(), ca=ca.der, name=NAME))


async def test_a_broker_may_ask_for_the_boards_certificate(broker, connect, ca):
    port = await broker(asks=True)
    assert await refusal(connect, identity(port, ca=ca.der, name=NAME))
    certificate, key = ca.issue("board-42")
    own = {
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
        "key": key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()).hex(),
    }
    stood, reason, came, *_ = await connect(identity(port, ca=ca.der, name=NAME, **own), frames=3)
    assert (stood, reason, came) == (True, None, 3)


def test_an_interpreter_without_tls_sends_nothing(wasm_run):
    source = """
from qepa_board.errors import BoardError
from qepa_board.transport.broker_tls import BrokerTls
try:
    BrokerTls([b""], "broker").wrap(None)
except BoardError as error:
    print(error.reason)
"""
    assert wasm_run(source) == "tls\n"


async def test_a_ca_that_is_no_certificate_is_refused(connect):
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "cannot be read" in await refusal(connect, identity(port, ca="00" * 40, name=NAME))


async def test_throughput(broker, connect, ca, capsys):
    """Frames of an update to the broker and back, 32 under way; umqtt.simple, several writes a packet, makes 22/s."""
    port, plain = await broker(), await broker(plain=True)
    for what, text in (("TLS", identity(port, ca=ca.der, name=NAME)), ("clear", identity(plain))):
        _, reason, came, longest_us, took_ms = await connect(text, frames=2000, size=1022)
        assert (reason, came) == (None, 2000)
        speed = f"{came * 1000 // took_ms} frames/s, loop still for {longest_us / 1000:.0f} ms at most"
        with capsys.disabled():
            print(f"\nMQTT in {what}, i386 port: {speed}")
