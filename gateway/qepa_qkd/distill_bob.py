"""Bob's half of distillation: reports, error correction, checking what Alice decides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from qepa_qkd.authentication import PAD_BYTES
from qepa_qkd.distillation import (
    Bits,
    Block,
    BlockOutcome,
    Environment,
    amplify,
    check_alarms,
    check_error_rate,
    final_length,
    store,
    verify_tag,
)
from qepa_qkd.errors import NoKey, ProtocolError, SecurityError
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
    Sample,
    Sift,
    Stored,
    Tag,
    Verified,
    Verify,
    encode,
)
from qepa_qkd.parity_questions import Question
from qepa_qkd.reconciliation import METHODS, Corrector, Pace
from qepa_qkd.serial_protocol import Nibbles, Slots
from qepa_qkd.sifting import report_symbols, squash
from qepa_qkd.slot_alignment import SAMPLE_EVENTS
from qepa_qkd.verification import VerificationTag

_MOST_AUTHENTICATION_BYTES: Final = 4096
MOST_UNSIFTED_BLOCKS: Final = 2
MOST_OPEN_BLOCKS: Final = 8


@dataclass(frozen=True, slots=True)
class _Batch:
    values: Nibbles
    symbols: Nibbles


class _BobBlock(Block):
    """Adds what only Bob holds; `expects` is the one message type that may come next once the block is closed."""

    expects: type[Message] = Sift
    corrector: Corrector | None = None
    corrected: Bits | None = None
    asked: Question | None = None

    def __init__(self, number: int, settings_digest: bytes) -> None:
        super().__init__(number, settings_digest)
        self.batches: list[_Batch] = []
        self.alarm: str | None = None


class BobDistiller:
    """All blocks of one connection at Bob's end. `outcomes` collects how blocks ended, for the caller to take."""

    def __init__(
        self,
        environment: Environment,
        rng: np.random.Generator,
        alarm: Callable[[bool], str | None] = lambda _: None,
    ) -> None:
        """`rng` settles double clicks; it is seeded from the operating system.

        `alarm` is asked with each report what is wrong with the detections so far, if anything, and told whether they
        close a block. A block with an alarm in its time ends when it is full, before a basis of it is named.
        """
        self._alarm = alarm
        self._environment = environment
        self._settings = environment.settings
        self._rng = rng
        self._digest = environment.settings.digest()
        self._newest = 0
        self._filling: _BobBlock | None = None
        self._blocks: dict[int, _BobBlock] = {}
        self._pace = Pace()
        self.outcomes: list[BlockOutcome] = []

    def restart_filling(self) -> None:
        """Forget the block that is filling; a new run begins at both ends."""
        self._filling = None

    @property
    def correcting(self) -> bool:
        """Whether a block's errors are being corrected, which takes many short messages one after the other."""
        return any(block.expects is ParityReply for block in self._blocks.values())

    def sample(self, run: int, slots: Slots, detectors: Nibbles) -> bytes:
        """Return detections with their symbols, for Alice to align slots; they are in no block."""
        slots, detectors = squash(slots, detectors, self._rng)
        return encode(Sample(run, slots[:SAMPLE_EVENTS], report_symbols(detectors[:SAMPLE_EVENTS])))

    def report(self, run: int, slots: Slots, detectors: Nibbles) -> list[bytes]:
        """Return the report of detections (slots not decreasing), and all the block's bases when these fill it.

        Nothing is said, and the detections are lost, while Alice is too far behind.
        """
        unsifted = sum(block.expects is Sift for block in self._blocks.values())
        if unsifted >= MOST_UNSIFTED_BLOCKS or len(self._blocks) >= MOST_OPEN_BLOCKS:
            return []
        block = self._filling
        if block is None:
            block = self._filling = self._new_block()
        slots, detectors = squash(slots, detectors, self._rng)
        said = block.say(Report(run, block.number, len(block.batches), slots))
        block.batches.append(_Batch((detectors & 1).astype(np.uint8), report_symbols(detectors)))
        block.detections += len(slots)
        block.cover(slots)
        full = block.detections >= self._settings.block_detections
        block.alarm = self._alarm(full) or block.alarm
        return [said, *self._close(block)] if full else [said]

    def on_message(self, message: Message, raw: bytes) -> list[bytes]:
        """Continue the block that `message` is about. Raises ProtocolError or SecurityError: drop the connection."""
        number = getattr(message, "block", None)
        if number is None:
            raise ProtocolError("a message that is about no block")
        block = self._blocks.get(number)
        if block is None:
            return []
        if isinstance(message, Abort):
            if block.expects is Stored:
                self._environment.vault.settle(block.block_id, live=False)
            return self._end(block, message.reason)
        if not isinstance(message, block.expects):
            raise ProtocolError(f"a {type(message).__name__} message out of turn")
        if not isinstance(message, Tag):
            block.heard.absorb(raw)
        try:
            return self._advance(block, message)
        except NoKey as reason:
            return [*self._end(block, str(reason)), encode(Abort(block.number, str(reason)))]

    def _new_block(self) -> _BobBlock:
        self._newest += 1
        return _BobBlock(self._newest, self._digest)

    def _close(self, block: _BobBlock) -> list[bytes]:
        self._blocks[block.number] = block
        self._filling = None
        if block.alarm:
            return [*self._end(block, block.alarm), encode(Abort(block.number, block.alarm))]
        return [block.say(Bases(block.number, i, batch.symbols)) for i, batch in enumerate(block.batches)]

    def _sift(self, block: _BobBlock, index: int, verdicts: Nibbles) -> None:
        batch = block.batches[block.batches_sifted]
        if index != block.batches_sifted or len(verdicts) != len(batch.symbols):
            raise ProtocolError("a sift that answers no batch")
        if np.any((verdicts > 0) & ((verdicts >= 4) != (batch.symbols >> 1))):
            raise ProtocolError("a sift that keeps detections of the other basis")
        block.sifted.add(batch.values, verdicts, batch.symbols)
        block.batches_sifted += 1
        if block.batches_sifted == len(block.batches):
            block.batches.clear()
            block.expects = Reconcile

    def _advance(self, block: _BobBlock, message: Message) -> list[bytes]:  # noqa: PLR0911 (one case a message)
        match message:
            case Sift(_, batch, verdicts):
                self._sift(block, batch, verdicts)
                return []
            case Reconcile(_, block_id, seed, error_rate):
                check_error_rate(block.counts.qber_z, self._settings)
                check_alarms(block, self._environment)
                block.block_id = block_id
                bits = block.sifted.key_bits()
                cost = self._pace.begin(self._environment.unix_time_s(), len(bits))
                block.corrector = METHODS[self._settings.reconciliation].corrector(bits, seed, error_rate, cost)
                block.expects = ParityReply
                return [self._ask(block, block.corrector)]
            case ParityReply(_, parities) if block.corrector is not None and block.asked is not None:
                block.corrector.receive(block.asked, parities)
                return [self._ask(block, block.corrector)]
            case Verify(_, key, tag) if block.corrected is not None:
                if not VerificationTag(key, tag).matches(block.corrected):
                    raise NoKey("verification failed: errors remain after correction")
                block.expects = Amplify
                return [block.say(Verified(block.number))]
            case Amplify():
                self._amplify(block, message)
                return []
            case Tag(_, segment, position, value):
                return self._keep(block, segment, position, value)
            case Stored():
                return self._settle(block)
            case _:
                raise ProtocolError(f"a {type(message).__name__} message out of turn")

    def _ask(self, block: _BobBlock, corrector: Corrector) -> bytes:
        block.asked = corrector.request()
        if block.asked is not None:
            return block.say(ParityRequest(block.number, block.asked))
        self._pace.end(self._environment.unix_time_s())
        block.leak_bits = corrector.leak_bits
        block.errors = block.sifted.by_intensity(corrector.bits != block.sifted.key_bits())
        block.corrected, block.corrector = corrector.bits, None
        block.expects = Verify
        return block.say(Corrected(block.number, block.errors, block.leak_bits))

    def _amplify(self, block: _BobBlock, message: Amplify) -> None:
        if block.corrected is None:
            raise ProtocolError("privacy amplification before error correction")
        check_error_rate(block.qber_x, self._settings)
        block.bounds = final_length(block, self._settings)
        if message.key_bits != block.bounds.bits // 8 * 8:
            raise ProtocolError("the two ends compute different key lengths")
        renewed = message.authentication_bytes
        if renewed % (2 * PAD_BYTES) or renewed > min(_MOST_AUTHENTICATION_BYTES, message.key_bits // 8):
            raise ProtocolError("an impossible share of the key for authentication")
        try:
            block.key = amplify(block.corrected, message.seed, message.key_bits)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        block.authentication_bytes = renewed
        block.expects = Tag

    def _keep(self, block: _BobBlock, segment: int, position: int, value: bytes) -> list[bytes]:
        vault = self._environment.vault
        if not verify_tag(block, self._environment, segment, position, value):
            self._end(block, "authentication failed")
            raise SecurityError("Alice's tag does not fit what was heard from her")
        if segment:
            vault.pads.retire_initial()
        pad = vault.pads.spend_own_pad()
        block.pad_segments = [segment, pad.segment]
        store(block, self._environment, "bob", live=False)
        block.expects = Stored
        return [encode(Tag(block.number, pad.segment, pad.position, block.said.tag(pad)))]

    def _settle(self, block: _BobBlock) -> list[bytes]:
        self._environment.vault.settle(block.block_id, live=True)
        del self._blocks[block.number]
        self.outcomes.append(block.outcome())
        return []

    def _end(self, block: _BobBlock, reason: str) -> list[bytes]:
        del self._blocks[block.number]
        self.outcomes.append(block.outcome(reason))
        return []
