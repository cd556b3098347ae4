"""mosquitto with the configuration that the gateway writes for hospitals, and one client that speaks for all boards."""

import asyncio
import contextlib
import getpass
import json
import shutil
import sys
from pathlib import Path

from qepa_gateway.mosquitto.command import write_broker
from qepa_gateway.mosquitto.configuration import Site, password_file
from qepa_wire.topics import all_boards_up

from ..errors import ToolError
from ..ward.ports import free_port
from ..ward.processes import Child, die_with_parent
from .load_ward import GATEWAY

LOAD = "load"
_PASSWORD = "of this benchmark"  # noqa: S105  # lives as long as its broker, on the loopback
_PATIENCE_S = 60.0


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
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
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
        log = folder / "broker.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                program,
                "-c",
                str(configuration),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        child = Child("broker", process, log)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while child.running:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        return cls(folder, child, port)
                    await asyncio.sleep(0.05)
        await child.end()
        raise ToolError(f"mosquitto did not start: {child.last_words() or f'see {log}'}")
