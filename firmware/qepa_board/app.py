"""The board's application: boot, then a few tasks that restart each other's failures.

`from qepa_board.app import run; run()` runs it (see main.py).
"""

import asyncio
import gc
import sys
import time

from qepa_wire.errors import WireError
from qepa_wire.frame import (
    CARE_GRANT,
    CARE_REVOKE,
    FIRMWARE_OFFER,
    FIRMWARE_PIECE,
    LABELS,
    MODEL,
    REKEY,
    ROUND,
    WAVES_WANTED,
)
from qepa_wire.payloads import Hello, decode_rekey, decode_round

from .console import say
from .errors import BoardError, CountersLostError
from .keys.blocks import BlockStore
from .keys.counters import Counters
from .keys.identity import load_identity
from .keys.keyring import Keyring
from .learning.models import ModelStore
from .learning.network import ModelShape
from .monitor import Monitor
from .sensing import Sensing
from .streams.rounds import Rounds
from .system.battery import Battery
from .system.board_file import load_board
from .system.flash import Flash
from .system.health import reset_cause
from .system.slots import BoardSlots
from .transport.backlog import CareBacklog
from .transport.clock import Clock
from .transport.link import Link
from .transport.opening import open_connection
from .transport.outbox import Outbox

DOCK_POLL_MS = 1000
RESTART_LONGEST_MS = 30000
REKEY_PATIENCE = 4  # times the age of a key that is due, for which unacknowledged frames may hold the next back
ROUND_QUEUE = 4
AIR_UPDATE_BYTES = 40000  # free, for a release over the link: its manifest and signature, twice for a moment, and code
NO_KEY = "no link key: load pads at the dock"


