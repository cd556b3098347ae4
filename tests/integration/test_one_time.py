"""The board's own link and blocks against the gateway's core: both agree to the byte on what is used."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))

from bedside_rig import Rig

from qepa_board.keys.blocks import BlockStore
from qepa_board.keys.counters import Counters
from qepa_board.keys.keyring import Keyring, PadStore
from qepa_board.transport.link import Link
from qepa_board.transport.outbox import Outbox
from qepa_gateway.spool.blocks import BlockStore as Spooled
from qepa_gateway.transport import Outgoing
from qepa_wire.payloads import ALERT_GLUCOSE_LOW, Alert, Hello
from qepa_wire.topics import board_up


class Memory:
    """A flash that keeps what was written."""

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


class RealBoard:
    """Board 1 of the rig, as its firmware runs it; a new one on the same flash is the next boot."""

    def __init__(self, rig, flash):
        self.rig, self.number, self.gateway, self.patient = rig, 1, "gw-1", "p-1"
        self.on, self.outbox, self.now_ms = True, {}, 0
        counters = Counters.load(flash)
        counters.start_boot()
        self.link = Link(1, counters, Outbox(flash), BlockStore(flash))
        epoch = Keyring(flash, counters).next_epoch(True)
        self.link.begin(epoch, lambda: Hello(epoch.key_id, epoch.steps, counters.boots, 0, 0, 1, 900, 1, 0))
        self.link.connected()

    def receive(self, data):
        self.link.receive(data)

    def talk(self, seconds=10):
        for _ in range(seconds):
            self.now_ms += 1000
            while (data := self.link.next_frame(self.now_ms)) is not None:
                self.rig.deliver(Outgoing(board_up("gw-1", 1), data))
            for _ in range(3):
                self.rig.pump()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, patients=2)
    rig.settle(6)
    return rig


def docked(rig, blocks=1, size=256):
    flash = Memory()
    Counters.create(flash)
    PadStore(flash).load(b"".join(b"".join(rig.kme.pad()) for _ in range(8)), b"")
    BlockStore(flash).load(b"".join(b"".join(rig.kme.pad(size)) for _ in range(blocks)), size)
    return flash


def left_at_gateway(rig):
    return {row.key_id: sum(b - a for a, b in row.free) for row in Spooled(rig.site.spool).of_board(1)}


def left_on_board(flash):
    store = BlockStore(flash)
    return {block.key_id: block.left for block in store._blocks.values()}


def alert(t_ms):
    return Alert(t_ms, 1, ALERT_GLUCOSE_LOW, 1, 52)


def test_blocks_are_used_up_together_and_forgotten_together(rig):
    flash = docked(rig, blocks=2)
    board = rig.boards[1] = RealBoard(rig, flash)
    board.talk()
    assert board.link.blocks.all_held()
    sent = 0
    while board.link.blocks.left() >= 2 * 42:
        board.link.send_alert(alert(sent))
        sent += 1
        board.talk(2)
        assert left_at_gateway(rig) == left_on_board(flash)
    board.link.send_alert(alert(sent))
    board.link.send_alert(alert(sent + 1))  # no bytes left: at once under the link key
    board.talk()
    assert sorted(report.t_ms for report in rig.server.alerts.values()) == list(range(sent + 2))
    assert left_at_gateway(rig) == left_on_board(flash) == {}
    assert not rig.site.refused


@pytest.mark.parametrize("seed", range(4))
def test_no_alert_is_lost_over_reboots_crashes_and_a_lossy_broker(rig, seed):
    chance = random.Random(seed)
    flash = docked(rig, blocks=3)
    board = rig.boards[1] = RealBoard(rig, flash)
    board.talk()
    rig.lose = lambda _: chance.random() < 0.3
    for t_ms in range(12):
        board.link.send_alert(alert(t_ms))
        board.talk(chance.randrange(4))
        match chance.randrange(6):
            case 0:
                now_ms = board.now_ms
                board = rig.boards[1] = RealBoard(rig, flash)
                board.now_ms = now_ms
            case 1:
                rig.site.crash()
                rig.site.start()
    rig.lose = lambda _: False
    board.talk(120)
    rig.advance(10_000)
    assert {report.t_ms for report in rig.server.alerts.values()} == set(range(12))
    assert not {"pad_used", "pad_unknown", "one_time_mac"} & set(rig.site.refused)
    on_board = left_on_board(flash)
    assert sum(on_board.values()) < 3 * 256, "some went under one-time pads"
    assert all(left_at_gateway(rig)[key_id] == left for key_id, left in on_board.items()), "none was wasted"
    assert board.link.backlog() == 0
