"""Across the moment when ticks_ms starts again from 0, nothing is late, early or lost: transports and backlog on a real
MicroPython, whose ticks_diff knows the period."""

import json

# Every object is driven by the clock that the application gives it; ticks wrap in the middle of what it is doing.
SOURCE = """
import json, time
from qepa_board.keys.blocks import BlockStore
from qepa_board.keys.counters import Counters
from qepa_board.keys.keyring import Epoch
from qepa_board.transport.backlog import AFTER_MS, EVERY_MS, CareBacklog
from qepa_board.transport.ble import CONNECT, DROP, SETUP_MS, Peripheral
from qepa_board.transport.clock import Clock
from qepa_board.transport.link import RESEND_FIRST_MS, Link
from qepa_board.transport.mqtt import ANSWER_MS, KEEP_ALIVE_S, READY, MqttCore, MqttError
from qepa_board.transport.outbox import Outbox
from qepa_wire.payloads import Alert, Care, Hello

PERIOD = time.ticks_add(0, -1) + 1
BEFORE_MS = 5000

class Ticks:
    def __init__(self):
        self.at = PERIOD - BEFORE_MS
    def __call__(self):
        return self.at
    def pass_(self, ms):
        self.at = (self.at + ms) % PERIOD

class Flash:
    def __init__(self):
        self.files = {}
    def names(self):
        return sorted(self.files)
    def read(self, name):
        return self.files.get(name)
    def write(self, name, data):
        self.files[name] = bytes(data)
    def remove(self, name):
        self.files.pop(name, None)

def late(core_poll, clock, ticks, limit_ms):
    # ms until core_poll(now) says something
    start = clock()
    while clock() - start < limit_ms:
        if core_poll(clock()):
            return clock() - start
        ticks.pass_(100)
    return None

out = {}
ticks = Ticks()
clock = Clock(ticks)
seen = []
for _ in range(100):
    seen.append(clock())
    ticks.pass_(100)
out["monotonic"] = [seen[0], seen[-1], all(b - a == 100 for a, b in zip(seen, seen[1:]))]

ticks = Ticks()
clock = Clock(ticks)
flash = Flash()
counters = Counters.create(flash)
counters.start_epoch(bytes(16), 0, bytes(32))
link = Link(7, counters, Outbox(flash), BlockStore(flash))
link.begin(Epoch(counters.epoch, bytes(16), 0, bytes(32)), lambda: Hello(bytes(16), 0, 1, 0, 0, 1, 65535, 0, 0))
link.send_alert(Alert(1, 1, 1, 1, 0))
sent = []
for _ in range(100):
    while link.next_frame(clock()) is not None:
        sent.append(clock())
    ticks.pass_(100)
out["resends"] = sorted(set(sent))

ticks = Ticks()
clock = Clock(ticks)
peripheral = Peripheral(True)
peripheral.start()
peripheral.event(CONNECT, 1, clock())
out["setup"] = late(lambda now: peripheral.poll(now)[0] == DROP, clock, ticks, 2 * SETUP_MS)

ticks = Ticks()
clock = Clock(ticks)
core = MqttCore("me", "down")
core.connect(clock())
core.receive(b"\\x20\\x02\\x00\\x00\\x90\\x03\\x00\\x01\\x00", clock())
assert core.state == READY
out["ping"] = late(lambda now: core.poll(now), clock, ticks, 60000)
def falls_silent(now):
    try:
        core.poll(now)
        return False
    except MqttError:
        return True
out["silence"] = late(falls_silent, clock, ticks, 60000)

ticks = Ticks()
clock = Clock(ticks)
flash = Flash()
backlog = CareBacklog(7, Counters.create(flash), flash)
kept = []
for _ in range(45):
    backlog.consent(bytes(32), b"c" * 16, clock(), False)
    if backlog.wants(clock()):
        backlog.keep(Care(clock(), 1, 0, 255, 0, 0, ()), clock())
        kept.append(clock())
    ticks.pass_(1000)
ticks = Ticks()
clock = Clock(ticks)
backlog.connected(clock())
forwarded = []
for _ in range(200):
    item = backlog.next(clock())
    if item is not None:
        backlog.acknowledge(item[0])
        forwarded.append(clock())
    ticks.pass_(50)
out["kept"] = kept
out["forwarded"] = forwarded
print(json.dumps(out))
"""


def test_ticks_that_wrap_change_nothing(micropython_run):
    out = json.loads(micropython_run(SOURCE))
    assert out["monotonic"] == [0, 9900, True]
    assert out["resends"] == [0, 2000, 6000]  # at once, then after 2 and 4 more seconds: the wrap is at 5
    assert out["setup"] == 30000
    assert out["ping"] == 15000
    assert out["silence"] == 10000
    assert out["kept"] == [0, 10000, 20000, 30000, 40000]
    assert out["forwarded"] == [3000, 3100, 3200, 3300, 3400]
