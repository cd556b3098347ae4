"""The optical link as it runs: bench, Alice and Bob as three processes, keys fetched over mutual TLS."""

import asyncio
import contextlib
import json
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qepa_qkd.errors import KeyNotFound, ProtocolError, SecurityError, StockTooLow, TransientError
from qepa_qkd.kme_client import KmeClient
from qepa_qkd.pki import create_ca, issue
from qepa_qkd.store_database import write_secret_file
from qepa_tools.bench.null_modem import NullModem
from qepa_tools.ward.ports import free_port

PATIENCE_S = 100
"""For whatever waits on a program: the machine may be ten times slower than usual."""

CONFIG = """
link = "gw-1"
serial_port = "{serial}"
initial_secret = "{role}/initial.secret"
{address}

[store]
path = "{role}/keys.db"
kek = "{role}/keys.kek"
signing_key = "{role}/passport.key"
quota_bits = {quota}
low_water_bits = {low}

[kme]
listen = "127.0.0.1:0"
id = "kme-{role}"
peer_id = "kme-{peer}"
certificate = "pki/kme-{role}.pem"
private_key = "pki/kme-{role}.key"
client_ca = "pki/ca.pem"

[[kme.sae]]
master = "dock"
slave = "gw-1"
"""


class Link:
    """The three processes of one link in one directory. `channel`: serial lines of Alice and Bob, instead of TCP."""

    def __init__(
        self, directory: Path, quota: int = 1_000_000, low: int = 500_000, channel: tuple[str, str] | None = None
    ) -> None:
        self.directory = directory
        ca = create_ca("test CA")
        (directory / "pki").mkdir()
        (directory / "pki/ca.pem").write_bytes(ca.certificate_pem)
        for name in ("kme-alice", "kme-bob", "dock", "gw-1", "stranger"):
            issue(ca, name).save(directory / f"pki/{name}.pem", directory / f"pki/{name}.key")
        secret = secrets.token_bytes(4096)
        port = free_port()
        addresses = [f'listen = "127.0.0.1:{port}"', f'connect = "127.0.0.1:{port}"']
        if channel is not None:
            addresses = [f'channel = "{line}"' for line in channel]
        for role, peer, serial, address in (
            ("alice", "bob", "bench/transmitter", addresses[0]),
            ("bob", "alice", "bench/receiver", addresses[1]),
        ):
            write_secret_file(directory / role / "initial.secret", secret)
            text = CONFIG.format(role=role, peer=peer, serial=serial, address=address, quota=quota, low=low)
            (directory / f"{role}.toml").write_text(text)
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.urls: dict[str, str] = {}

    def start(self, name: str, *options: str) -> None:
        if name == "bench":
            command = ["-m", "qepa_tools.bench", "--link-dir", str(self.directory / "bench"), *options]
        else:
            command = ["-m", f"qepa_qkd.{name}", "--config", str(self.directory / f"{name}.toml")]
        log = (self.directory / f"{name}.log").open("a")
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes[name] = process
        assert process.stdout is not None
        document = json.loads(process.stdout.readline() or "null")
        assert document, (self.directory / f"{name}.log").read_text()
        if name != "bench":
            assert document["ready"]
            self.urls[name] = document["kme"]

    def start_all(self, *bench_options: str) -> None:
        self.start("bench", *bench_options)
        self.start("alice")
        self.start("bob")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE_S)

    def client(self, role: str, sae: str) -> KmeClient:
        pki = self.directory / "pki"
        return KmeClient(
            self.urls[role], ca=pki / "ca.pem", certificate=pki / f"{sae}.pem", private_key=pki / f"{sae}.key"
        )

    async def until_blocks(self, blocks: int, role: str = "alice", limit_s: float = 150.0) -> dict[str, object]:
        """Wait until `role` has produced key from at least `blocks` blocks since it started."""
        end = time.monotonic() + limit_s
        sae, peer = ("dock", "gw-1") if role == "alice" else ("gw-1", "dock")
        async with self.client(role, sae) as client:
            extension: dict[str, Any] = {}
            while True:
                with contextlib.suppress(TransientError):  # a program that compiles, or is busy, answers late
                    extension = (await client.status(peer))["status_extension"]
                    if extension["blocks"] - extension["blocks_without_key"] >= blocks:
                        return dict(extension)
                assert time.monotonic() < end, extension
                await asyncio.sleep(0.2)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path)
    yield link
    link.stop()


