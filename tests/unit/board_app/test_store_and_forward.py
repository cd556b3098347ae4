"""What waits for a connection: what gives way without room, what a power cut costs, and that consents end it."""

import itertools

import pytest

from qepa_board.errors import BoardError
from qepa_board.keys.counters import Counters
from qepa_board.transport.backlog import AFTER_MS, AGAIN_MS, EVERY_MS, ORPHAN_MS, PACE_MS, TRIES, CareBacklog
from qepa_board.transport.outbox import MAX_FRAMES, Outbox
from qepa_board.transport.ring import PENDING, SEGMENT_RECORDS, SEGMENTS, Ring
from qepa_wire import frame as wire
from qepa_wire.measures import HEART_RATE
from qepa_wire.payloads import Care, decode_care

BOARD = 7
KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
CONSENT, OTHER = b"consent-number-1", b"consent-number-2"
ROOM = SEGMENTS * SEGMENT_RECORDS


def frame(type_, seq, epoch=1):
    return wire.encode(type_, BOARD, epoch, seq, bytes(20), bytes(32))


def fill(outbox, *types):
    """Put frames numbered from 1; returns what is left, as (type, seq)."""
    for seq, type_ in enumerate(types, 1):
        outbox.put(seq, frame(type_, seq))
    return left(outbox)


def left(outbox):
    return sorted((outbox._types[seq], seq) for seq in outbox.seqs())


class FullFlash:
    """Wraps a flash so that it holds at most ``room`` bytes."""

    def __init__(self, flash, room):
        self._flash = flash
        self.room = room

    def __getattr__(self, name):
        return getattr(self._flash, name)

    def write(self, name, data):
        used = sum(len(content) for other, content in self._flash.files.items() if other != name)
        if used + len(data) > self.room:
            raise BoardError("flash", f"cannot write {name}: no space")
        self._flash.write(name, data)


# The outbox


def test_vectors_give_way_before_alerts_the_oldest_first(flash):
    outbox = Outbox(flash)
    fill(outbox, wire.HELLO, wire.ALERT, *[wire.VECTOR] * (MAX_FRAMES - 2))
    outbox.put(50, frame(wire.ALERT, 50))
    outbox.put(51, frame(wire.VECTOR, 51))
    assert outbox.dropped == 2
    vectors = [seq for type_, seq in left(outbox) if type_ == wire.VECTOR]
    assert vectors == [*range(5, MAX_FRAMES + 1), 51]


def test_no_alert_ever_gives_way_to_a_vector(flash):
    outbox = Outbox(flash)
    before = fill(outbox, wire.HELLO, *[wire.ALERT] * (MAX_FRAMES - 1))
    outbox.put(50, frame(wire.VECTOR, 50))
    assert left(outbox) == before
    assert outbox.dropped == 1
    outbox.put(51, frame(wire.ALERT, 51))  # but the oldest to a newer one, when there is nothing else
    assert left(outbox) == [(wire.HELLO, 1), *[(wire.ALERT, seq) for seq in range(3, MAX_FRAMES + 1)], (wire.ALERT, 51)]


def test_a_hello_that_nobody_needs_gives_way_first(flash):
    outbox = Outbox(flash)
    outbox.put(1, frame(wire.HELLO, 1, epoch=1))  # its epoch has nothing else here
    outbox.put(2, frame(wire.HELLO, 2, epoch=2))
    outbox.put(3, frame(wire.HELLO, 3, epoch=2))  # newer of the same epoch
    for seq in range(4, MAX_FRAMES + 1):
        outbox.put(seq, frame(wire.VECTOR, seq, epoch=2))
    outbox.put(50, frame(wire.VECTOR, 50, epoch=2))
    outbox.put(51, frame(wire.VECTOR, 51, epoch=2))
    assert left(outbox)[0] == (wire.HELLO, 3)
    assert len([1 for type_, _ in left(outbox) if type_ == wire.VECTOR]) == MAX_FRAMES - 1


