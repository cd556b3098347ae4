"""Keeps the board reachable over Bluetooth LE: advertises, secures, moves frames; the counterpart of connection.py.

The Heart Rate service is registered from the start where a passkey makes links authentic, because services cannot come
and go under a connection, and so that its being there tells nothing; it speaks only under a consent, to a central that
has paired with the passkey, and forgets its values when either ends.
"""

import asyncio
import errno

import bluetooth

from qepa_wire.errors import WireError
from qepa_wire.fragments import MAX_MTU, Fragmenter, Reassembler
from qepa_wire.gatt import (
    BODY_SENSOR_LOCATION,
    CHEST,
    DOWN,
    HEART_RATE,
    HEART_RATE_MEASUREMENT,
    INFO,
    SERVICE,
    UP,
    advertisement,
    encode_info,
    heart_rate_measurement,
)

from ..errors import BoardError
from .ble import ADVERTISE, CONNECT, DISCONNECT, DROP, ENCRYPTION, MTU, OPENED, PAIR, READY, Peripheral

MAX_DOWN = 8192  # a model release with a two-level HSS signature is below
POLL_MS = 20
CONGESTED_MS = 10
BURST = 8  # fragments between two looks at everything else
INBOX = 4
ADVERTISE_US = 250000

# MicroPython's docs, library/bluetooth: events, flags, capabilities
_GATTS_WRITE = 3
_GET_SECRET = 29
_SET_SECRET = 30
_PASSKEY_ACTION = 31
_READ = 0x0002
_WRITE_NO_RESPONSE = 0x0004
_WRITE = 0x0008
_NOTIFY = 0x0010
_READ_ENCRYPTED = 0x0200
_READ_AUTHENTICATED = 0x0400
_WRITE_ENCRYPTED = 0x1000
_WRITE_AUTHENTICATED = 0x2000
_DISPLAY_ONLY = 0
_NO_INPUT_OUTPUT = 3
_PASSKEY_DISPLAY = 3

_FULL = (errno.ENOMEM, errno.EAGAIN, 16)  # EBUSY, which not every port names


