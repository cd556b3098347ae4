"""``python -m qepa_gateway mosquitto``: writes the files; run again for more boards, it keeps what is there."""

import argparse
import datetime as dt
import json
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from qepa_qkd.pki import Credential, create_ca, issue
from qepa_uplink.identity import write_private

from ..errors import ConfigError
from .configuration import BOARD_USERS, Site, access_list, board_user, broker_conf, password_file, users

_SITE = re.compile(r"([a-z0-9][a-z0-9-]{0,31})(?:=([0-9,-]+))?")
_MAX_BOARDS = 4096
_VALID_DAYS = 3650
_BOARDS_BEGIN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""No board sets its clock."""


def parse_site(text: str) -> Site:
    """Parse ``GATEWAY=1-30,42``; raises ConfigError."""
    match = _SITE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no GATEWAY=BOARDS, such as gw-1=1-30,42")
    boards: set[int] = set()
    for part in filter(None, (match[2] or "").split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ConfigError(f"{part!r} in {text!r} is no board and no range of boards")
        low, high = int(first), int(last if dash else first)
        if not 1 <= low <= high <= 0xFFFFFFFF or high - low >= _MAX_BOARDS:
            raise ConfigError(f"{part!r} in {text!r} is no range of boards")
        boards.update(range(low, high + 1))
    return Site(match[1], tuple(sorted(boards)))


def write_broker(out: Path, sites: Sequence[Site], *, address: str, port: int, local_port: int) -> None:
    """Write a broker's folder; what it holds already keeps its passwords and certificates. Raises ConfigError."""
    boards = [board for site in sites for board in site.boards]
    if len(set(boards)) != len(boards) or len({site.gateway for site in sites}) != len(sites):
        raise ConfigError("a gateway or a board is named twice")
    out = out.resolve()
    try:
        for folder in (out, out / "data", out / "clients"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ca = _ca(out)
        if not (out / "broker.pem").exists():
            (out / "broker.key").unlink(missing_ok=True)
            names = sorted({address, "127.0.0.1", "localhost"})
            issue(ca, "broker", addresses=names, valid_days=_VALID_DAYS, since=_BOARDS_BEGIN).save(
                out / "broker.pem", out / "broker.key"
            )
        passwords = {user: _client(out / "clients", user, ca, address, port) for user in users(sites)}
        salts = {user: secrets.token_bytes(12) for user in passwords}
        _replace(out / "passwords", password_file(passwords, salts))
        _replace(out / "acl", access_list(sites))
        _replace(out / "mosquitto.conf", broker_conf(out, port=port, local_port=local_port))
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or out}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{out} holds what this program did not write: {error}") from error


def _ca(out: Path) -> Credential:
    files = out / "ca.pem", out / "ca.key"
    if files[0].exists():
        return Credential.load(*files)
    files[1].unlink(missing_ok=True)  # the certificate is written last
    ca = create_ca("QEPA broker", _VALID_DAYS, since=_BOARDS_BEGIN)
    ca.save(*files)
    return ca


def _client(folder: Path, user: str, ca: Credential, address: str, port: int) -> str:
    """Return ``user``'s password, and keep what it needs to connect; a board's file is ``broker`` in its identity."""
    path = folder / f"{user}.json"
    password = json.loads(path.read_text())["password"] if path.exists() else secrets.token_urlsafe(24)
    if not user.startswith(BOARD_USERS):  # `password_file` of a gateway's and the server's configuration
        _replace(path.with_suffix(".password"), password)
    tls = {"ca": ca.certificate_pem.decode(), "name": address}
    _replace(path, json.dumps({"host": address, "port": port, "user": user, "password": password, "tls": tls}))
    return str(password)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    write_private(fresh, text.encode())
    os.replace(fresh, path)


def mosquitto_command(arguments: Sequence[str]) -> int:
    """Run the subcommand; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="qepa-gateway mosquitto",
        description="Write a broker's configuration, certificates and credentials.",
        epilog="Run `mosquitto -c DIR/mosquitto.conf` as the folder's owner; after a change send it SIGHUP.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--site", action="append", required=True, metavar="GATEWAY=BOARDS", help="such as gw-1=1-30,42; repeat it"
    )
    parser.add_argument("--address", default="127.0.0.1", help="where boards find the broker")
    parser.add_argument("--port", type=_port, default=8883, help="TLS")
    parser.add_argument("--local-port", type=_port, default=1883, help="for the gateway on the same machine")
    chosen = parser.parse_args(arguments)
    try:
        sites = [parse_site(text) for text in chosen.site]
        write_broker(chosen.out, sites, address=chosen.address, port=chosen.port, local_port=chosen.local_port)
    except ConfigError as error:
        print(f"qepa-gateway: {error}", file=sys.stderr)
        return 2
    example = board_user(sites[0].boards[0]) if sites[0].boards else sites[0].gateway
    print(f"{chosen.out}/mosquitto.conf; what a client needs is in {chosen.out}/clients, such as {example}.json")
    return 0


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("1 to 65535")
    return port
