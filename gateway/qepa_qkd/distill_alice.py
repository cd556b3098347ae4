"""Alice's half of distillation: verdicts, parities, verification, privacy amplification."""

from typing import Final

import numpy as np

from qepa_qkd.authentication import PAD_BYTES
from qepa_qkd.distillation import (
    Block,
    BlockOutcome,
    Environment,
    amplify,
    check_alarms,
    check_error_rate,
    check_prospects,
    final_length,
    store,
    verify_tag,
)
from qepa_qkd.errors import NoKey, ProtocolError, SecurityError
from qepa_qkd.key_id import BLOCK_ID_BITS
from qepa_qkd.messages import (
    Abort,
    Amplify,
    Bases,
    Corrected,
    Message,
    ParityReply,
    ParityRequest,
    Reconcile,
    Report,
    Sift,
    Stored,
    Tag,
    Verified,
    Verify,
    encode,
)
from qepa_qkd.reconciliation import METHODS, Reference
from qepa_qkd.serial_protocol import Nibbles
from qepa_qkd.sifting import judge
from qepa_qkd.verification import KEY_BYTES, make_tag

PAD_TARGET: Final = 100
"""Pads to keep in stock for each direction; below it every block renews more than it spends."""
RENEWED_SHARE: Final = 1 / 16
"""Of a block's key, while there are too few pads; at least two pads each way where the block has them."""
MOST_RENEWED_PADS: Final = 64
_RUN_ENDED: Final = "the run ended before the block was full"


class _AliceBlock(Block):
    """Adds what only Alice holds; `expects` is the one message type that may come next once the block is closed."""

    expects: type[Message] = Bases
    reference: Reference | None = None

    def __init__(self, number: int, settings_digest: bytes) -> None:
        super().__init__(number, settings_digest)
        self.states: list[Nibbles] = []
        """Sent in the slots of each batch."""


