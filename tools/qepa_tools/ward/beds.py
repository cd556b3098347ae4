"""The beds of the ward: virtual boards, the recordings they wear, and the dock that keeps them in keys."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import qepa_board
import qepa_boot
import qepa_kernels
import qepa_wire
from qepa_qkd.errors import QkdError

from ..dock import BoardSettings, Dock
from ..errors import ToolError
from ..fleet.events import Boot, Event, Exit, Log, Pace, Probe, ProgramError
from ..fleet.fleet import BoardError, BoardSpec, Ecg, Fleet
from ..recordings import Recording
from .clinician import Annotated, Labeller
from .layout import Layout
from .plan import WardPlan
from .truth import PROBE, Truth

_LOG = logging.getLogger("qepa.ward")
_MAIN = "from qepa_board.app import run\nrun()\n"
_DOCK_EVERY_S = 4.0
_LABEL_EVERY_S = 1.0


@dataclass(slots=True)
class Bed:
    """One patient with one board."""

    number: int
    patient: str
    gateway: str
    recording: Recording
    start: int
    labeller: Labeller
    delivered: int = 0
    powered: bool = False

    @property
    def board(self) -> str:
        """The board's id as the fleet and the pages write it."""
        return f"{self.number:08x}"


class FleetCradle:
    """A virtual board in the cradle: code runs on its interpreter as mpremote's raw REPL would run it."""

    def __init__(self, fleet: Fleet, board: str) -> None:
        self._fleet, self._board = fleet, board

    async def run(self, code: str) -> str:
        """Run ``code`` on the board; raises ToolError without repeating it, for it may hold keys."""
        try:
            return await self._fleet.exec(self._board, code)
        except BoardError as error:
            last = str(error).strip().splitlines()[-1:]
            raise ToolError(f"board {self._board}: {''.join(last)}") from None


