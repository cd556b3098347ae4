"""The sampling loop and what follows from samples at once: alerts, care records, the proof that this firmware works.

The watchdog is fed here and nowhere else: a board that no longer samples restarts.
"""

import asyncio
import time

import machine

from qepa_wire.measures import HEART_RATE, UNKNOWN
from qepa_wire.payloads import ALERT_BATTERY_LOW

from .console import say
from .errors import BoardError
from .streams.alerts import AlertEdges
from .streams.care import CareStream
from .system.health import HeapWatch
from .system.proof import Proof

WATCHDOG_MS = 8000
POLL_MS = 100  # sensors are asked at least this often: an interrupt can be missed, slow ones have none
ALERT_RETRY_MS = 1000
SECOND_MS = 1000
BATTERY_EVERY_S = 60


class Monitor:
    """Watches one patient. ``app`` gives link, counters, models and connection once there are any."""

    def __init__(self, app, sensing, flash, identity, slots, battery):
        self._app = app
        self.sensing = sensing
        self.alerts = AlertEdges(flash)
        self.care = CareStream(identity.board, identity.end_key, flash)
        self.battery = battery
        self.battery_permille = battery.permille()
        self.heap = HeapWatch()
        self._proof = Proof(flash, slots)
        self._alert_retry_ms = 0
        self._seconds = 0

    async def sample(self):
        """Read the sensors for ever, and feed the watchdog after each time."""
        sensing = self.sensing
        watchdog = machine.WDT(timeout=WATCHDOG_MS)
        sensing.start()
        poller = asyncio.create_task(self._poll())
        due_ms = sensing.t_ms + SECOND_MS
        try:
            while True:
                await sensing.flag.wait()
                while sensing.poll():
                    self._watch(sensing.urgent())
                    if sensing.t_ms >= due_ms:
                        due_ms = self._second_is_over(due_ms)
                    watchdog.feed()
                    await asyncio.sleep(0)
                if sensing.t_ms >= due_ms:
                    due_ms = self._second_is_over(due_ms)
                if not sensing.is_stuck():
                    watchdog.feed()
        finally:
            poller.cancel()
            sensing.stop()

    async def _poll(self):
        while True:
            await asyncio.sleep_ms(POLL_MS)
            self.sensing.flag.set()

    def _second_is_over(self, due_ms):
        self._second()
        return max(due_ms + SECOND_MS, self.sensing.t_ms)

    def _watch(self, conditions):
        """Queue an alert for every edge; while there is no key, or flash refuses, it is offered again."""
        app = self._app
        t_ms = self.sensing.t_ms
        if not app.can_send or t_ms < self._alert_retry_ms:
            return
        try:
            for kind, level in self.alerts.edges(t_ms, conditions):
                app.link.send_alert(self.sensing.alert(app.counters.boots, kind, level, self.battery_permille))
                self.alerts.confirm(kind, level)
                say("alert %d %s" % (kind, "level %d" % level if level else "ends"))
        except BoardError as error:
            self._alert_retry_ms = t_ms + ALERT_RETRY_MS
            app.failed("alert", error)

    def _second(self):
        app = self._app
        self._seconds += 1
        started = time.ticks_ms()
        self.sensing.second()
        if self._seconds % BATTERY_EVERY_S == 0:
            self.battery_permille = self.battery.permille()
            self.heap.note()
        conditions = self.sensing.conditions(self.alerts)
        conditions[ALERT_BATTERY_LOW] = self.battery.low
        self._watch(conditions)
        try:
            if self.care.expire(self.sensing.t_ms):
                self.end_care()
            if app.link is not None:
                self._offer_care(app.clock())
        except BoardError as error:
            app.failed("care", error)
        app.note_time("second", started)
        self._prove()

    def _prove(self):
        connection = self._app.connection
        try:
            if self._proof.second(self.sensing.states, self.sensing.has_samples, connection.ready):
                say("this firmware has proved itself")
                if self._app.link is not None:
                    self._app.link.say_again()
        except BoardError as error:
            say("%s: back to the firmware before" % error)
            machine.reset()

    def _offer_care(self, now_ms):
        """This second's care record: live, or kept for later while there is no connection."""
        app = self._app
        late = app.link.late_care
        is_connected = app.connection.ready
        late.consent(self.care.key, self.care.consent_id, now_ms, is_connected)
        if not self.care.active or not (is_connected or late.wants(now_ms)):
            return
        record = self.sensing.care(app.counters.boots, app.models.version, self.alerts)
        if not is_connected:
            late.keep(record, now_ms)
            return
        app.link.send_care(self.care.key, self.care.consent_id, record)
        if self.care.wants_waves(self.sensing.t_ms):
            try:
                app.link.send_waves(self.care.key, self.care.consent_id, self.sensing.waves(app.counters.boots))
            except MemoryError:
                app.link.refuse("memory")  # no piece of heap is large enough now: that second is missing
        for code, _, value in record.measures:
            if code == HEART_RATE and value != UNKNOWN:
                app.connection.show_heart_rate(value, not self.sensing.lead_off)

    def end_care(self):
        """The consent is over: nothing of it waits any more."""
        app = self._app
        app.link.drop_care()
        app.link.late_care.consent(None, None, app.clock(), app.connection.ready)
        app.connection.hide_heart_rate()