class AliceDistiller:
    """All blocks of one connection at Alice's end. `outcomes` collects how blocks ended, for the caller to take."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._settings = environment.settings
        self._digest = environment.settings.digest()
        self._newest = 0
        self._filling: _AliceBlock | None = None
        self._closed: dict[int, _AliceBlock] = {}
        self.outcomes: list[BlockOutcome] = []

    def restart_filling(self) -> None:
        """Forget the block that is filling; a new run begins at both ends."""
        self._filling = None

    def on_report(self, report: Report, raw: bytes, states: Nibbles) -> None:
        """Keep the states sent in the slots of a report; the detections that fill a block close it.

        Raises ProtocolError on reports out of order.
        """
        block = self._filling
        if block is None:
            block = self._filling = self._new_block(report.block)
        if report.block != block.number or report.batch != len(block.states):
            raise ProtocolError("reports out of order")
        block.heard.absorb(raw)
        block.states.append(states)
        block.cover(report.slots)
        block.detections += len(states)
        if block.detections >= self._settings.block_detections:
            self._closed[block.number] = block
            self._filling = None

    def on_message(self, message: Message, raw: bytes) -> list[bytes]:
        """Continue the block that `message` is about. Raises ProtocolError or SecurityError: drop the connection."""
        number = getattr(message, "block", None)
        if number is None:
            raise ProtocolError("a message that is about no block")
        block = self._closed.get(number)
        if block is None:
            if isinstance(message, Bases) and self._filling is not None and number == self._filling.number:
                raise ProtocolError("bases of a block that still fills")
            # Aborts cross: what Bob said before he heard of ours is of no interest any more.
            return [encode(Abort(number, _RUN_ENDED))] if isinstance(message, Bases) else []
        if isinstance(message, Abort):
            return self._end(block, message.reason)
        if not isinstance(message, block.expects) and not (
            isinstance(message, Corrected) and block.expects is ParityRequest
        ):
            raise ProtocolError(f"a {type(message).__name__} message out of turn")
        if not isinstance(message, Tag):
            block.heard.absorb(raw)
        try:
            return self._advance(block, message)
        except NoKey as reason:
            return [*self._end(block, str(reason)), encode(Abort(block.number, str(reason)))]

    def _new_block(self, number: int) -> _AliceBlock:
        if number <= self._newest:
            raise ProtocolError("a report for a block of the past")
        self._newest = number
        return _AliceBlock(number, self._digest)

    def _sift(self, block: _AliceBlock, batch: int, symbols: Nibbles) -> list[bytes]:
        states = block.states[block.batches_sifted]
        if batch != block.batches_sifted or len(symbols) != len(states):
            raise ProtocolError("bases that belong to no batch")
        verdicts = judge(symbols, states)
        block.sifted.add((states & 1).astype(np.uint8), verdicts, symbols)
        block.batches_sifted += 1
        said = block.say(Sift(block.number, batch, verdicts))
        return [said] if block.batches_sifted < len(block.states) else [said, *self._reconcile(block)]

    def _reconcile(self, block: _AliceBlock) -> list[bytes]:
        block.states.clear()
        block.expects = ParityRequest
        try:
            check_error_rate(block.counts.qber_z, self._settings)
            check_alarms(block, self._environment)
            check_prospects(block, self._settings)
        except NoKey as reason:
            return [*self._end(block, str(reason)), encode(Abort(block.number, str(reason)))]
        random = self._environment.random_bytes
        block.block_id = int.from_bytes(random(8), "little") >> (64 - BLOCK_ID_BITS)
        seed = random(16)
        error_rate = max(block.counts.qber_z, 1e-3)
        block.reference = METHODS[self._settings.reconciliation].reference(block.sifted.key_bits(), seed, error_rate)
        return [block.say(Reconcile(block.number, block.block_id, seed, error_rate))]

    def _advance(self, block: _AliceBlock, message: Message) -> list[bytes]:
        match message:
            case Bases(_, batch, symbols):
                return self._sift(block, batch, symbols)
            case ParityRequest(_, question) if block.reference is not None:
                parities = block.reference.answer(question)
                return [block.say(ParityReply(block.number, parities))]
            case Corrected(_, errors, leak_bits) if block.reference is not None:
                if leak_bits != block.reference.leak_bits:
                    raise ProtocolError("the two ends count different leaks")
                block.leak_bits, block.errors = leak_bits, errors
                check_error_rate(block.qber_x, self._settings)
                block.expects = Verified
                tag = make_tag(self._environment.random_bytes(KEY_BYTES), block.sifted.key_bits())
                return [block.say(Verify(block.number, tag.key, tag.value))]
            case Verified():
                return self._amplify(block)
            case Tag(_, segment, position, value):
                return self._finish(block, segment, position, value)
            case _:
                raise ProtocolError(f"a {type(message).__name__} message out of turn")

    def _amplify(self, block: _AliceBlock) -> list[bytes]:
        pads = self._environment.vault.pads
        block.bounds = final_length(block, self._settings)
        key_bits = block.bounds.bits // 8 * 8
        block.authentication_bytes = _renewal(key_bits // 8) if min(pads.pads_left()) < PAD_TARGET else 0
        bits = block.sifted.key_bits()
        seed = self._environment.random_bytes(-(-(len(bits) + key_bits - 1) // 8))
        pad = pads.spend_own_pad()
        block.pad_segments.append(pad.segment)
        block.key = amplify(bits, seed, key_bits)
        block.expects = Tag
        said = block.say(Amplify(block.number, key_bits, block.authentication_bytes, seed))
        return [said, encode(Tag(block.number, pad.segment, pad.position, block.said.tag(pad)))]

    def _finish(self, block: _AliceBlock, segment: int, position: int, value: bytes) -> list[bytes]:
        if not verify_tag(block, self._environment, segment, position, value):
            self._end(block, "authentication failed")
            raise SecurityError("Bob's tag does not fit what was heard from him")
        block.pad_segments.append(segment)
        store(block, self._environment, "alice", live=True)
        del self._closed[block.number]
        self.outcomes.append(block.outcome())
        return [encode(Stored(block.number))]

    def _end(self, block: _AliceBlock, reason: str) -> list[bytes]:
        del self._closed[block.number]
        self.outcomes.append(block.outcome(reason))
        return []


def _renewal(key_bytes: int) -> int:
    """Bytes of a block's key that become pads, as many for either direction."""
    both_ways = 2 * PAD_BYTES
    pads = max(2, int(key_bytes * RENEWED_SHARE) // both_ways)
    return both_ways * min(pads, MOST_RENEWED_PADS, key_bytes // both_ways)
