"""What mosquitto reads: mosquitto.conf(5), its password file and its access list. Pure: texts from values."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qepa_uplink.topics import TO_SERVER_ALL, to_gateway, to_server
from qepa_wire.topics import all_boards_up, board_down, board_up

SERVER = "server"
BOARD_USERS = "board-"
_ITERATIONS = 101
"""mosquitto's own. Passwords here are 192 random bits, which no number of iterations makes safer."""


@dataclass(frozen=True, slots=True)
class Site:
    """One gateway and the numbers of its boards."""

    gateway: str
    boards: tuple[int, ...] = ()


def board_user(board: int) -> str:
    """Name under which a board logs in."""
    return f"{BOARD_USERS}{board:08x}"


def users(sites: Iterable[Site]) -> tuple[str, ...]:
    """All who may log in."""
    found = [SERVER]
    for site in sites:
        found += [site.gateway, *map(board_user, site.boards)]
    return tuple(found)


def broker_conf(directory: Path, *, port: int, local_port: int) -> str:
    """mosquitto.conf. ``directory`` is absolute; boards and other machines come by TLS, this machine by loopback too.

    No queue is limited and nothing is dropped silently: gateways and boards repeat what is not acknowledged, and a
    broker that discards does not say so. A client is known by its user name, so none can take another's session.
    """
    return f"""# Written by `python -m qepa_gateway mosquitto`; run it again rather than edit.
per_listener_settings false
allow_anonymous false
password_file {directory}/passwords
acl_file {directory}/acl

listener {port}
certfile {directory}/broker.pem
keyfile {directory}/broker.key
tls_version tlsv1.2
use_username_as_clientid true

listener {local_port} 127.0.0.1
use_username_as_clientid true

persistence true
persistence_location {directory}/data/
autosave_on_changes true
autosave_interval 100
max_queued_messages 0
max_queued_bytes 0
max_packet_size 4000000
retain_available false
sys_interval 0
"""


def access_list(sites: Iterable[Site]) -> str:
    """Who may publish (write) and receive (read) what; everything else is refused."""
    sites = tuple(sites)
    blocks = [_block(SERVER, [("read", TO_SERVER_ALL), ("write", to_gateway("+"))])]
    for site in sites:
        blocks.append(
            _block(
                site.gateway,
                [
                    ("read", all_boards_up(site.gateway)),
                    ("write", all_boards_up(site.gateway).removesuffix("up") + "down"),
                    ("read", to_gateway(site.gateway)),
                    ("write", to_server(site.gateway)),
                    # Signed by the sender and opened against its certificate, so more than one may write there.
                    ("write", to_gateway("+")),
                ],
            )
        )
        blocks += [
            _block(
                board_user(board),
                [("write", board_up(site.gateway, board)), ("read", board_down(site.gateway, board))],
            )
            for board in site.boards
        ]
    return "\n".join(blocks)


def _block(user: str, rights: list[tuple[str, str]]) -> str:
    return f"user {user}\n" + "".join(f"topic {right} {topic}\n" for right, topic in rights)


def password_file(passwords: Mapping[str, str], salts: Mapping[str, bytes]) -> str:
    """mosquitto_passwd(1), hash 7: PBKDF2 with HMAC-SHA-512, 64 bytes."""
    lines = []
    for user, password in sorted(passwords.items()):
        salt = salts[user]
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
        fields = (str(_ITERATIONS), base64.b64encode(salt).decode(), base64.b64encode(digest).decode())
        lines.append(f"{user}:$7${'$'.join(fields)}\n")
    return "".join(lines)
