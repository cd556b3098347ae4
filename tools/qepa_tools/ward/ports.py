"""TCP ports of this machine's loopback for programs that must get them again whenever they restart.

None is from the range that the kernel gives to outgoing connections (RFC 6056, section 2.1): while a program is down,
any connection could take one of those, and the program could not come back.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

from ..errors import ToolError

_LOWEST: Final = 10_000
_HIGHEST: Final = 65_535
_FEWEST: Final = 1_000
_EPHEMERAL: Final = (32_768, 60_999)
"""Of Linux; macOS and IANA begin higher."""
_TRIES: Final = 10_000

_claims: dict[int, int] = {}
"""Open lock file of each port that this process was given; no other process gets the port while it is open."""


def free_port() -> int:
    """Return a port that nobody listens on and that no process of this user gets while this one lives.

    Raises ToolError when there is none.
    """
    ports = _outside(ephemeral_range())
    try:
        folder = _claims_folder()
        for _ in range(_TRIES):
            port = random.choice(ports)  # noqa: S311  # no secret: processes that start together should not collide
            if _claim(folder, port) and is_free(port):
                return port
    except OSError as error:
        raise ToolError(f"no TCP port can be reserved: {error.strerror}: {error.filename}") from None
    raise ToolError(f"no TCP port from {ports[0]} to {ports[-1]} is free")


def claim_again(port: int) -> bool:
    """Whether ``port``, given to an earlier run, is free still; then it is this process's while it lives."""
    try:
        return _claim(_claims_folder(), port) and is_free(port)
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Whether nobody listens on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def ephemeral_range() -> tuple[int, int]:
    """The lowest and highest port that the kernel gives to outgoing connections."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return _EPHEMERAL


def _outside(ephemeral: tuple[int, int]) -> range:
    """Ports below the ephemeral ones, or above; a machine that leaves neither gets what others leave alone mostly."""
    low, high = ephemeral
    if low - _LOWEST >= _FEWEST:
        return range(_LOWEST, low)
    if _HIGHEST - high >= _FEWEST:
        return range(high + 1, _HIGHEST + 1)
    return range(_LOWEST, _EPHEMERAL[0])


def _claims_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"qepa-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _claim(folder: Path, port: int) -> bool:
    if port in _claims:
        return False
    lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _claims[port] = lock
    return True
