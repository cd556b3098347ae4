"""The conformance suite: our KME passes every check, and every check fails for a KME that is wrong in its way."""

import asyncio
import base64
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kme_ends import Ends

from qepa_qkd.config import SaePair
from qepa_qkd.pki import create_ca, issue
from qepa_tools.kme.checks import CHECKS, Check, run_check
from qepa_tools.kme.target import Answer, Target
from qepa_tools.kme.tls import TlsProbe

CHECK = {check.name: check for check in CHECKS}
MASTER, SLAVE, THIRD = "dock", "gw-1", "gw-2"


class OurSae:
    """An SAE at one of our KMEs, without sockets."""

    def __init__(self, ends: Ends, role: str, name: str) -> None:
        self.ends, self.role, self.name = ends, role, name

    def call(self, method: str, path: str, content: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/json"}
        ask = self.ends.ask(self.role, self.name, method, path, headers=headers, content=content)
        status, document = asyncio.run(ask)
        return Answer(status, document)


class ClosedDoor:
    """TLS as it should be."""

    def accepts_old_version(self) -> str | None:
        return None

    def accepts_anonymous(self) -> str | None:
        return None

    def accepts_stranger(self) -> str | None:
        return None


class OpenDoor:
    """TLS that lets everybody in."""

    def accepts_old_version(self) -> str | None:
        return "open"

    accepts_anonymous = accepts_stranger = accepts_old_version


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Target]:
    ends = Ends(tmp_path, key=bytes(range(256)) * 24, sae=[SaePair(master=MASTER, slave=s) for s in (SLAVE, THIRD)])
    yield Target(
        master=MASTER,
        slave=SLAVE,
        tls=ClosedDoor(),
        enc=OurSae(ends, "alice", MASTER),
        dec=OurSae(ends, "bob", SLAVE),
        dec_as_other=OurSae(ends, "bob", MASTER),
        third=THIRD,
        third_dec=OurSae(ends, "bob", THIRD),
    )
    ends.close()


Alter = Callable[[str, str, bytes | None, Callable[..., Answer]], Answer]
"""Takes a request and what passes it on to our KME; answers as the wrong KME does."""


class WrongSae:
    """Our KME with one fault."""

    def __init__(self, right: Any, alter: Alter) -> None:
        self.right, self.alter = right, alter

    def call(self, method: str, path: str, content: bytes | None = None) -> Answer:
        return self.alter(method, path, content, self.right.call)


def wrong(target: Target, alter: Alter) -> Target:
    def sae(right: Any) -> Any:
        return None if right is None else WrongSae(right, alter)

    return replace(
        target,
        tls=OpenDoor(),
        enc=sae(target.enc),
        dec=sae(target.dec),
        dec_as_other=sae(target.dec_as_other),
        third_dec=sae(target.third_dec),
    )