def test_a_full_flash_costs_vectors_not_alerts(flash):
    full = FullFlash(flash, 4 * (56 + 8))
    outbox = Outbox(full)
    fill(outbox, *[wire.VECTOR] * 4)
    outbox.put(5, frame(wire.ALERT, 5))
    assert left(outbox) == [*[(wire.VECTOR, seq) for seq in (2, 3, 4)], (wire.ALERT, 5)]
    full.room = 60
    outbox.put(6, frame(wire.VECTOR, 6))
    assert outbox.dropped == 5  # there is no room for any: the new one goes too
    assert left(outbox) == [(wire.ALERT, 5)]
    with pytest.raises(BoardError):
        outbox.put(7, frame(wire.ALERT, 7))  # the caller keeps it and offers it again
    assert left(outbox) == [(wire.ALERT, 5)]


# The ring


def numbers(ring):
    """Everything in ``ring``, oldest first; it is empty then."""
    out = []
    while records := ring.head():
        out += [int.from_bytes(record, "little") for record in records]
        ring.drop_head()
    return out


def keep(ring, count, start=0):
    for number in range(start, start + count):
        ring.put(number.to_bytes(4, "little"))


@pytest.mark.parametrize("count", [1, PENDING - 1, PENDING, SEGMENT_RECORDS, SEGMENT_RECORDS + 1, 3 * SEGMENT_RECORDS])
def test_records_come_back_in_order(flash, count):
    ring = Ring(flash)
    keep(ring, count)
    assert len(ring) == count
    assert numbers(ring) == list(range(count))
    assert not [name for name in flash.names() if name.startswith("ring")]


def test_the_oldest_give_way_and_are_counted(flash):
    ring = Ring(flash)
    keep(ring, ROOM + 100)
    assert len(flash.names()) == SEGMENTS
    kept = numbers(ring)
    assert kept == list(range(ROOM + 100 - len(kept), ROOM + 100))
    assert ring.dropped == ROOM + 100 - len(kept)
    assert len(kept) > ROOM - SEGMENT_RECORDS


def test_what_is_kept_while_the_oldest_go_out_goes_elsewhere(flash):
    ring = Ring(flash)
    keep(ring, 12)
    head = ring.head()
    keep(ring, 12, start=12)
    ring.drop_head()
    assert [int.from_bytes(record, "little") for record in head] == list(range(12))
    assert numbers(ring) == list(range(12, 24))


@pytest.mark.parametrize("applied", [False, True])
def test_a_power_cut_costs_what_was_pending_and_nothing_else(flash, power_cut, applied):
    for moment in itertools.count(1):
        flash.__init__()
        flash.dies_at, flash.applied = moment, applied
        ring, done = Ring(flash), 0
        try:
            for done in range(ROOM + 40):
                ring.put(done.to_bytes(4, "little"))
        except power_cut:
            pass
        else:
            assert moment > ROOM // PENDING
            return
        flash.dies_at = None
        again = Ring(flash)
        kept = numbers(again)
        assert again.corrupt == 0
        assert kept == list(range(kept[0], kept[-1] + 1)) if kept else done < PENDING
        assert done - (kept[-1] if kept else -1) <= PENDING


def test_a_segment_that_flash_lost_costs_no_other(flash):
    ring = Ring(flash)
    keep(ring, 3 * SEGMENT_RECORDS)
    flash.files["ring-00000001"] = flash.files["ring-00000001"][:-1]
    again = Ring(flash)
    assert again.corrupt == 1
    assert numbers(again) == [*range(SEGMENT_RECORDS), *range(2 * SEGMENT_RECORDS, 3 * SEGMENT_RECORDS)]