class Beds:
    """All beds; ``truth`` gets what the probes see."""

    def __init__(self, plan: WardPlan, layout: Layout, recordings: list[Recording], truth: Truth) -> None:
        self._plan, self._layout, self._truth = plan, layout, truth
        self.pace: Pace | None = None
        self.fleet = Fleet(on_event=self._on_event)
        self._booted: asyncio.Queue[Boot] = asyncio.Queue()
        chance = random.Random(plan.seed)  # noqa: S311  # which patients lie where, nothing secret
        self.beds = {
            bed.board: bed
            for bed in (
                self._make_bed(number, recordings[(number - 1) % len(recordings)], chance)
                for number in range(1, plan.boards + 1)
            )
        }

    def _make_bed(self, number: int, recording: Recording, chance: random.Random) -> Bed:
        annotated = Annotated(recording.labels, len(recording.samples), recording.fs_hz)
        start = chance.randrange(len(recording.samples))
        patient, gateway = f"patient-{number:03d}", self._plan.gateway_of(number)
        return Bed(number, patient, gateway, recording, start, Labeller(annotated))

    async def power_on(self, broker_port: int, dock: Dock, progress: Callable[[], None], *, renew: bool) -> None:
        """Start every board and enrol those that never were; ``renew`` enrols all again, to tell them a new address."""
        settings = BoardSettings("127.0.0.1", broker_port, self._fs_hz(), self._plan.mains_hz, self._plan.rekey_s)
        for bed in self.beds.values():
            await self._start(bed)
            cradle = FleetCradle(self.fleet, bed.board)
            status = await dock.status(cradle)
            if renew or not status.provisioned:
                reset = await dock.enrol(
                    cradle, board=bed.number, patient=bed.patient, gateway=bed.gateway, settings=settings
                )
                if reset:
                    await self.fleet.kill(bed.board)
                    await self._start(bed)
            progress()

    async def unplug(self, number: int) -> None:
        """Cut the power of a board."""
        bed = self.beds[f"{number:08x}"]
        bed.powered = False
        await self.fleet.kill(bed.board)

    async def replug(self, number: int) -> None:
        """Give a board its power back."""
        await self._start(self.beds[f"{number:08x}"])

    async def _start(self, bed: Bed) -> None:
        feed = self._layout.feed(bed.number)
        feed.parent.mkdir(parents=True, exist_ok=True)
        feed.write_bytes(np.asarray(bed.recording.samples).astype("<u2").tobytes())
        flash = self._layout.flash(bed.number)
        flash.mkdir(parents=True, exist_ok=True)
        spec = BoardSpec(
            board=bed.board,
            flash=flash,
            firmware=tuple(
                Path(package.__file__ or "").parent for package in (qepa_kernels, qepa_wire, qepa_boot, qepa_board)
            ),
            main=_MAIN,
            ecg=Ecg(path=feed, fs_hz=bed.recording.fs_hz, index=bed.start),
            speed=self._plan.speed,
            probe=PROBE,
        )
        await self.fleet.start_board(spec)
        bed.powered = True

    def _fs_hz(self) -> int:
        rates = {bed.recording.fs_hz for bed in self.beds.values()}
        if len(rates) != 1:
            raise ToolError(f"the records have different sampling rates ({sorted(rates)} Hz); a ward wants one")
        return rates.pop()

    def _on_event(self, event: Event) -> None:
        match event:
            case Boot():
                self._booted.put_nowait(event)
            case Probe():
                self._truth.record(int(event.board, 16), event.payload)
            case Pace():
                self.pace = event
                for board, samples in event.samples.items():
                    self.beds[board].delivered = samples
            case Log():
                _LOG.info("board %s: %s", event.board, event.line)
            case ProgramError():
                _LOG.error("board %s: %s", event.board, event.traceback)
            case Exit():
                _LOG.info("board %s is off: %s", event.board, event.reason)

    async def keep_docked(self, dock: Dock) -> None:
        """Visit the dock: note each boot, and load pads wherever fewer than half are left. Runs until cancelled."""
        booted: dict[str, Boot] = {}
        while True:
            while not self._booted.empty():
                boot = self._booted.get_nowait()
                booted[boot.board] = boot
            powered = [bed for bed in self.beds.values() if bed.powered]
            done = [await self._tried(self._visit(bed, dock, booted)) for bed in powered]
            if all(done):  # link keys first: a block is more key than all pads of a board
                for bed in powered:
                    await self._tried(self._load_block(bed, dock))
            await asyncio.sleep(_DOCK_EVERY_S / max(1.0, min(self._plan.speed, 4.0)))

    @staticmethod
    async def _tried(visit: Awaitable[None]) -> bool:
        try:
            await visit
        except (ToolError, QkdError) as error:
            _LOG.warning("dock: %s", error)
            return False
        return True

    async def _visit(self, bed: Bed, dock: Dock, booted: dict[str, Boot]) -> None:
        cradle = FleetCradle(self.fleet, bed.board)
        status = await dock.status(cradle)
        boot = booted.pop(bed.board, None)
        if boot is not None:
            bed.labeller.booted(boots=status.boots, record_index=boot.ecg_index)
        if status.pads < self._plan.pads_per_board / 2:
            await dock.load(cradle, bed.gateway, self._plan.pads_per_board - status.pads)

    async def _load_block(self, bed: Bed, dock: Dock) -> None:
        """A one-time block, for alerts, where less than half of one is left."""
        cradle = FleetCradle(self.fleet, bed.board)
        status = await dock.status(cradle)
        if status.provisioned and status.block_bytes < self._plan.block_bytes / 2:
            await dock.load_blocks(cradle, bed.gateway, 1, self._plan.block_bytes)

    async def keep_labelling(self, bedside: dict[str, httpx.AsyncClient]) -> None:
        """Hand the clinician's labels to the bedside of each gateway. Runs until cancelled."""
        while True:
            for bed in self.beds.values():
                labels = bed.labeller.due(bed.delivered) if bed.powered else []
                if labels:
                    body = {
                        "board": bed.number,
                        "boots": labels[0].boots,
                        "labels": [{"sample": label.sample, "beat_class": label.beat_class} for label in labels],
                    }
                    await _post_labels(bedside[bed.gateway], body)
            await asyncio.sleep(_LABEL_EVERY_S)


async def _post_labels(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    with contextlib.suppress(httpx.TransportError):  # the gateway restarts: these beats stay without a label
        response = await http.post("/api/labels", json=body)
        if response.status_code not in (httpx.codes.ACCEPTED, httpx.codes.CONFLICT):
            _LOG.warning("labels refused: %s", response.text[:200])