async def test_both_kmes_give_the_same_keys_over_mutual_tls(link: Link) -> None:
    link.start_all()
    extension = await link.until_blocks(1)
    assert 0.005 < extension["qber"] < 0.03
    async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
        for number, size in ((5, 256), (2, 4096), (1, 64)):
            mine = await dock.enc_keys("gw-1", number, size)
            theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
            assert [(k.key_id, k.value) for k in mine] == [(k.key_id, k.value) for k in theirs]
            assert all(len(k.value) * 8 == size for k in mine)
        assert len({k.value for k in await dock.enc_keys("gw-1", 8)}) == 8
        with pytest.raises(KeyNotFound):
            await gateway.dec_keys("dock", [mine[0].key_id])
        with pytest.raises(ProtocolError):
            await dock.enc_keys("gw-1", 1, 100)
        with pytest.raises(ProtocolError):
            await dock.enc_keys("gw-1", 100_000)
        with pytest.raises(StockTooLow):
            await dock.enc_keys("gw-1", 128, 8192)
    async with link.client("alice", "stranger") as stranger:
        with pytest.raises(SecurityError):
            await stranger.enc_keys("gw-1")
    link.stop()
    assert [p.returncode for p in link.processes.values()] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_killed_in_the_middle_of_a_block_it_goes_on_after_restart(link: Link, victim: str) -> None:
    link.start_all()
    await link.until_blocks(1)
    await asyncio.sleep(2.5)
    link.kill(victim)
    link.start(victim)
    await link.until_blocks(1 if victim == "alice" else 2)
    async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
        mine = await dock.enc_keys("gw-1", 128)
        theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
        assert [k.value for k in mine] == [k.value for k in theirs]
        ends = [(await dock.status("gw-1"))["status_extension"], (await gateway.status("dock"))["status_extension"]]
    assert ends[0]["secret_bits_consumed"] == ends[1]["secret_bits_consumed"]


@pytest.mark.slow
async def test_a_new_bench_behind_the_same_names_is_found_again(link: Link) -> None:
    link.start_all()
    await link.until_blocks(1)
    link.kill("bench")
    link.start("bench", "--seed", "2")
    await link.until_blocks(2)


@pytest.mark.slow
async def test_a_full_store_idles_and_resumes_below_low_water(tmp_path: Path) -> None:
    link = Link(tmp_path, quota=15_000, low=10_000)  # less than any block
    try:
        link.start_all()
        await link.until_blocks(1)
        async with link.client("alice", "dock") as dock:
            async with asyncio.timeout(PATIENCE_S):
                while (await dock.status("gw-1"))["status_extension"]["link_state"] != "idle: store full":
                    await asyncio.sleep(0.1)
            produced = 0
            for _ in range(4):  # blocks that were in work may still end
                before = await extension_and_cpu_s(link)
                await asyncio.sleep(6)
                after = await extension_and_cpu_s(link)
                produced = after[0]["secret_bits_produced"]
                if produced == before[0]["secret_bits_produced"]:
                    break
            assert produced == before[0]["secret_bits_produced"]
            assert all(b - a < 0.6 for a, b in zip(before[1], after[1], strict=True))
            # A block's length varies: take keys until this store is below its low-water mark.
            while (await dock.status("gw-1"))["status_extension"]["stock_bits"] >= 10_000:
                await dock.enc_keys("gw-1", 8)
        blocks = 2
        while (await link.until_blocks(blocks))["secret_bits_produced"] <= produced:
            blocks += 1
    finally:
        link.stop()


async def extension_and_cpu_s(link: Link) -> tuple[dict[str, Any], list[float]]:
    """What Alice says, and what each process has computed so far."""
    extension = await until_extension(link, "alice", lambda _: True)
    return extension, [sum(psutil.Process(p.pid).cpu_times()[:2]) for p in link.processes.values()]