class App:
    """One boot of a provisioned board. Without counters it samples, and neither seals nor sends."""

    running = None  # the one of this boot, for whoever looks over the console

    def __init__(self, flash, identity, clock):
        self.clock = clock
        self.identity = identity
        self._flash = flash
        self._slots = BoardSlots(flash)
        self.counters = None
        self.keyring = None
        self.failures = {}
        self.timings_ms = {}  # longest so far of each stage
        board = load_board(flash)
        flag = asyncio.ThreadSafeFlag()
        self.sensing = Sensing(board, flag, identity, clock)
        self.vitals = self.sensing.ecg
        self.monitor = Monitor(self, self.sensing, flash, identity, self._slots, Battery(board.get("battery")))
        self.link = None
        self.rounds = None
        self.models = None
        self.connection = None
        self._orders = []
        self._ordered = asyncio.Event()
        self._rekeyed_ms = 0
        self._padded_ms = 0
        self._step_ms = None  # age at which a key is ratcheted, and at which a pad is replaced: REKEY sets both
        self._pad_ms = 1000 * identity.rekey_s
        self._said_disconnected = ""
        self._busy = False

    # Boot

    def start(self):
        """Load the counters, count this boot and build what rests on them; raises CountersLostError."""
        counters = Counters.load(self._flash)
        identity = load_identity(self._flash)
        if identity is None or identity.end_key != self.identity.end_key:  # the dock came in between
            raise CountersLostError("counters", "of an identity that a reset takes up")
        counters.start_boot()
        vitals = self.vitals
        shape = ModelShape() if vitals is None else vitals.shape
        models = ModelStore(self._flash, counters, self.identity.model_root, shape)
        blocks = BlockStore(self._flash)
        link = Link(self.identity.board, counters, Outbox(self._flash), blocks)
        link.late_care = CareBacklog(self.identity.board, counters, self._flash)
        if vitals is not None:
            vitals.models = models
            self.rounds = Rounds(self.identity, counters, link, models, vitals.pipeline.take_statistics, vitals.update)
        self.keyring = Keyring(self._flash, counters)
        self.models = models
        self.link = link
        self.counters = counters

    @property
    def can_send(self):
        """Whether there are counters and a link key."""
        return self.link is not None and self.link.epoch is not None

    def _next_epoch(self, step, pad=True):
        epoch = self.keyring.next_epoch(step, pad)
        if epoch is None:
            return
        self._rekeyed_ms = self.clock()
        if not epoch.steps:
            self._padded_ms = self._rekeyed_ms
        self.link.begin(epoch, self._hello)
        say(
            "board %08x boot %d epoch %d steps %d pads %d model %d"
            % (
                self.identity.board,
                self.counters.boots,
                epoch.number,
                epoch.steps,
                self.keyring.pads.count(),
                self.models.version,
            )
        )

    def _hello(self):
        epoch = self.link.epoch
        return Hello(
            epoch.key_id,
            epoch.steps,
            self.counters.boots & 0xFFFF,
            self.models.version,
            self.keyring.pads.count(),
            self._slots.version & 0xFFFF,
            self.monitor.battery_permille,
            reset_cause(),
            self._slots.mode,
        )

    # Tasks

    def failed(self, what, error):
        """Count a failure and say it in one line."""
        self.failures[what] = self.failures.get(what, 0) + 1
        say("%s failed: %s: %s" % (what, type(error).__name__, error))

    async def keep_key(self):
        """Wait for what the dock brings, then change the key when its time is over."""
        said = None
        while not self.can_send:
            reason = NO_KEY
            try:
                if self.counters is None:
                    self.start()
                self._next_epoch(True)
            except CountersLostError as error:
                reason = "%s: nothing is sealed until this board is provisioned again, or reset" % error
            if self.can_send:
                break
            if reason != said:
                said = reason
                say(reason)
            await asyncio.sleep_ms(DOCK_POLL_MS)
        while True:
            await asyncio.sleep_ms(DOCK_POLL_MS)
            self.link.blocks.refresh()
            step, pad = self._wants_key()
            if step or pad:
                self._next_epoch(step, pad)

    def _wants_key(self):
        """(step, pad): whether a ratchet step is due now, and whether a pad is."""
        now_ms = self.clock()
        age_ms = now_ms - self._rekeyed_ms
        step_ms = self._step_ms
        step = step_ms is not None and age_ms >= step_ms
        pad = now_ms - self._padded_ms >= self._pad_ms or (step_ms is None and self.counters.steps > 0)
        # The gateway forgets an epoch's key when the next begins: let it take what is under way first.
        if (
            self._busy
            or not self.connection.ready
            or not (self.link.is_settled() or age_ms >= REKEY_PATIENCE * (step_ms or self._pad_ms))
        ):
            return False, False
        return step, pad

    async def connect(self):
        """Keep the connection to the broker."""
        while not self.can_send:
            await asyncio.sleep_ms(DOCK_POLL_MS)
        await self.connection.run()

    def open_connection(self):
        """Prepare the connection; connect() runs it."""
        self.connection = open_connection(self.identity, self._flash, self, self.receive, self.clock)

    def next_frame(self, now_ms):
        """For the connection: the next frame to publish."""
        return self.link.next_frame(now_ms)

    def connected(self):
        """For the connection: it stands."""
        say("connected, %d frames to deliver" % self.link.backlog())
        self._said_disconnected = ""
        self.link.connected()
        self.link.late_care.connected(self.clock())

    def disconnected(self, reason):
        """For the connection: it fell, or did not come to stand."""
        if reason != self._said_disconnected:
            self._said_disconnected = reason
            say("not connected: " + reason)

    def receive(self, payload):
        """For the connection: a frame came down. What it holds never raises; it is taken or counted."""
        started = time.ticks_ms()
        heard = self.link.acknowledged
        frame = self.link.receive(payload)
        if frame is None:
            if self.link.acknowledged and not heard:
                say("acknowledged")
            return
        try:
            self._obey(frame)
        except (WireError, BoardError) as error:
            self.link.refuse(error.reason)
            say("refused type 0x%02x: %s" % (frame.type, error))
        self.note_time("down %02x" % frame.type, started)

    def _obey(self, frame):
        if frame.type == ROUND:
            if self.rounds is None:
                raise BoardError("stream", "this board has no ECG")
            order = decode_round(frame.payload)
            if len(self._orders) >= ROUND_QUEUE:
                raise BoardError("busy", "%d orders wait" % len(self._orders))
            self._orders.append((order, self.clock() + order.deadline_ms))
            self._ordered.set()
        elif frame.type == MODEL:
            if self.models.accept(frame.payload):
                say("model %d" % self.models.version)
                self.link.say_again()
        elif frame.type == REKEY:
            self._step_ms, self._pad_ms = [1000 * age_s for age_s in decode_rekey(frame.payload)]
        elif frame.type == FIRMWARE_OFFER:
            self._air_update().offer(frame.payload)
        elif frame.type == FIRMWARE_PIECE:
            if self.link.firmware is not None:
                self.link.firmware.piece(frame.payload)
        else:
            self._obey_care(frame)

    def _obey_care(self, frame):
        care = self.monitor.care
        if frame.type == CARE_GRANT:
            care.grant(frame.payload, self.sensing.t_ms)
        elif frame.type == CARE_REVOKE:
            care.revoke(frame.payload)
            if not care.active:
                self.monitor.end_care()
        elif frame.type == WAVES_WANTED:
            care.want_waves(frame.payload, self.sensing.t_ms)
        elif frame.type == LABELS and self.vitals is not None:
            self.vitals.label(care.labels(frame.seq, frame.payload, self.counters.boots & 0xFFFF))

    def _air_update(self):
        if self.link.firmware is None:
            gc.collect()
            if hasattr(gc, "mem_free") and gc.mem_free() < AIR_UPDATE_BYTES:
                raise BoardError("memory", "too little for firmware over the air: use the cable")
            from machine import reset  # noqa: PLC0415  seldom asked for, like the rest of it

            from .system.air_update import AirUpdate  # noqa: PLC0415

            updater = self._slots.updater(self.identity.firmware_root, self.identity.transport)
            self.link.firmware = AirUpdate(updater, self._is_quiet, reset)
        return self.link.firmware

    def _is_quiet(self):
        """Whether nobody needs this board at this moment: no round, no emergency."""
        return not self._busy and not self._orders and self.monitor.alerts.is_calm()

    async def answer(self):
        """Answer round orders, one after the other."""
        while True:
            if not self._orders:
                await self._ordered.wait()
                self._ordered.clear()
                continue
            order, deadline_ms = self._orders.pop(0)
            self._busy = True
            started = time.ticks_ms()
            try:
                if self.clock() >= deadline_ms:
                    raise BoardError("late", "past its deadline")
                sealed = await self.rounds.answer(order)
                say("round %d: %d vectors" % (order.round, sealed))
            except (WireError, BoardError) as error:
                self.link.refuse(error.reason)
                say("refused round %d: %s" % (order.round, error))
            finally:
                self._busy = False
            self.note_time("round", started)
            gc.collect()

    def note_time(self, stage, started):
        """Remember how long a stage took since ``started`` (ticks_ms) if it was never longer."""
        took_ms = time.ticks_diff(time.ticks_ms(), started)
        if took_ms > self.timings_ms.get(stage, -1):
            self.timings_ms[stage] = took_ms

    # Supervision

    async def supervise(self, name, task):
        """Run the coroutine function ``task`` for ever: a failure costs one line and a pause, not the board."""
        pause_ms = 500
        while True:
            started_ms = self.clock()
            try:
                await task()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.failed("task " + name, error)
                if not isinstance(error, (BoardError, OSError)):
                    sys.print_exception(error)
            await asyncio.sleep_ms(pause_ms)
            lasted = self.clock() - started_ms > RESTART_LONGEST_MS
            pause_ms = 500 if lasted else min(2 * pause_ms, RESTART_LONGEST_MS)

    async def run(self):
        """Run all tasks."""
        self.open_connection()
        tasks = (
            ("key", self.keep_key),
            ("sample", self.monitor.sample),
            ("connect", self.connect),
            ("rounds", self.answer),
        )
        await asyncio.gather(*[self.supervise(name, task) for name, task in tasks])


async def _wait_for_identity(flash):
    said = None
    while True:
        try:
            identity = load_identity(flash)
            if identity is not None:
                return identity
            reason = "not provisioned: put this board on the dock"
        except BoardError as error:
            reason = "%s: provision this board again" % error
        if reason != said:
            said = reason
            say(reason)
        await asyncio.sleep_ms(DOCK_POLL_MS)


async def _run():
    flash = Flash()
    identity = await _wait_for_identity(flash)
    gc.collect()
    App.running = App(flash, identity, Clock())
    await App.running.run()


def run():
    """Run the application; on an ESP32 it does not return."""
    asyncio.run(_run())
