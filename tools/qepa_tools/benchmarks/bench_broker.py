"""mosquitto with the configuration that the gateway writes for hospitals, and one client that speaks for all boards."""

import getpass
import json
from pathlib import Path

from qepa_gateway.mosquitto.command import write_broker
from qepa_gateway.mosquitto.configuration import Site, password_file
from qepa_wire.topics import all_boards_up

from ..errors import ToolError
from ..ward.mosquitto import find_mosquitto, start_mosquitto
from ..ward.ports import free_port
from ..ward.processes import Child
from .load_ward import GATEWAY

LOAD = "load"
_PASSWORD = "of this benchmark"  # noqa: S105  # lives as long as its broker, on the loopback


class BenchBroker:
    """``port`` is the loopback listener; ``passwords`` by user."""

    def __init__(self, folder: Path, child: Child, port: int) -> None:
        self.child = child
        self.port = port
        self.folder = folder
        self.passwords = {LOAD: _PASSWORD}
        for user in (GATEWAY, "server"):
            self.passwords[user] = json.loads((folder / "clients" / f"{user}.json").read_text())["password"]

    @classmethod
    async def start(cls, folder: Path) -> "BenchBroker":
        """Raises ToolError if mosquitto is missing or does not listen."""
        program = find_mosquitto()
        if program is None:
            raise ToolError("mosquitto is not installed: apt install mosquitto")
        port = free_port()
        write_broker(folder, [Site(GATEWAY)], address="localhost", port=free_port(), local_port=port)
        with (folder / "passwords").open("a") as passwords:
            passwords.write(password_file({LOAD: _PASSWORD}, {LOAD: bytes(12)}))
        topics = all_boards_up(GATEWAY)
        with (folder / "acl").open("a") as rights:
            rights.write(f"\nuser {LOAD}\ntopic write {topics}\ntopic read {topics.removesuffix('up')}down\n")
        configuration = folder / "bench.conf"
        # Started by root it would become another user, who may not read the secrets.
        configuration.write_text((folder / "mosquitto.conf").read_text() + f"user {getpass.getuser()}\n")
        return cls(folder, await start_mosquitto(program, configuration, port=port, log=folder / "broker.log"), port)
