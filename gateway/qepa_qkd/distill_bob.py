"""Bob's half of distillation: reports, error correction, checking what Alice decides."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qepa_qkd.authentication import TAG_BYTES, InitialSecret
from qepa_qkd.cascade import CascadeCorrector
from qepa_qkd.cascade_questions import Question
from qepa_qkd.decoy import KeyLength
from qepa_qkd.distillation import (
    Bits,
    Block,
    BlockOutcome,
    Environment,
    amplify,
    check_error_rate,
    final_length,
    make_passport,
)
from qepa_qkd.errors import NoKey, ProtocolError, SecurityError
from qepa_qkd.messages import (
    Abort,
    Amplify,
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
from qepa_qkd.serial_protocol import Nibbles, Slots
from qepa_qkd.sifting import report_symbols, squash
from qepa_qkd.verification import VerificationTag

_MOST_AUTHENTICATION_BYTES: Final = 4096
MOST_UNANSWERED_REPORTS: Final = 64


@dataclass(frozen=True, slots=True)
class _SentReport:
    raw: bytes
    values: Nibbles
    symbols: Nibbles


class _BobBlock(Block):
    """Adds what only Bob holds; `expects` is the one message type that may come next."""

    expects: type[Message] = Reconcile
    sifted_closed = False
    corrector: CascadeCorrector | None = None
    corrected: Bits | None = None
    asked: Question | None = None
    bounds: KeyLength | None = None
    key = b""
    authentication_bytes = 0


class BobDistiller:
    """All blocks of one connection at Bob's end. `outcomes` collects how blocks ended, for the caller to take."""

    def __init__(self, environment: Environment, secret: InitialSecret, rng: np.random.Generator) -> None:
        """`rng` settles double clicks; it is seeded from the operating system."""
        self._environment = environment
        self._settings = environment.settings
        self._secret = secret
        self._rng = rng
        self._digest = environment.settings.digest()
        self._reports: dict[int, _SentReport] = {}
        self._next_batch = 1
        self._blocks: dict[int, _BobBlock] = {}
        self.outcomes: list[BlockOutcome] = []

    def restart_filling(self) -> None:
        """Forget reports and the block that is filling; a new run begins at both ends."""
        self._reports.clear()
        self._blocks = {n: b for n, b in self._blocks.items() if b.block_id or b.sifted_closed}

    def report(self, run: int, slots: Slots, detectors: Nibbles) -> bytes | None:
        """Return the report of detections (slots not decreasing), or None while Alice is too far behind."""
        if len(self._reports) >= MOST_UNANSWERED_REPORTS:
            return None
        slots, detectors = squash(slots, detectors, self._rng)
        symbols = report_symbols(detectors)
        raw = encode(Report(run, self._next_batch, slots, symbols))
        self._reports[self._next_batch] = _SentReport(raw, (detectors & 1).astype(np.uint8), symbols)
        self._next_batch += 1
        return raw

    def on_message(self, message: Message, raw: bytes) -> list[bytes]:
        """Continue the block that `message` is about. Raises ProtocolError or SecurityError: drop the connection."""
        if isinstance(message, Sift):
            self._on_sift(message, raw)
            return []
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

    def _on_sift(self, sift: Sift, raw: bytes) -> None:
        sent = self._reports.pop(sift.batch, None)
        if sent is None or len(sent.symbols) != len(sift.verdicts):
            raise ProtocolError("a sift that answers no report")
        expected_basis = np.where(sift.verdicts >= 4, 1, 0)
        if np.any((sift.verdicts > 0) & (expected_basis != sent.symbols >> 1)):
            raise ProtocolError("a sift that keeps detections of the other basis")
        block = self._blocks.get(sift.block)
        if block is None:
            block = _BobBlock(sift.block, self._digest, self._secret.hash_key_to_alice, self._secret.hash_key_to_bob)
            self._blocks[sift.block] = block
        if block.sifted_closed:
            raise ProtocolError("a sift for a block that is closed")
        block.said.absorb(sent.raw)
        block.heard.absorb(raw)
        block.sifted.add(sent.values, sift.verdicts, sent.symbols)
        block.sifted_closed = sift.last

    def _advance(self, block: _BobBlock, message: Message) -> list[bytes]:
        match message:
            case Reconcile(_, block_id, seed, error_rate):
                if not block.sifted_closed or len(block.sifted) < self._settings.block_bits:
                    raise ProtocolError("error correction of a block that is not full")
                check_error_rate(block.counts.qber_z, self._settings)
                block.block_id = block_id
                block.corrector = CascadeCorrector(block.sifted.key_bits(), seed, error_rate)
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

    def _ask(self, block: _BobBlock, corrector: CascadeCorrector) -> bytes:
        block.asked = corrector.request()
        if block.asked is not None:
            return block.say(ParityRequest(block.number, block.asked))
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
        if renewed % (2 * TAG_BYTES) or renewed > min(_MOST_AUTHENTICATION_BYTES, message.key_bits // 8):
            raise ProtocolError("an impossible share of the key for authentication")
        try:
            block.key = amplify(block.corrected, message.seed, message.key_bits)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        block.authentication_bytes = renewed
        block.expects = Tag

    def _keep(self, block: _BobBlock, segment: int, position: int, value: bytes) -> list[bytes]:
        if block.bounds is None:
            raise ProtocolError("a tag before there is a key")
        vault = self._environment.vault
        if not block.heard.verify(value, vault.pads.spend_peer_pad(segment, position)):
            self._end(block, "authentication failed")
            raise SecurityError("Alice's tag does not fit what was heard from her")
        pad = vault.pads.spend_own_pad()
        passport = make_passport(
            block, self._environment, "bob", block.bounds, 8 * len(block.key), block.authentication_bytes
        )
        vault.store_block(block.block_id, block.key, block.authentication_bytes, passport, live=False)
        block.expects = Stored
        return [encode(Tag(block.number, pad.segment, pad.position, block.said.tag(pad)))]

    def _settle(self, block: _BobBlock) -> list[bytes]:
        self._environment.vault.settle(block.block_id, live=True)
        del self._blocks[block.number]
        key_bits = 8 * (len(block.key) - block.authentication_bytes)
        self.outcomes.append(BlockOutcome(block.number, block.qber_x, block.counts.qber_z, key_bits, None))
        return []

    def _end(self, block: _BobBlock, reason: str) -> list[bytes]:
        del self._blocks[block.number]
        qber_x = block.qber_x if block.errors else None
        self.outcomes.append(BlockOutcome(block.number, qber_x, block.counts.qber_z, 0, reason))
        return []