def test_a_full_flash_costs_the_oldest_then_the_newest(flash):
    full = FullFlash(flash, 2 * SEGMENT_RECORDS * 5 + 16)
    ring = Ring(full)
    keep(ring, 4 * SEGMENT_RECORDS)
    assert numbers(ring) == list(range(2 * SEGMENT_RECORDS, 4 * SEGMENT_RECORDS))
    assert ring.dropped == 2 * SEGMENT_RECORDS
    full.room = 0
    keep(ring, PENDING)
    assert (len(ring), ring.dropped) == (0, 2 * SEGMENT_RECORDS + PENDING)


def test_a_record_that_fits_no_block_is_refused(flash):
    with pytest.raises(BoardError):
        Ring(flash).put(bytes(129))


# The care backlog


class Gateway:
    """Opens what a backlog sends, and acknowledges if it is told to."""

    def __init__(self, key=KEY):
        self.key = key
        self.times = []
        self.seqs = []
        self.acknowledges = True

    def take(self, backlog, now_ms):
        item = backlog.next(now_ms)
        if item is None:
            return False
        seq, payload = item
        self.seqs.append(seq)
        self.times.append(decode_care(self.key, BOARD, seq, payload).t_ms)
        if self.acknowledges:
            backlog.acknowledge(seq)
        return True

    def take_all(self, backlog, now_ms, ms=600_000):
        """Look every 50 ms for ``ms``; returns the time then."""
        for later in range(now_ms, now_ms + ms, 50):
            self.take(backlog, later)
        return now_ms + ms


def care(t_ms):
    return Care(t_ms, 1, 0, 255, 3, 0, ((HEART_RATE, 100, 72),))


def new_backlog(flash):
    if "counters" not in flash.files:
        Counters.create(flash)
    return CareBacklog(BOARD, Counters.load(flash), flash)


def disconnected(backlog, start_ms, seconds, key=KEY, consent=CONSENT):
    """Seconds without a connection; returns the times of what was kept."""
    kept = []
    for now_ms in range(start_ms, start_ms + 1000 * seconds, 1000):
        backlog.consent(key, consent, now_ms, False)
        if backlog.wants(now_ms):
            backlog.keep(care(now_ms), now_ms)
            kept.append(now_ms)
    return kept


def test_one_record_in_ten_is_kept_and_forwarded_in_order_under_numbers_of_its_own(flash):
    backlog, gateway = new_backlog(flash), Gateway()
    kept = disconnected(backlog, 0, 3600)
    assert kept == list(range(0, 3_600_000, EVERY_MS))
    backlog.connected(3_600_000)
    assert backlog.next(3_600_000 + AFTER_MS - 1) is None
    gateway.take_all(backlog, 3_600_000)
    assert gateway.times == kept
    assert len(set(gateway.seqs)) == len(kept)
    assert (len(backlog), backlog.dropped) == (0, 0)
    assert gateway.seqs[-1] - gateway.seqs[0] < 1024  # what a gateway's window takes


def test_it_keeps_its_pace_so_that_others_get_theirs(flash):
    backlog, gateway = new_backlog(flash), Gateway()
    disconnected(backlog, 0, 600)
    backlog.connected(600_000)
    sent = [now_ms for now_ms in range(600_000 + AFTER_MS, 620_000) if gateway.take(backlog, now_ms)]
    assert all(b - a >= PACE_MS for a, b in itertools.pairwise(sent))


def test_what_is_not_acknowledged_is_sent_again_and_on_a_new_connection_too(flash):
    backlog, gateway = new_backlog(flash), Gateway()
    kept = disconnected(backlog, 0, 50)
    gateway.acknowledges = False
    backlog.connected(50_000)
    now_ms = gateway.take_all(backlog, 50_000, AFTER_MS + 1000)
    assert gateway.times == kept
    backlog.connected(now_ms)
    gateway.acknowledges = True
    gateway.take_all(backlog, now_ms, AFTER_MS + 1000)
    assert gateway.times == 2 * kept
    assert len(set(gateway.seqs)) == 2 * len(kept)
    assert len(backlog) == 0


