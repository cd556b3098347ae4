"""Ports for programs that restart: nobody else's connection, program or test may sit on one meanwhile."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qepa_tools.errors import ToolError
from qepa_tools.ward import ports
from qepa_tools.ward.ports import claim_again, ephemeral_range, free_port, is_free


@pytest.fixture(autouse=True)
def given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test here is given is not kept for the rest of the session: each is an open file."""
    monkeypatch.setattr(ports, "_claims", {})
    yield
    for lock in ports._claims.values():
        os.close(lock)


def test_no_outgoing_connection_is_given_such_a_port() -> None:
    low, high = ephemeral_range()
    assert low < high
    if low > 11_000:
        assert all(10_000 <= free_port() < low for _ in range(50))


def test_a_port_is_given_once() -> None:
    given = [free_port() for _ in range(300)]
    assert len(set(given)) == len(given)


@pytest.fixture
def few_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """Only four ports are there, which are really this test's; the claims on them are made anew, in its own folder."""
    few = [free_port() for _ in range(4)]
    monkeypatch.setattr(ports, "_outside", lambda _: few)
    monkeypatch.setattr(ports, "_TRIES", 200)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    really, ports._claims = ports._claims, {}
    yield few
    for lock in really.values():
        os.close(lock)


def test_two_processes_are_never_given_the_same_port(few_ports: list[int], tmp_path: Path) -> None:
    program = (
        "from qepa_tools.ward import ports\n"
        f"ports._outside = lambda _: {few_ports}\n"
        "print(ports.free_port(), ports.free_port(), flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as other:
        assert other.stdout is not None
        theirs = {int(word) for word in other.stdout.readline().split()}
        ours = {free_port(), free_port()}
        assert len(ours) == len(theirs) == 2
        assert ours | theirs == set(few_ports)
        with pytest.raises(ToolError, match="no TCP port"):
            free_port()
        assert not any(claim_again(port) for port in theirs)
        other.communicate("\n")
    again = theirs.pop()
    assert claim_again(again)
    assert not claim_again(again)
    assert free_port() in theirs


def test_a_port_that_somebody_listens_on_is_not_given(few_ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", few_ports[0])), socket.create_server(("", few_ports[1])):
        assert not is_free(few_ports[0])
        assert not claim_again(few_ports[1])
        assert {free_port(), free_port()} == set(few_ports[2:])
        with pytest.raises(ToolError, match="no TCP port"):
            free_port()


@pytest.mark.parametrize(
    ("ephemeral", "expected"),
    [((32_768, 60_999), range(10_000, 32_768)), ((1_024, 50_000), range(50_001, 65_536))],
)
def test_ports_lie_where_the_kernels_do_not(ephemeral: tuple[int, int], expected: range) -> None:
    assert ports._outside(ephemeral) == expected
