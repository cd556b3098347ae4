"""Frames between this board and its gateway: numbered, authenticated, sent again until acknowledged. Sans-IO.

Order of sending: what is left of earlier epochs, which the gateway can read best before it sees the new HELLO; HELLO,
before which nothing of this epoch can be read; then alerts, vectors, PADS, the newest care record, care records kept
while there was no connection, the newest waveforms, what firmware is wanted.
Milliseconds are those of any monotonic clock the caller keeps to.
"""

from qepa_wire.errors import WireError
from qepa_wire.frame import (
    ACK,
    ALERT,
    CARE,
    DOWN_TYPES,
    FIRMWARE_WANT,
    HELLO,
    PADS,
    PADS_HELD,
    VECTOR,
    WAVE,
    authenticate,
    encode,
    parse,
)
from qepa_wire.lighthe import vector_bytes
from qepa_wire.one_time import encode_one_time, mask_alert
from qepa_wire.payloads import (
    decode_ack,
    decode_held,
    encode_alert,
    encode_care,
    encode_hello,
    encode_pads,
    encode_vector,
    encode_wave,
)

from ..errors import BoardError
from ..keys.counters import NO_KEY

RESEND_FIRST_MS = 2000
RESEND_LONGEST_MS = 60000
HANDOVER_MS = 2000  # how long HELLO waits for frames of earlier epochs to be acknowledged
PADS_AGAIN_MS = 5000  # PADS is repeated until the gateway holds every block, less and less often
HELLO_AGAIN_AFTER = 3  # resends of one frame after which the gateway may have forgotten the epoch


