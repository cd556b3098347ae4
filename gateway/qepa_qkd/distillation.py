"""Distillation of blocks: what both ends share. `distill_alice` and `distill_bob` hold the two halves.

Sans-IO: messages in, messages out, randomness and clock passed in. A block is closed by a number of detections that
both ends know beforehand, and no basis of it is named before: nobody who follows the sampling can adapt to it while
its pulses fly (Pfister et al., New J. Phys. 18, 053001, 2016). How many bits its sifting leaves is chance.

Messages about a block are kept as they are said and heard; each end sends one Wegman-Carter tag over what it said,
checked before key is kept. Checking late is sound here because a forger has to commit first: Bob names his random
bases before Alice shows any of hers, so who wants Alice's bases early must guess thousands of choices that Bob's
authentic tag will contradict.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd import __version__
from qepa_qkd.alarms import NORMAL_LIMITS, AlarmLimits, judge_block, reason
from qepa_qkd.authentication import PadLedger, Transcript
from qepa_qkd.decoy import PROOFS, BlockCounts, EpsilonBudget, KeyLength, SourceSettings
from qepa_qkd.errors import NoKey, ProtocolError
from qepa_qkd.messages import Message, encode
from qepa_qkd.passport import Passport
from qepa_qkd.privacy_amplification import seed_bits, toeplitz_hash
from qepa_qkd.serial_protocol import Slots
from qepa_qkd.sifting import SiftedBlock
from qepa_qkd.verification import TAG_BITS, failure_probability

Bits = npt.NDArray[np.uint8]

PROTOCOL_VERSION: Final = 4
UNRELATED: Final = 0.4
"""Error rate above which bits have nothing to do with each other: one slot off it is 1/2, measured and resent 1/4."""
_LEAST_KEY_BITS: Final = 512


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What both ends must agree on; a difference is found when they connect."""

    link: str
    source: SourceSettings
    pulse_rate_hz: float
    key_basis_probability: float
    block_bits: int
    """Key bits a block is meant to have; see `block_detections`."""
    qber_threshold: float
    epsilon: EpsilonBudget
    proof: str
    reconciliation: str = "cascade"
    """A name in `reconciliation.METHODS`."""

    @property
    def block_detections(self) -> int:
        """Detections that close a block: as many as leave `block_bits` when Bob divides his light as Alice does."""
        return ceil(self.block_bits / self.key_basis_probability**2)

    def digest(self) -> bytes:
        """SHA-256 of the settings and the protocol version."""
        text = json.dumps([PROTOCOL_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """How a block ended: `key_bits` for the store, or none and the `reason`."""

    block: int
    qber_x: float | None
    qber_z: float
    key_bits: int
    reason: str | None
    sifted_bits: int
    """0: the block ended before its bases were named, and has no error rates."""
    pulses: int = 0
    """Slots that its reports span: the light it took, whatever its post-processing took."""


class BlockVault(Protocol):
    """Where finished blocks go, and where pads come from."""

    @property
    def pads(self) -> PadLedger:
        """The ledger of authentication key."""
        ...

    def store_block(
        self, block_id: int, key: bytes, authentication_bytes: int, passport: str, *, live: bool, renewed: bool
    ) -> None:
        """Store a block durably, keys and pads together; `renewed`: its tags were made with quantum key."""
        ...

    def settle(self, block_id: int, *, live: bool) -> None:
        """End the pending state of a block."""
        ...


@dataclass(frozen=True, slots=True)
class Environment:
    """What a distiller needs from outside."""

    settings: LinkSettings
    vault: BlockVault
    signer: MLDSA65PrivateKey
    random_bytes: Callable[[int], bytes]
    """Cryptographically secure, `n` bytes."""
    unix_time_s: Callable[[], float]
    alarm_limits: AlarmLimits = NORMAL_LIMITS


class Block:
    """A block at one end, from its first batch of detections to its last tag."""

    def __init__(self, number: int, settings_digest: bytes) -> None:
        self.number = number
        self.detections = 0
        self.batches_sifted = 0
        self.pulses = 0
        self.sifted = SiftedBlock.empty()
        self.said, self.heard = Transcript(), Transcript()
        for transcript in (self.said, self.heard):
            transcript.absorb(settings_digest)
        self.block_id = 0
        self.leak_bits = 0
        self.errors: tuple[int, int, int] | None = None
        """Bits corrected, by intensity; None until Bob has told."""
        self.bounds: KeyLength | None = None
        """What the proof grants, once errors are corrected."""
        self.key = b""
        self.authentication_bytes = 0
        """Of the key, its first, which become pads."""
        self.pad_segments: list[int] = []
        """Where the pads of this block's tags came from."""

    def cover(self, slots: Slots) -> None:
        """Count the slots that a report spans; what lies between two reports may have been left out."""
        if len(slots):
            self.pulses += int(slots[-1] - slots[0]) + 1

    def say(self, message: Message) -> bytes:
        """Encode a message about this block and count it as said."""
        data = encode(message)
        self.said.absorb(data)
        return data

    @property
    def renewed(self) -> bool:
        """Whether both tags were made with quantum key."""
        return all(self.pad_segments)

    @property
    def counts(self) -> BlockCounts:
        """Counts both ends agree on."""
        return replace(self.sifted.counts, m_x=self.errors)

    @property
    def qber_x(self) -> float:
        """Error rate of the key basis, known once errors are corrected."""
        return sum(self.errors or ()) / len(self.sifted)

    def outcome(self, reason: str | None = None) -> BlockOutcome:
        """How the block ended, with what is known of it: with its key, or for a reason with none."""
        qber_x = self.qber_x if self.errors else None
        key_bits = 8 * (len(self.key) - self.authentication_bytes) if reason is None else 0
        return BlockOutcome(self.number, qber_x, self.counts.qber_z, key_bits, reason, len(self.sifted), self.pulses)


def check_error_rate(rate: float, settings: LinkSettings) -> None:
    """Raise NoKey when `rate` is over the threshold, as a fault in timing where the two ends' bits are unrelated."""
    if rate > UNRELATED:
        sentence = f"{100 * rate:.1f} % of the bits differ: the slots of the two ends no longer belong together"
        raise NoKey(reason("timing", sentence))
    if rate > settings.qber_threshold:
        raise NoKey(f"QBER {100 * rate:.1f} % is over the threshold of {100 * settings.qber_threshold:.1f} %")


def check_alarms(block: Block, environment: Environment) -> None:
    """Raise NoKey when a sifted block's counts, or this end's bits, give an alarm."""
    source = environment.settings.source
    verdicts = judge_block(block.counts, source, block.sifted.key_bits(), environment.alarm_limits)
    for kind, sentence in verdicts.items():
        if sentence is not None:
            raise NoKey(reason(kind, sentence))


def check_prospects(block: Block, settings: LinkSettings) -> None:
    """Raise NoKey when a block could not give a key even if its correction found no errors and told nothing."""
    _granted(replace(block.counts, m_x=(0, 0, 0)), 0, settings)


def final_length(block: Block, settings: LinkSettings) -> KeyLength:
    """What the proof grants a corrected block. Raises NoKey when it is too little to be worth a key."""
    return _granted(block.counts, block.leak_bits, settings)


def _granted(counts: BlockCounts, leak_bits: int, settings: LinkSettings) -> KeyLength:
    if failure_probability(sum(counts.n_x)) > settings.epsilon.correctness:
        raise NoKey("the verification hash is too short for the correctness asked for")
    length = PROOFS[settings.proof].key_length(counts, settings.source, settings.epsilon, leak_bits, TAG_BITS)
    if length.bits < _LEAST_KEY_BITS:
        raise NoKey(length.reason or "the finite-key bound leaves too few secret bits")
    return length


def amplify(bits: Bits, seed: bytes, key_bits: int) -> bytes:
    """Hash corrected bits down to `key_bits`, a multiple of 8. Raises ValueError on a seed of the wrong size."""
    needed = seed_bits(len(bits), key_bits)
    if len(seed) != -(-needed // 8):
        raise ValueError("a Toeplitz seed of the wrong size")
    seed_array = np.unpackbits(np.frombuffer(seed, np.uint8), count=needed)
    return np.packbits(toeplitz_hash(bits, seed_array, key_bits)).tobytes()


def verify_tag(block: Block, environment: Environment, segment: int, position: int, value: bytes) -> bool:
    """Whether the other end's tag fits what was heard of a block that has a key; the pad it names is spent."""
    if block.bounds is None:
        raise ProtocolError("a tag before there is a key")
    return block.heard.verify(value, environment.vault.pads.spend_peer_pad(segment, position))


def store(block: Block, environment: Environment, role: str, *, live: bool) -> None:
    """Store a block's key with its signed passport."""
    passport = _passport(block, environment, role).signed(environment.signer)
    environment.vault.store_block(
        block.block_id, block.key, block.authentication_bytes, passport, live=live, renewed=block.renewed
    )


def _passport(block: Block, environment: Environment, role: str) -> Passport:
    settings = environment.settings
    assert block.bounds is not None  # noqa: S101
    return Passport(
        block_id=block.block_id,
        role=role,
        link=settings.link,
        made_s=environment.unix_time_s(),
        software=__version__,
        proof=settings.proof,
        source=settings.source,
        counts=block.counts,
        qber_x=block.qber_x,
        qber_z=block.counts.qber_z,
        epsilon=settings.epsilon,
        verification_epsilon=failure_probability(len(block.sifted)),
        leak_bits=block.leak_bits,
        verification_bits=TAG_BITS,
        bounds=block.bounds,
        key_bits=8 * len(block.key),
        authentication_bits=8 * block.authentication_bytes,
        tags_from="quantum key" if block.renewed else "initial secret",
    )