def test_a_gateway_that_acknowledges_nothing_is_not_sent_the_same_for_ever(flash):
    backlog, gateway = new_backlog(flash), Gateway()
    kept = disconnected(backlog, 0, 50)
    gateway.acknowledges = False
    backlog.connected(50_000)
    gateway.take_all(backlog, 50_000, 2 * TRIES * AGAIN_MS)
    assert gateway.times == TRIES * kept
    assert (len(backlog), backlog.dropped) == (0, len(kept))


@pytest.mark.parametrize("how", ["ended", "another"])
def test_the_end_of_the_consent_is_the_end_of_the_backlog(flash, how):
    backlog, gateway = new_backlog(flash), Gateway(OTHER_KEY)
    disconnected(backlog, 0, 600)
    if how == "ended":
        backlog.consent(None, None, 600_000, False)
        assert not [name for name in flash.names() if name.startswith("ring")]
    backlog.consent(OTHER_KEY, OTHER, 600_000, True)
    backlog.connected(600_000)
    gateway.take_all(backlog, 600_000, 60_000)
    assert not gateway.times
    assert not [name for name in flash.names() if name.startswith("ring")]


def test_records_of_an_earlier_boot_wait_for_their_consent(flash):
    kept = disconnected(new_backlog(flash), 0, 60)
    backlog, gateway = new_backlog(flash), Gateway()
    backlog.connected(0)
    gateway.take_all(backlog, 0, 10_000)
    assert not gateway.times  # nobody has granted anything in this boot
    backlog.consent(KEY, CONSENT, 10_000, True)
    gateway.take_all(backlog, 10_000, 60_000)
    assert gateway.times == kept


def test_records_of_an_earlier_boot_whose_consent_has_ended_since_are_forgotten(flash):
    disconnected(new_backlog(flash), 0, 60)
    backlog = new_backlog(flash)
    for now_ms in range(0, ORPHAN_MS, 1000):
        backlog.consent(None, None, now_ms, False)  # no connection: nobody could grant
    assert len(backlog)
    for now_ms in range(ORPHAN_MS, 2 * ORPHAN_MS + 1000, 1000):
        backlog.consent(None, None, now_ms, True)
    assert len(backlog) == 0
    assert not [name for name in flash.names() if name.startswith("ring")]


def test_flash_holds_no_vital_sign_in_clear(flash):
    disconnected(new_backlog(flash), 0, 3600)
    raw = b"".join(content for name, content in flash.files.items() if name.startswith("ring"))
    assert raw
    assert bytes([HEART_RATE, 100]) + (72).to_bytes(2, "little") not in raw


def test_a_power_cut_while_it_is_forwarded_loses_nothing_that_was_written(flash, power_cut):
    kept = disconnected(new_backlog(flash), 0, 600)
    saved = dict(flash.files)
    for moment in itertools.count(1):
        flash.__init__()
        flash.files.update(saved)
        flash.dies_at = moment
        gateway = Gateway()
        try:
            backlog = new_backlog(flash)
            backlog.consent(KEY, CONSENT, 0, True)
            backlog.connected(0)
            gateway.take_all(backlog, 0, 30_000)
        except power_cut:
            pass
        else:
            assert set(gateway.times) == set(kept)
            return
        flash.dies_at = None
        backlog = new_backlog(flash)
        backlog.consent(KEY, CONSENT, 0, True)
        backlog.connected(0)
        gateway.take_all(backlog, 0, 60_000)
        assert set(gateway.times) == set(kept)


def test_it_opens_only_its_own_boards_records(flash):
    """A record moved to another board's flash is dropped, not forwarded."""
    disconnected(new_backlog(flash), 0, 60)
    other = CareBacklog(BOARD + 1, Counters.load(flash), flash)
    other.consent(KEY, CONSENT, 0, True)
    other.connected(0)
    assert [other.next(now_ms) for now_ms in range(0, 10_000, 100)] == [None] * 100
    assert len(other) == 0
