"""The simulated hospital: starts broker, server, gateways and boards, follows the rounds, ends everything."""

import asyncio
import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from qepa_uplink.identity import Identity, Role, Root, write_private

from ..dock import BoardSettings, Dock
from ..ward import processes
from ..ward.layout import Layout, write_toml
from ..ward.ports import free_port
from ..ward.processes import Child
from .broker import start_broker
from .noise import Noise, noise_for
from .plan import SimulationPlan
from .usage import Usage, usage_of

_HTTP_TIMEOUT_S = 60.0
_ENROL_AT_ONCE = 4
_POLL_S = 0.3
_STALLED_S = 120.0  # beyond what a round may take
_READY_S = 120.0
Step = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves behind: its folder, programs' usage by role, and what it ran on."""

    folder: Path
    broker: str
    usage: Mapping[str, Usage]
    complete: bool
    note: str = ""


@dataclass(slots=True)
class _Cradle:
    """A board in the dock's cradle that keeps what it is told."""

    told: dict[str, Any] = field(default_factory=dict)

    async def run(self, code: str) -> str:
        """Answer ``dock.provision(TEXT)`` as a board does."""
        text = code.partition("dock.provision(")[2].removesuffix(")")
        # The dock writes a Python literal of a JSON text, and JSON quotes nothing that a literal would escape.
        self.told = json.loads(text[1:-1])
        return json.dumps({"ok": True, "reset": True})