class BleConnection:
    """Sends what ``source`` has and hands what comes down to ``sink``, as Connection does.

    bonds: Bonds; passkey: six digits as an int, which the central must be told, or None for pairing that only a
    passive listener cannot follow ("just works").
    """

    def __init__(self, board, source, sink, clock, bonds, passkey=None):
        self._source = source
        self._sink = sink
        self._clock = clock
        self._bonds = bonds
        self._passkey = passkey
        self._info = encode_info(board, MAX_MTU, MAX_DOWN)
        self._radio = bluetooth.BLE()
        self._core = None
        self._out = Fragmenter()
        self._in = Reassembler(MAX_DOWN)
        self._waiting = None  # a fragment that the stack had no room for
        self._writer = None  # the connection whose fragments are taken
        self._events = []
        self._inbox = []
        self._heart = None
        self._shows_heart = False
        self.ready = False
        self.connects = 0
        self.faults = 0
        self.last_fault = ""
        self.congested = 0
        self.refused = {}

    # Called by the stack, on an ESP32 from its own thread between any two bytecodes: no waiting, no flash, no raising.

    def _irq(self, event, data):
        if event == _GATTS_WRITE:
            self._written(data[0], data[1])
        elif event == _GET_SECRET:
            return self._bonds.get(*data)
        elif event == _SET_SECRET:
            return self._bonds.set(*data)
        elif event == _PASSKEY_ACTION:
            if data[1] == _PASSKEY_DISPLAY and self._passkey is not None:
                self._radio.gap_passkey(data[0], data[1], self._passkey)
        elif event == CONNECT:
            if self._writer is None:
                self._writer = data[0]
                self._in.reset()
            self._events.append((event, data[0]))
        elif event == DISCONNECT:
            if self._writer == data[0]:
                self._writer = None
            self._events.append((event, data[0]))
        elif event in (MTU, ENCRYPTION):
            self._events.append((event,) + tuple(data))  # noqa: RUF005  MicroPython has no *data here
        return None

    def _written(self, conn, handle):
        try:
            value = self._radio.gatts_read(handle)
            if handle != self._down or conn != self._writer:
                return
            frame = self._in.push(value)
            if frame is None:
                return
            if not frame:
                self._events.append((OPENED, conn))
            elif len(self._inbox) < INBOX:
                self._inbox.append(frame)
            else:
                self._refuse("busy")
        except WireError as error:
            self._refuse(error.reason)
        except MemoryError:
            self._refuse("memory")

    def _refuse(self, reason):
        self.refused[reason] = self.refused.get(reason, 0) + 1

    # The application's side

    async def run(self):
        """Stay reachable for ever; what raises, or cancels it, leaves the radio off, and it may be run again."""
        try:
            self._switch_on()
            self._act(*self._core.start())
            await self._serve()
        finally:
            self.ready = False
            self._radio.active(False)

    async def _serve(self):
        while True:
            now_ms = self._clock()
            while self._events:
                event = self._events.pop(0)
                self._act(*self._core.event(event[0], event[1], now_ms, *event[2:]))
                self._follow()
            self._act(*self._core.poll(now_ms))
            while self._inbox:
                self._sink(self._inbox.pop(0))
            sent = self._pump(now_ms) if self.ready else 0
            try:
                self._bonds.save()
            except BoardError as error:
                self._fault(str(error))
            if sent:
                await asyncio.sleep_ms(0)
            else:
                await asyncio.sleep_ms(POLL_MS if self._waiting is None else CONGESTED_MS)

    def _switch_on(self):
        self._core = Peripheral(self._passkey is not None)
        self._writer = None
        self._events = []
        self._waiting = None
        radio = self._radio
        radio.irq(self._irq)  # the stack asks for secrets as soon as it is active
        radio.config(bond=True, le_secure=True, mitm=self._passkey is not None)
        radio.config(io=_NO_INPUT_OUTPUT if self._passkey is None else _DISPLAY_ONLY)
        radio.active(True)
        radio.config(gap_name="QEPA")
        radio.config(mtu=MAX_MTU)
        read = _READ | _READ_ENCRYPTED
        write = _WRITE | _WRITE_NO_RESPONSE | _WRITE_ENCRYPTED
        if self._passkey is not None:
            read |= _READ_AUTHENTICATED
            write |= _WRITE_AUTHENTICATED
        uuid = bluetooth.UUID
        services = [(uuid(SERVICE), ((uuid(UP), _NOTIFY), (uuid(DOWN), write), (uuid(INFO), read)))]
        if self._passkey is not None:
            measurement = (uuid(HEART_RATE_MEASUREMENT), _NOTIFY)
            services.append((uuid(HEART_RATE), (measurement, (uuid(BODY_SENSOR_LOCATION), read))))
        handles = radio.gatts_register_services(tuple(services))
        self._up, self._down, info = handles[0]
        if self._passkey is not None:
            self._heart = handles[1]
        radio.gatts_set_buffer(self._down, MAX_MTU)
        radio.gatts_write(info, self._info)

    def _act(self, action, conn):
        try:
            if action == ADVERTISE:
                self._radio.gap_advertise(ADVERTISE_US, adv_data=advertisement())
            elif action == PAIR:
                self._radio.gap_pair(conn)
            elif action == DROP:
                self._fault("a central was dropped: not encrypted as it should be, or silent")
                self._radio.gap_disconnect(conn)
        except OSError as error:
            # A connection that is gone already; its event is on the way.
            self._fault("OSError: %s" % error)

    def _fault(self, reason):
        self.faults += 1
        self.last_fault = reason

    def _follow(self):
        """Do what the core's state asks for."""
        self._out.resize(self._core.mtu)
        is_ready = self._core.state == READY
        if is_ready == self.ready:
            return
        self.ready = is_ready
        self._waiting = None
        if is_ready:
            self._out.reset(self._core.mtu)
            self.connects += 1
            self._source.connected()
        else:
            self.hide_heart_rate()
            self._source.disconnected("the central has gone")

    def _pump(self, now_ms):
        """Send up to BURST fragments; returns how many. One that the stack has no room for is kept, not lost."""
        sent = 0
        while sent < BURST:
            if self._waiting is None:
                if self._out.is_idle:
                    frame = self._source.next_frame(now_ms)
                    if frame is None:
                        break
                    self._out.load(frame)
                self._waiting = self._out.next()
            try:
                self._radio.gatts_notify(self._core.conn, self._up, self._waiting)
            except OSError as error:
                if error.errno not in _FULL:
                    self._fault("OSError: %s" % error)
                self.congested += 1
                break
            self._waiting = None
            sent += 1
        return sent

    def show_heart_rate(self, hr_bpm, contact):
        """Under a consent: tell the Heart Rate service's subscribers; without a passkey nobody is told."""
        if self._heart is not None and self.ready and self._core.authenticated:
            self._shows_heart = True
            self._write(self._heart[1], CHEST)
            self._write(self._heart[0], heart_rate_measurement(hr_bpm, contact))

    def hide_heart_rate(self):
        """The consent has ended: nothing of it stays in the stack."""
        if self._shows_heart:
            self._shows_heart = False
            self._write(self._heart[0], b"", False)
            self._write(self._heart[1], b"", False)

    def _write(self, handle, value, tell=True):
        try:
            # It tells subscribers alone; gatts_notify() would send to whoever is connected.
            self._radio.gatts_write(handle, value, tell)
        except OSError as error:
            self._fault("OSError: %s" % error)