async def test_an_eavesdropper_leaves_no_key_and_the_reason_is_shown(link: Link) -> None:
    link.start_all("--intercept-fraction", "0.5")
    extension = await until_extension(link, "bob", lambda e: e["link_state"].startswith("no key: QBER"))
    assert extension["blocks_without_key"] > 0
    assert extension["secret_bits_produced"] == 0


async def test_time_tags_on_a_drifting_clock_make_the_same_keys(link: Link) -> None:
    with (link.directory / "bob.toml").open("a") as config:
        config.write('\n[receiver]\ndetections = "tags"\ngate_ns = 20\n')
    edit(link.directory / "bob.toml", 'link = "gw-1"', 'link = "gw-1"\nauthentication_origin = "pqc"')
    link.start_all("--clock-offset-ppm", "37", "--clock-walk-ppb", "20")
    extension = await link.until_blocks(1)
    assert extension["authentication"] == "information-theoretic"
    assert (await until_extension(link, "bob", lambda _: True))["authentication"] == "computational"
    assert 0.005 < extension["qber"] < 0.03
    async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
        mine = await dock.enc_keys("gw-1", 8)
        theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
        assert [k.value for k in mine] == [k.value for k in theirs]


def agree_on_a_secret(directory: Path) -> None:
    """Replace the ends' initial secret by one of a key exchange, as `qepa link secret` makes it."""

    def secret(command: str, *names: str, role: str) -> None:
        files = [name if name.startswith("--") else str(directory / name) for name in names]
        config = ["--config", str(directory / f"{role}.toml")]
        subprocess.run(
            [sys.executable, "-m", "qepa_tools.cli", "link", "secret", command, *files, *config],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip

    for role in ("alice", "bob"):
        edit(directory / f"{role}.toml", 'link = "gw-1"', 'link = "gw-1"\nauthentication_origin = "pqc"')
        (directory / role / "initial.secret").unlink()
        secret("identity", f"{role}.pub", role=role)
    secret("offer", "offer", role="bob")
    secret("answer", "offer", "answer", "--peer", "bob.pub", role="alice")
    secret("accept", "answer", "--peer", "alice.pub", role="bob")


async def test_over_a_serial_line_with_garbage_on_it_they_make_keys_and_go_on_when_one_end_is_killed(
    tmp_path: Path,
) -> None:
    fate = random.Random(1)

    def spoil(_: int, data: bytes) -> bytes:
        return data + fate.randbytes(30) if fate.random() < 0.002 else data

    link = Link(tmp_path, channel=("serial:lines/alice@4000000", "serial:lines/bob@4000000"))
    agree_on_a_secret(tmp_path)
    with NullModem((tmp_path / "lines/alice", tmp_path / "lines/bob"), bits_per_s=4_000_000, spoil=spoil):
        try:
            link.start_all()
            extension = await link.until_blocks(1)
            assert (extension["initial_secret"], extension["authentication"]) == ("pqc", "computational")
            link.kill("bob")
            link.start("bob")
            await link.until_blocks(1, role="bob")
            async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
                mine = await dock.enc_keys("gw-1", 64)
                theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
                assert [k.value for k in mine] == [k.value for k in theirs]
        finally:
            link.stop()


async def test_a_tdc1_without_sync_makes_the_same_keys_and_is_waited_for_when_another_device_takes_its_place(
    link: Link,
) -> None:
    with (link.directory / "bob.toml").open("a") as config:
        config.write('\n[receiver]\ndevice = "tdc1"\n')
    drifting = ("--receiver-device", "tdc1", "--clock-offset-ppm", "-20", "--clock-walk-ppb", "20")
    link.start_all(*drifting)
    extension = await link.until_blocks(1)
    assert 0.005 < extension["qber"] < 0.03
    async with link.client("alice", "dock") as dock, link.client("bob", "gw-1") as gateway:
        mine = await dock.enc_keys("gw-1", 8)
        theirs = await gateway.dec_keys("dock", [key.key_id for key in mine])
        assert [k.value for k in mine] == [k.value for k in theirs]
    link.kill("bench")
    link.start("bench")
    await until_extension(link, "bob", lambda e: e["link_state"] == "no key: the receiver does not answer")
    link.kill("bench")
    made = int((await until_extension(link, "alice", lambda _: True))["blocks"])
    link.start("bench", *drifting)
    await link.until_blocks(made + 1)


async def test_a_blinded_receiver_is_an_alarm_at_both_ends_and_ends_with_its_cause(link: Link) -> None:
    link.start_all("--attack", "blinding until=8")
    await until_extension(link, "bob", lambda e: "blinding" in e["alarms"] and e["threat_level"] == "high")
    extension = await until_extension(link, "alice", lambda e: "blinding" in e["alarms"])
    assert extension["link_state"].startswith("no key: blinding alarm")
    assert extension["secret_bits_produced"] == 0
    assert extension["rekey_s"] > 10  # nothing in stock
    await link.until_blocks(1)
    for role in ("alice", "bob"):
        extension = await until_extension(link, role, lambda e: not e["alarms"])
        assert extension["threat_level"] == "elevated"


async def until_extension(link: Link, role: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    sae, peer = ("dock", "gw-1") if role == "alice" else ("gw-1", "dock")
    end = time.monotonic() + PATIENCE_S
    extension: dict[str, Any] = {}
    async with link.client(role, sae) as client:
        while True:
            with contextlib.suppress(TransientError):
                extension = (await client.status(peer))["status_extension"]
                if condition(extension):
                    return extension
            assert time.monotonic() < end, extension
            await asyncio.sleep(0.2)


def run_once(link: Link, role: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"qepa_qkd.{role}", "--config", str(link.directory / f"{role}.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda d: edit(d / "alice.toml", "quota_bits", "quota_bit"), "quota_bit"),
        (lambda d: edit(d / "alice.toml", "[store]", "[store"), "not TOML"),
        (lambda d: edit(d / "alice.toml", "bench/transmitter", "bench/nothing"), "cannot be opened"),
        (lambda d: edit(d / "alice.toml", "bench/transmitter", "alice.toml"), "cannot be opened"),
        (lambda d: (d / "alice/initial.secret").unlink(), "Initial secret"),
        (lambda d: (d / "alice/initial.secret").chmod(0o644), "0600"),
        (lambda d: (d / "alice/keys.db").write_bytes(b"no database" * 99), "cannot be read"),
        (lambda d: (d / "pki/kme-alice.key").unlink(), "missing"),
    ],
)
def test_what_cannot_start_says_why_in_one_sentence(
    link: Link, break_it: Callable[[Path], object], sentence: str
) -> None:
    link.start("bench")
    write_secret_file(link.directory / "alice/keys.kek", bytes(32))
    break_it(link.directory)
    result = run_once(link, "alice")
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_busy_port_is_said_before_anything_starts(link: Link) -> None:
    link.start("bench")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        edit(link.directory / "alice.toml", '"127.0.0.1:0"', f'"127.0.0.1:{taken.getsockname()[1]}"')
        result = run_once(link, "alice")
    assert result.returncode == 2
    assert "in use" in result.stderr
    assert result.stderr.count("\n") == 1


async def test_an_independent_client_of_the_standard_gets_the_same_keys(link: Link) -> None:
    peer = pytest.importorskip("etsi_qkd_014_client")
    link.start_all()
    await link.until_blocks(1)
    pki = link.directory / "pki"

    def client(role: str, sae: str) -> Any:
        address = link.urls[role].removeprefix("https://")
        files = (str(pki / f"{sae}.pem"), str(pki / f"{sae}.key"), str(pki / "ca.pem"))
        return peer.QKD014Client(address, *files)

    dock, gateway = client("alice", "dock"), client("bob", "gw-1")
    code, status = dock.get_status("gw-1")
    assert code == 200
    assert status.key_size == 256
    code, container = dock.get_key("gw-1", number=3, size=256)
    assert code == 200
    code, same = gateway.get_key_with_key_IDs("dock", [key.key_id for key in container.keys])
    assert code == 200
    assert [k.key for k in same.keys] == [k.key for k in container.keys]
