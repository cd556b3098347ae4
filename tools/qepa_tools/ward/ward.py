"""The ward as one object: who runs in it, how it starts, mends itself and ends."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from ..consent.desk import ConsentDesk
from ..dock import Dock
from ..errors import ToolError
from ..fleet.runtime import FleetError
from ..recordings import Recording, find_data, synthetic_cohort, ward_split
from . import processes
from .beds import Beds
from .layout import Layout, Parties, prepare, write_toml
from .links import Link, start_link
from .plan import WardPlan
from .ports import claim_again, free_port, is_free
from .processes import Child
from .truth import Truth

_LOG = logging.getLogger("qepa.ward")
_SYNTHETIC_PERSONS = 24
_SYNTHETIC_S = 600.0
_WARD_PERSONS = 12
_CONSENT_VALID_S = 30 * 86400
_HTTP_TIMEOUT_S = 10.0

Step = Callable[[str, int], Callable[[], None]]


class Ward:
    """A running ward; an asynchronous context manager that ends all it started."""

    def __init__(self, plan: WardPlan) -> None:
        self.plan = plan
        self.layout: Layout
        self._parties: Parties
        self.layout, self._parties = prepare(plan)
        self.truth = Truth()
        self.held_out: list[Recording] = []
        self.data_source = ""
        self.trouble = ""
        self._children: dict[str, Child] = {}
        self._restart: dict[str, Callable[[], Any]] = {}
        self._links: dict[str, Link] = {}
        self._bedside: dict[str, httpx.AsyncClient] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._http: httpx.AsyncClient | None = None
        self._beds: Beds | None = None
        self._ending = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._beds is not None:
            await self._beds.fleet.stop()
        clients = [self._http, *self._bedside.values()]
        await asyncio.gather(*(client.aclose() for client in clients if client is not None))
        # Gateways and server first, so that what they still have to say finds a broker.
        names = sorted(self._children, key=lambda name: (name == "broker", name))
        for group in ([name for name in names if name != "broker"], ["broker"]):
            await asyncio.gather(*(self._children[name].end() for name in group if name in self._children))

    @property
    def page_url(self) -> str | None:
        """Where the ward's page is, if it is wanted."""
        return None if self.plan.page_port is None else f"http://127.0.0.1:{self.plan.page_port}/"

    @property
    def notice(self) -> str:
        """What every screen says of where its values come from."""
        return f"Simulated ward: {self.data_source}; virtual optical link; boards are a real MicroPython (WASM)"

    @property
    def pace(self) -> str:
        """How fast ward time runs."""
        pace = None if self._beds is None else self._beds.pace
        if pace is None:
            return "starting"
        text = f"ward time runs {pace.real:.1f} x real time"
        if pace.lagging:
            return f"{text}: this machine can't keep up with {pace.asked:g} x; it slows down and drops nothing"
        return text

    @property
    def beds(self) -> Beds:
        """The beds, once started."""
        if self._beds is None:
            raise ToolError("the ward has not started")
        return self._beds

    def child(self, name: str) -> Child:
        """The program called ``name`` ("server", "gw-1", ...) as it runs now."""
        return self._children[name]

    def log_file(self) -> Path:
        """Where the ward itself writes."""
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        return self.layout.logs / "ward.log"

    async def start(self, step: Step) -> None:
        """Start everything in order; ``step(title, total)`` returns a function to call once for each part done."""
        if self.plan.page_port is not None and not is_free(self.plan.page_port):
            raise ToolError(f"port {self.plan.page_port} is busy: end what uses it, or choose another with --page-port")
        patients = await self._find_recordings(step("recordings", 1))
        broker_port, renew = self._broker_port()
        done = step("broker and server", 2)
        await self._run("broker", "qepa_tools.ward.broker", ["--port", str(broker_port)])
        done()
        self._http = httpx.AsyncClient(base_url=await self._start_server(broker_port), timeout=_HTTP_TIMEOUT_S)
        done()
        await self._start_links(step("optical links", self.plan.gateways))
        await self._start_gateways(broker_port, step("gateways", self.plan.gateways))
        clients = {gateway: link.dock_client() for gateway, link in self._links.items()}
        dock = Dock(self._parties.dock, self._parties.server.subject, self._http, clients)
        self._beds = Beds(self.plan, self.layout, patients, self.truth)
        try:
            await self._beds.fleet.__aenter__()
            await self._beds.power_on(broker_port, dock, step("boards", self.plan.boards), renew=renew)
        except FleetError as error:
            raise ToolError(f"the boards could not start: {error}") from error
        await self._give_consents(step("consents", self.plan.boards))
        self._tasks += [
            asyncio.create_task(self._beds.keep_docked(dock)),
            asyncio.create_task(self._beds.keep_labelling(self._bedside)),
            asyncio.create_task(self._keep_running()),
        ]

    async def state(self) -> dict[str, Any] | None:
        """The server's state, or None while it does not answer (``trouble`` says why)."""
        answer = await self._get("/api/state")
        return answer if isinstance(answer, dict) else None

    async def round(self, number: int) -> dict[str, Any] | None:
        """What the server opened in one round."""
        return await self._get(f"/api/rounds/{number}")

    async def model(self) -> dict[str, Any] | None:
        """The server's model."""
        return await self._get("/api/model")

    async def check(self) -> None:
        """Raise what ended one of the ward's own tasks, if one ended."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _get(self, path: str) -> dict[str, Any] | None:
        if self._http is None:
            self.trouble = "the server has not started"
            return None
        try:
            response = await self._http.get(path)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        except httpx.HTTPError as error:
            self.trouble = f"the server does not answer ({type(error).__name__})"
            return None
        self.trouble = ""
        return answer

    async def _find_recordings(self, done: Callable[[], None]) -> list[Recording]:
        directory = find_data(self.plan.data)
        persons = min(_WARD_PERSONS, self.plan.boards)
        if directory is None:
            recordings = await asyncio.to_thread(synthetic_cohort, self.plan.seed, _SYNTHETIC_PERSONS, _SYNTHETIC_S)
            patients, self.held_out = list(recordings[:_WARD_PERSONS]), list(recordings[_WARD_PERSONS:])
            self.data_source = "SYNTHETIC ECG (ECGSYN model, no person's data)"
        else:
            from ..recordings.physionet import load_all  # noqa: PLC0415  # pandas takes a second to import

            recordings = await asyncio.to_thread(load_all, directory)
            patients, self.held_out = ward_split(recordings, self.plan.seed, persons)
            self.data_source = f"recordings of {len(patients)} people ({directory.name})"
            if self.plan.boards > len(patients):
                self.data_source += f", replayed at different times on {self.plan.boards} boards"
        done()
        return patients

    def _broker_port(self) -> tuple[int, bool]:
        """The broker's port and whether boards must be told anew: kept, since boards carry it in their flash."""
        record = self.layout.root / "broker.json"
        known = record.exists()
        port = int(json.loads(record.read_text())["port"]) if known else free_port()
        if known and claim_again(port):
            return port, False
        port = port if not known else free_port()
        record.write_text(json.dumps({"port": port}))
        return port, known

    async def _run(self, name: str, module: str, arguments: list[str]) -> dict[str, Any]:
        child = self._children[name] = await processes.start(name, module, arguments, logs=self.layout.logs)
        answer = await processes.ready(child)
        self._restart[name] = lambda: self._run(name, module, arguments)
        return answer

    async def _start_server(self, broker_port: int) -> str:
        plan = self.plan
        config = write_toml(
            self.layout.config("server"),
            {
                "name": "server",
                "state_dir": str(self.layout.state("server")),
                "identity": str(self.layout.identity("server")),
                "root_key": str(self.layout.root_public),
                "broker": {"host": "127.0.0.1", "port": broker_port},
                "api": {"host": "127.0.0.1", "port": plan.page_port or free_port()},
                "rounds": {
                    "period_s": plan.period_s / plan.speed,
                    "ready_within_s": 5.0,
                    "collect_within_s": 15.0,
                    "settle_within_s": 15.0,
                    "gateways_expected": plan.gateways,
                    "patients_expected": plan.boards,
                    "first_within_s": 60.0,
                },
                # No model with a hidden layer ships, and from a random start the defaults would hardly move it.
                "learning": {"hidden": plan.hidden, **({"rate_numerator": 4, "decay": 16} if plan.hidden else {})},
                "ward": {"simulated": True, "data_source": self.data_source},
            },
        )
        answer = await self._run("server", "qepa_server", ["--config", str(config)])
        return str(answer["api"])

    async def _start_links(self, done: Callable[[], None]) -> None:
        for i, gateway in enumerate(self.plan.gateway_names()):
            link = self._links[gateway] = await start_link(self.layout, gateway, self.plan.seed + i, self._run)
            _LOG.info("link of %s: Alice %s, Bob %s", gateway, link.alice_url, link.bob_url)
            done()

    async def _start_gateways(self, broker_port: int, done: Callable[[], None]) -> None:
        for gateway, link in self._links.items():
            token_file = self.layout.state(gateway) / "bedside.token"
            config = write_toml(
                self.layout.config(gateway),
                {
                    "name": gateway,
                    "state_dir": str(self.layout.state(gateway)),
                    "identity": str(self.layout.identity(gateway)),
                    "root_key": str(self.layout.root_public),
                    "server_certificate": str(self.layout.server_certificate),
                    "broker": {"host": "127.0.0.1", "port": broker_port},
                    "kme": {
                        "url": link.bob_url,
                        "ca": str(link.gateway_tls.ca),
                        "cert": str(link.gateway_tls.certificate),
                        "key": str(link.gateway_tls.private_key),
                        "master_sae": "dock",
                    },
                    "bedside": {"host": "127.0.0.1", "port": free_port(), "token_file": str(token_file)},
                    # A round seconds after a release must find it on every board, however slow the machine is.
                    "model_rollout": {"staged": False},
                },
            )
            answer = await self._run(gateway, "qepa_gateway", ["--config", str(config)])
            self._bedside[gateway] = httpx.AsyncClient(
                base_url=answer["bedside"],
                headers={"Authorization": f"Bearer {token_file.read_text().strip()}"},
                timeout=_HTTP_TIMEOUT_S,
            )
            done()

    async def _give_consents(self, done: Callable[[], None]) -> None:
        """Every virtual patient consents to live monitoring, unless an earlier run's consent still holds."""
        assert self._http is not None  # noqa: S101  # start() made it
        desk = ConsentDesk(self._parties.consent_desk, self._http)
        state = await self.state()
        consented = set() if state is None else {board["board"] for board in state["boards"] if board["consent"]}
        for bed in self.beds.beds.values():
            if bed.board not in consented:
                await desk.consent(bed.patient, (bed.number,), valid_s=_CONSENT_VALID_S)
            done()

    async def _keep_running(self) -> None:
        """Start again whatever ended, as systemd would."""
        while not self._ending:
            for name, child in list(self._children.items()):
                if child.running:
                    continue
                _LOG.warning("%s ended (%s); starting it again", name, child.last_words())
                try:
                    await self._restart[name]()
                except ToolError as error:
                    _LOG.error("%s", error)
            await asyncio.sleep(1.0)