def _count(database: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 (our own word)


def round_state(database: Path, number: int) -> str:
    """State of a round in a server's database, "" before it opens. Reading it there costs the server nothing."""
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT state FROM rounds WHERE number = ?", (number,)).fetchone()
    return "" if row is None else str(row[0])


class SimulatedHospital:
    """An asynchronous context manager that ends all it started."""

    def __init__(self, plan: SimulationPlan, folder: Path, *, embedded_broker: bool = False) -> None:
        self.plan = plan
        self.layout = Layout(folder)
        self.noise: Noise | None = noise_for(plan)
        self._embedded = embedded_broker
        self._children: dict[str, Child] = {}
        self._http: httpx.AsyncClient | None = None
        self._broker_name = ""
        self._port = free_port()
        self._secret = os.urandom(32)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()
        for role in ("boards", "gateways", "server", "broker"):
            children = [child for name, child in self._children.items() if name.startswith(role)]
            await asyncio.gather(*(child.end(grace_s=60.0) for child in children))

    @property
    def _database(self) -> Path:
        return self.layout.state("server") / "server.db"

    async def start(self, step: Step) -> None:
        """Start everything in order."""
        plan, layout = self.plan, self.layout
        done = step("identities", plan.gateways + 2)
        layout.root.mkdir(parents=True, exist_ok=True)
        layout.root.chmod(0o700)
        server, dock = await asyncio.to_thread(self._make_identities, done)
        done = step("broker and server", 2)
        self._children["broker"], self._broker_name = await start_broker(
            layout.root, self._port, embedded=self._embedded
        )
        done()
        self._http = httpx.AsyncClient(base_url=await self._start_server(), timeout=_HTTP_TIMEOUT_S)
        done()
        await self._enrol(Dock(dock, server.subject, self._http, {}), step("enrolments", plan.boards))
        done = step("gateways and boards", plan.processes + 1)
        await self._start_gateways(done)
        await self._until_sessions()
        await self._run("boards", "qepa_tools.simulation.boards", self._task("boards", self._boards_task()))
        done()

    async def follow(self, advanced: Callable[[int, str], None]) -> Outcome:
        """Wait until the rounds are over, telling ``advanced(number, state)`` of each; nothing else is asked for."""
        plan, note = self.plan, ""
        longest_s = plan.period_s + plan.collect_within_s + plan.settle_within_s + _STALLED_S
        loop = asyncio.get_running_loop()
        number, changed_s = 1, loop.time()
        while number <= plan.rounds:
            gone = [name for name, child in self._children.items() if not child.running]
            if gone:
                note = f"{gone[0]} ended: {self._children[gone[0]].last_words()}"
                break
            state = round_state(self._database, number)
            if state in ("done", "void"):
                advanced(number, state)
                number, changed_s = number + 1, loop.time()
                continue
            if loop.time() - changed_s > longest_s:
                note = await self._why_stalled()
                break
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(2.0)  # the last release is still on its way to boards
        usage = {name: usage_of(child.process.pid) for name, child in self._children.items()}
        return Outcome(self.layout.root, self._broker_name, usage, not note, note)

    async def _why_stalled(self) -> str:
        assert self._http is not None  # noqa: S101  # start() made it
        try:
            state = (await self._http.get("/api/state")).json()
        except httpx.HTTPError as error:
            return f"the server does not answer ({type(error).__name__})"
        return "; ".join(state["not_asked_for"]) or "no round ended in time"

    def _make_identities(self, done: Callable[[], None]) -> tuple[Identity, Identity]:
        root = Root.open(self.layout.root / "root.key")
        self.layout.root_public.write_bytes(root.public_key)

        def issue(name: str, role: Role) -> Identity:
            identity = root.issue(name, role)
            identity.save(self.layout.identity(name))
            done()
            return identity

        server, dock = issue("server", "server"), issue("dock", "dock")
        for gateway in self.plan.gateway_names:
            issue(gateway, "gateway")
        self.layout.server_certificate.write_text(server.certificate.model_dump_json())
        return server, dock

    async def _run(self, name: str, module: str, arguments: list[str]) -> dict[str, Any]:
        child = self._children[name] = await processes.start(name, module, arguments, logs=self.layout.logs)
        return await processes.ready(child, timeout_s=_READY_S)

    async def _start_server(self) -> str:
        plan, layout, noise = self.plan, self.layout, self.noise
        tables: dict[str, Mapping[str, Any]] = {
            "broker": {"host": "127.0.0.1", "port": self._port},
            "rounds": {
                "period_s": plan.period_s,
                "ready_within_s": 10.0,
                "collect_within_s": plan.collect_within_s,
                "settle_within_s": plan.settle_within_s,
                "min_group": plan.min_group,
                "cell_target": plan.cell_target,
                "max_rounds": plan.rounds,
                "gateways_expected": plan.gateways,
                "patients_expected": plan.patients,
                "first_within_s": 300.0,
            },
            "ward": {"simulated": True, "data_source": "invented by qepa simulate"},
        }
        if noise is not None:
            tables |= {
                "statistics": noise.statistics,
                "learning": noise.learning,
                "privacy.statistics": noise.budget,
                "privacy.learning": noise.budget,
            }
        paths = {
            "state_dir": str(layout.state("server")),
            "identity": str(layout.identity("server")),
            "root_key": str(layout.root_public),
        }
        config = write_toml(layout.config("server"), {"name": "server", **paths, **tables})
        answer = await self._run("server", "qepa_server", ["--config", str(config)])
        return str(answer["api"])

    async def _enrol(self, dock: Dock, done: Callable[[], None]) -> None:
        """Enrol every board through the server's API, as the key dock does."""
        plan = self.plan
        worn = plan.boards_of_patients()
        settings = BoardSettings("127.0.0.1", self._port, 250, 50, 30)
        at_once = asyncio.Semaphore(_ENROL_AT_ONCE)

        async def enrol(board: int) -> dict[str, Any]:
            whose = plan.patient_of(board)
            who = {"patient": f"p-{whose + 1}", "gateway": plan.gateway_of(whose)}
            cradle = _Cradle()
            async with at_once:
                await dock.enrol(cradle, board=board, settings=settings, patient_boards=worn[whose], **who)
            done()
            keys = {name: cradle.told[name] for name in ("end_key", "cohort_key", "model_root")}
            return {"board": board, "patient_boards": worn[whose], **who, **keys}

        records = await asyncio.gather(*(enrol(board) for board in range(1, plan.boards + 1)))
        await asyncio.to_thread(write_private, self.layout.root / "boards.json", json.dumps(records).encode())

    async def _start_gateways(self, done: Callable[[], None]) -> None:
        configs = [str(self._gateway_config(name)) for name in self.plan.gateway_names]
        n = self.plan.processes
        for i in range(n):
            role = "gateways" if n == 1 else f"gateways-{i + 1}"
            traffic = str(self.layout.root / f"traffic-{i + 1}.json")
            task = self._task(role, {"configs": configs[i::n], "traffic": traffic})
            await self._run(role, "qepa_tools.simulation.gateways", task)
            done()

    async def _until_sessions(self) -> None:
        """Wait until every gateway has a session, so that boards do not meet gateways that do not know them yet."""
        async with asyncio.timeout(_READY_S):
            while _count(self._database, "gateways") < self.plan.gateways:
                await asyncio.sleep(_POLL_S)

    def _gateway_config(self, name: str) -> Path:
        layout = self.layout
        return write_toml(
            layout.config(name),
            {
                "name": name,
                "state_dir": str(layout.state(name)),
                "identity": str(layout.identity(name)),
                "root_key": str(layout.root_public),
                "server_certificate": str(layout.server_certificate),
                "min_group": self.plan.min_group,
                "broker": {"host": "127.0.0.1", "port": self._port},
                "bedside": {"host": "127.0.0.1", "port": 0, "token_file": str(layout.state(name) / "token")},
                "model_rollout": {"soak_s": 0.5},
            },
        )

    def _boards_task(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self._port,
            "boards": str(self.layout.root / "boards.json"),
            "truth": str(self.layout.root / "truth"),
        }

    def _task(self, name: str, content: Mapping[str, Any]) -> list[str]:
        path = self.layout.root / f"{name}.task.json"
        plan = dataclasses.asdict(self.plan) | {"out": None}
        write_private(path, json.dumps({"plan": plan, "secret": self._secret.hex(), **content}).encode())
        return [str(path)]