def faithful(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    return ask(method, path, content)


def status_with(**changes: Any) -> Alter:
    def alter(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
        answer = ask(method, path, content)
        if "status" not in path or answer.document is None:
            return answer
        document = {name: value for name, value in (answer.document | changes).items() if value is not None}
        return Answer(answer.status, document)

    return alter


def two_keys_short(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    """Half of what is asked for, or twice of one."""
    answer = ask(method, path, content)
    if answer.status != 200 or "keys" not in (answer.document or {}):
        return answer
    keys = answer.document["keys"]  # type: ignore[index]
    return Answer(200, {"keys": keys[1:] or keys * 2})


def same_key(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    answer = ask(method, path, content)
    if answer.status == 200 and "enc_keys" in path:
        for entry in answer.document["keys"]:  # type: ignore[index]
            entry["key"] = base64.b64encode(bytes(32)).decode()
    return answer


def gives_anyway(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    """Never refuses: where ours does, it makes a key up."""
    answer = ask(method, path, content)
    if answer.status == 200:
        return answer
    return Answer(200, {"keys": [{"key_ID": str(UUID(int=1)), "key": base64.b64encode(bytes(32)).decode()}]})


def bare_errors(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    answer = ask(method, path, content)
    return answer if answer.status == 200 else Answer(answer.status, None)


def own_words(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    answer = ask(method, path, content)
    return answer if answer.status == 200 else Answer(answer.status, {"message": "no"})


def refuses_extensions(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    if content and b"extension" in content:
        return Answer(400, {"message": "no"})
    return ask(method, path, content)


def other_key_at_the_slave(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    answer = ask(method, path, content)
    if answer.status == 200 and "dec_keys" in path:
        for entry in answer.document["keys"]:  # type: ignore[index]
            entry["key"] = base64.b64encode(bytes(len(base64.b64decode(entry["key"])))).decode()
    return answer


def found_some(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    """Delivers what it finds of a request with an unknown identifier."""
    answer = ask(method, path, content)
    if answer.status == 400 and content and len(ids := json.loads(content).get("key_IDs", [])) > 1:
        ask(method, path, json.dumps({"key_IDs": ids[:1]}).encode())
    return answer


def spends_on_refusal(method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
    answer = ask(method, path, content)
    if answer.status == 503:
        ask("GET", path)
    return answer


class RemembersKeys:
    """Delivers a key as often as it is asked for, to whoever asks."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, method: str, path: str, content: bytes | None, ask: Callable[..., Answer]) -> Answer:
        answer = ask(method, path, content)
        if answer.status == 200 and answer.document and "keys" in answer.document:
            self.known |= {entry["key_ID"]: entry["key"] for entry in answer.document["keys"]}
        elif content and b"key_IDs" in content:
            ids = [entry["key_ID"] for entry in json.loads(content)["key_IDs"]]
            if all(key_id in self.known for key_id in ids):
                return Answer(200, {"keys": [{"key_ID": i, "key": self.known[i]} for i in ids]})
        return answer


WRONG: list[tuple[str, Alter]] = [
    ("tls_old_version", faithful),
    ("tls_anonymous", faithful),
    ("tls_stranger", faithful),
    ("status_fields", status_with(key_size="256")),
    ("status_fields", status_with(max_SAE_ID_count=None)),
    ("status_names", status_with(slave_SAE_ID="gw-9")),
    ("status_figures", status_with(key_size=1)),
    ("status_figures", status_with(stored_key_count=10**9)),
    ("status_figures", status_with(max_SAE_ID_count=-1)),
    ("status_stranger", gives_anyway),
    ("get_default", two_keys_short),
    ("get_default", status_with(key_size=128)),
    ("get_number_and_size", two_keys_short),
    ("post_default", two_keys_short),
    ("post_number_and_size", two_keys_short),
    ("keys_differ", same_key),
    ("size_multiple", gives_anyway),
    ("size_multiple", own_words),
    ("size_large", gives_anyway),
    ("size_small", gives_anyway),
    ("number_large", gives_anyway),
    ("number_small", gives_anyway),
    ("get_no_number", gives_anyway),
    ("body_no_object", gives_anyway),
    ("body_no_object", bare_errors),
    ("wrong_type", gives_anyway),
    ("extension_mandatory", gives_anyway),
    ("extension_mandatory", own_words),
    ("extension_optional", refuses_extensions),
    ("too_many_slaves", gives_anyway),
    ("enc_stranger", gives_anyway),
    ("too_little_key", gives_anyway),
    ("too_little_key", spends_on_refusal),
    ("other_methods", gives_anyway),
    ("dec_get", other_key_at_the_slave),
    ("dec_post", other_key_at_the_slave),
    ("dec_unknown", gives_anyway),
    ("dec_unknown", own_words),
    ("dec_no_uuid", gives_anyway),
    ("dec_empty", gives_anyway),
    ("dec_once", RemembersKeys()),
    ("dec_all_or_none", found_some),
    ("dec_all_or_none", gives_anyway),
    ("dec_changed", gives_anyway),
    ("dec_other", RemembersKeys()),
    ("multicast", other_key_at_the_slave),
    ("dec_not_for", RemembersKeys()),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_our_kme_passes(check: Check, ours: Target) -> None:
    assert run_check(check, ours) == ("passed", "")


@pytest.mark.parametrize(("name", "alter"), WRONG)
def test_a_wrong_kme_fails(name: str, alter: Alter, ours: Target) -> None:
    result, why = run_check(CHECK[name], wrong(ours, alter))
    assert (result, bool(why)) == ("failed", True)


def test_every_check_is_known_to_fail_and_cites_a_clause() -> None:
    assert {name for name, _ in WRONG} == set(CHECK)
    assert [check.number for check in CHECKS] == list(range(1, len(CHECKS) + 1))
    assert all(check.clause[0] in "456" and check.title for check in CHECKS)


def test_what_cannot_be_checked_is_skipped(ours: Target) -> None:
    alone = Target(master=MASTER, slave=SLAVE, tls=None, enc=ours.enc)
    results = {check.name: run_check(check, alone)[0] for check in CHECKS}
    assert {name for name, result in results.items() if result == "skipped"} == {
        name for name in CHECK if name.startswith(("tls_", "dec_", "multicast"))
    }
    assert "failed" not in results.values()


# Handshakes, against a real server


@contextmanager
def tls_server(directory: Path, context: ssl.SSLContext) -> Iterator[TlsProbe]:
    """A server that answers every request it lets in with 200."""
    ca = create_ca("KME CA")
    (directory / "ca.pem").write_bytes(ca.certificate_pem)
    issue(ca, "kme").save(directory / "kme.pem", directory / "kme.key")
    context.load_cert_chain(directory / "kme.pem", directory / "kme.key")
    context.load_verify_locations(directory / "ca.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield TlsProbe(f"https://127.0.0.1:{listener.getsockname()[1]}", directory / "ca.pem")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_server_that_lets_everybody_in_is_found_out(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    with tls_server(tmp_path, context) as probe:
        assert "TLSv1.1" in (probe.accepts_old_version() or "")
        assert "200" in (probe.accepts_anonymous() or "")
        assert "200" in (probe.accepts_stranger() or "")


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_certificates_keeps_them_out(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, newest
    context.verify_mode = ssl.CERT_REQUIRED
    with tls_server(tmp_path, context) as probe:
        assert probe.accepts_old_version() is None
        assert probe.accepts_anonymous() is None
        assert probe.accepts_stranger() is None