class Link:
    """One board's end. ``refused`` counts what came down and was not taken, by reason."""

    def __init__(self, board, counters, outbox, blocks=None):
        self._board = board
        self._counters = counters
        self._outbox = outbox
        self.blocks = blocks  # BlockStore, or None for a board that has no one-time blocks
        self._pads_due_ms = None  # when to say PADS again; None: at once, if there is anything to say
        self._pads_said = 0
        self._epoch = None
        self._hello_of = None
        self._hello = None  # (seq, frame) until acknowledged
        self._down_seq = 0
        self.drop_care()
        self._before = None  # [epoch number, mac key down, last seq] of the epoch before, until HELLO is acknowledged
        self._handover_ms = None  # until when HELLO waits
        self._retries = {}  # seq: [due_ms, resends]
        self.late_care = None  # a CareBacklog, whose records go when nothing else does
        self.firmware = None  # an AirUpdate, once the gateway has offered a release
        self.refused = {}
        self.acknowledged = 0

    @property
    def epoch(self):
        """The current Epoch, or None while there is no key."""
        return self._epoch

    def begin(self, epoch, hello_of):
        """Start ``epoch``; ``hello_of()`` returns the Hello that describes the board at that moment."""
        if self._epoch is not None:
            self._before = [self._epoch.number, self._epoch.mac_down, self._down_seq]
        self._epoch = epoch
        self._hello_of = hello_of
        self._down_seq = 0
        self.drop_care()
        self._say_hello()

    def connected(self):
        """A new connection stands: say HELLO and send everything unacknowledged at once."""
        self._retries.clear()
        self._pads_due_ms = None
        self._pads_said = 0
        self._handover_ms = None
        self.drop_care()
        if self._epoch is not None:
            self._say_hello()

    def say_again(self):
        """What HELLO tells of the board has changed: say it again, so that the gateway need not guess."""
        if self._epoch is not None:
            self._say_hello()

    def _say_hello(self):
        if self._hello is not None:
            self._retries.pop(self._hello[0], None)
        seq = self._counters.next_seq()
        self._hello = (seq, self._frame(HELLO, seq, encode_hello(self._hello_of())))

    def _frame(self, type_, seq, payload):
        epoch = self._epoch
        if epoch is None:
            raise BoardError("key", "no link key: load pads at the dock")
        return encode(type_, self._board, epoch.number, seq, payload, epoch.mac_up)

    def take_pad(self, n_words):
        """OneTime bytes for a vector of ``n_words``, or None: it is to be sealed under the link key."""
        return None if self.blocks is None else self.blocks.take_vector(vector_bytes(n_words))

    def send_vector(self, round_, stream, model, sealed, one_time=None):
        """Queue a sealed vector, durably; ``one_time`` is what take_pad() gave for it."""
        seq = self._counters.next_seq()
        body = encode_vector(round_, stream, model, sealed)
        self._keep(
            seq, self._frame(VECTOR, seq, body) if one_time is None else self._masked(VECTOR, seq, body, one_time)
        )

    def send_alert(self, alert):
        """Queue an alert, durably: under one-time bytes while the gateway holds some too, else under the link key."""
        if self._epoch is None:
            raise BoardError("key", "no link key: load pads at the dock")
        seq = self._counters.next_seq()
        one_time = None if self.blocks is None else self.blocks.take_alert()
        if one_time is None:
            frame = self._frame(ALERT, seq, encode_alert(self._epoch.alert_key, seq, alert))
        else:
            frame = self._masked(ALERT, seq, mask_alert(one_time.pad, alert), one_time)
        self._keep(seq, frame)

    def _masked(self, type_, seq, body, one_time):
        return encode_one_time(type_, self._board, self._epoch.number, seq, body, one_time, self._epoch.mac_up)

    def _keep(self, seq, data):
        # After a reboot nobody could say HELLO for this epoch any more, and without it the frame can't be read.
        if self._hello is not None and self._hello[0] not in self._outbox:
            self._outbox.put(*self._hello)
        self._outbox.put(seq, data)

    def send_care(self, care_key, consent_id, care):
        """Offer a care record; it replaces one that has not gone out yet."""
        if self._epoch is None:
            return
        seq = self._counters.next_seq()
        self._care = self._frame(CARE, seq, encode_care(care_key, consent_id, self._board, seq, care))

    def send_waves(self, care_key, consent_id, waves):
        """Offer waveforms; they replace those that have not gone out yet."""
        frames = []
        for wave in waves:
            seq = self._counters.next_seq()
            frames.append(self._frame(WAVE, seq, encode_wave(care_key, consent_id, self._board, seq, wave)))
        self._waves = frames

    def drop_care(self):
        """Take back the care record and the waveforms that have not gone out yet."""
        self._care = None
        self._waves = []

    def next_frame(self, now_ms):
        """The next frame to publish now, as bytes, or None."""
        if self._epoch is None:
            return None
        seqs = self._outbox.seqs()
        hello = self._hello
        if hello is not None:
            older = [seq for seq in seqs if self._outbox.epoch(seq) != self._epoch.number]
            for seq in older:
                if seq not in self._retries:
                    data = self._kept(seq, now_ms)
                    if data is not None:
                        return data
            if self._handover_ms is None:
                self._handover_ms = now_ms + HANDOVER_MS
            if older and now_ms < self._handover_ms:
                return None
            if self._is_due(hello[0], now_ms):
                return hello[1]
        for seq in seqs:
            if hello is not None and seq == hello[0]:
                continue
            data = self._kept(seq, now_ms)
            if data is not None:
                return data
        return self._next_pads(now_ms) or self._next_care(now_ms) or self._next_wave() or self._next_want(now_ms)

    def _next_pads(self, now_ms):
        """PADS, if the gateway is to be told (again) which blocks there are; None before it knows this epoch."""
        blocks = self.blocks
        if blocks is None or self._hello is not None:
            return None
        if blocks.changed:
            blocks.changed = False
            self._pads_due_ms = None
            self._pads_said = 0
        elif self._pads_due_ms is None and not blocks.key_ids():
            return None
        if self._pads_due_ms is not None and (blocks.all_held() or now_ms < self._pads_due_ms):
            return None
        self._pads_due_ms = now_ms + min(RESEND_LONGEST_MS, PADS_AGAIN_MS << min(self._pads_said, 8))
        self._pads_said += 1
        return self._frame(PADS, self._counters.next_seq(), encode_pads(blocks.key_ids()))

    def _next_care(self, now_ms):
        """The newest care record, else one that was kept."""
        data = self._care
        self._care = None
        if data is None and self.late_care is not None:
            late = self.late_care.next(now_ms)
            if late is not None:
                data = self._frame(CARE, late[0], late[1])
        return data

    def _next_wave(self):
        return self._waves.pop(0) if self._waves else None

    def _next_want(self, now_ms):
        """The next word about firmware, once the gateway holds all else."""
        want = None if self.firmware is None or not self.is_settled() else self.firmware.next(now_ms)
        return None if want is None else self._frame(FIRMWARE_WANT, self._counters.next_seq(), want)

    def _kept(self, seq, now_ms):
        """Frame ``seq`` of the outbox if it is to be sent now, else None."""
        return self._outbox.get(seq) if seq in self._outbox and self._is_due(seq, now_ms) else None

    def _is_due(self, seq, now_ms):
        """Whether frame ``seq`` is to be sent now; if so, when again is noted."""
        retry = self._retries.get(seq)
        if retry is None:
            self._retries[seq] = [now_ms + RESEND_FIRST_MS, 0]
            return True
        if now_ms < retry[0]:
            return False
        retry[1] += 1
        retry[0] = now_ms + min(RESEND_LONGEST_MS, RESEND_FIRST_MS << min(retry[1], 8))
        if retry[1] == HELLO_AGAIN_AFTER and self._hello is None:
            self._say_hello()
        return True

    def backlog(self):
        """Frames in flash that wait for an acknowledgement."""
        return len(self._outbox)

    def is_settled(self):
        """Whether the gateway has acknowledged everything."""
        return self._hello is None and not len(self._outbox)

    def receive(self, data):
        """Take one frame from the gateway.

        Returns a Frame for the application, or None if it was an acknowledgement or was refused. Never raises for
        what the frame holds.
        """
        try:
            return self._take(data)
        except WireError as error:
            self.refuse(error.reason)
            return None

    def refuse(self, reason):
        """Count something that came down and was not taken."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _take(self, data):
        frame = parse(data, DOWN_TYPES)
        epoch = self._epoch
        if frame.board != self._board:
            raise WireError("board")
        if epoch is None:
            raise WireError("epoch")
        if frame.epoch == epoch.number:
            authenticate(data, epoch.mac_down)
            if frame.seq <= self._down_seq:
                raise WireError("replay")
            self._down_seq = frame.seq
        elif self._before is not None and frame.epoch == self._before[0]:
            # Sent before the gateway knew of this epoch.
            authenticate(data, self._before[1])
            if frame.seq <= self._before[2]:
                raise WireError("replay")
            self._before[2] = frame.seq
        elif frame.type == ACK and frame.epoch == epoch.number - 1 and self._counters.last_mac_down != NO_KEY:
            # For frames of the last boot. Its last seq is lost, but a repeated ACK does no harm: the gateway has them.
            authenticate(data, self._counters.last_mac_down)
        else:
            raise WireError("epoch")
        if frame.type == PADS_HELD and self.blocks is not None:
            self._confirm_blocks(frame.payload)
            return None
        if frame.type != ACK:
            return frame
        self._acknowledge(decode_ack(frame.payload))
        return None

    def _confirm_blocks(self, payload):
        try:
            self.blocks.confirm(decode_held(payload))
        except BoardError as error:
            self.refuse(error.reason)

    def _acknowledge(self, seqs):
        for seq in seqs:
            self._retries.pop(seq, None)
            if self._hello is not None and self._hello[0] == seq:
                self._hello = None
                self._before = None
                self.acknowledged += 1
            elif seq in self._outbox:
                self.acknowledged += 1
            elif self.late_care is not None:
                self.late_care.acknowledge(seq)
            if seq in self._outbox:
                self._outbox.remove(seq)
        if self.blocks is not None and not len(self._outbox):
            self.blocks.drop_spent()
