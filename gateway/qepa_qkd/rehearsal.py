"""What an end does to a block, once on a few bits before anything is promised: then no kernel has to be compiled.

A kernel is compiled for given types of arguments. So this calls what a session calls, and passes arrays through
messages as the wire does. `tests/unit/qkd/test_rehearsal.py` runs links and finds what they call beyond.
"""

from functools import cache, partial
from typing import Final, TypeVar, cast

import numpy as np

from qepa_jit.warming import warm
from qepa_qkd.messages import Bases, ParityReply, ParityRequest, Sift, decode, encode
from qepa_qkd.parity_questions import Bits
from qepa_qkd.privacy_amplification import seed_bits, toeplitz_hash
from qepa_qkd.reconciliation import METHODS
from qepa_qkd.serial_protocol import Command, FrameDecoder, FrameEncoder
from qepa_qkd.sifting import SiftedBlock, judge
from qepa_qkd.verification import KEY_BYTES, make_tag

_BITS: Final = 3000
_ERROR_RATE: Final = 0.02
_WRONG: Final = 8 * _ERROR_RATE
"""Far more than said: LDPC, too, asks for all it has and goes over to Cascade."""
_SEED: Final = bytes(16)
_Said = TypeVar("_Said", Bases, Sift, ParityRequest, ParityReply)


@cache
def rehearse(reconciliation: str) -> None:
    """Have compiled or loaded what either end needs that corrects errors by `reconciliation`; once in a process."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, _BITS, dtype=np.uint8)
    bobs = bits ^ (rng.random(_BITS) < _WRONG).astype(np.uint8)
    warm(
        {
            "frames": _frame,
            "sifting": partial(_sift, rng),
            "error correction": partial(_correct, reconciliation, bits, bobs),
            "verification": lambda: make_tag(bytes(KEY_BYTES), rng.integers(0, 2, 8000, dtype=np.uint8)),
            "privacy amplification": partial(_amplify, bits),
        }
    )


def _frame() -> None:
    list(FrameDecoder().feed(FrameEncoder().encode(Command("x" * 200))))


def _sift(rng: np.random.Generator) -> None:
    """Symbols as Bob made them, verdicts as Alice made them, and either as the other heard it."""
    bases = Bases(1, 0, rng.choice(np.array([0, 2, 3], np.uint8), 64))
    states = rng.integers(0, 12, 64, dtype=np.uint8)
    sift = Sift(1, 0, judge(_heard(bases).symbols, states))
    values = (states & 1).astype(np.uint8)
    SiftedBlock.empty().add(values, sift.verdicts, _heard(bases).symbols)
    SiftedBlock.empty().add(values, _heard(sift).verdicts, bases.symbols)


def _correct(reconciliation: str, bits: Bits, bobs: Bits) -> None:
    reference = METHODS[reconciliation].reference(bits, _SEED, _ERROR_RATE)
    corrector = METHODS[reconciliation].corrector(bobs, _SEED, _ERROR_RATE)
    while (question := corrector.request()) is not None:
        parities = reference.answer(_heard(ParityRequest(1, question)).question)
        corrector.receive(question, _heard(ParityReply(1, parities)).parities)


def _amplify(bits: Bits) -> None:
    toeplitz_hash(bits, np.ones(seed_bits(len(bits), 1000), np.uint8), 1000)


def _heard(message: _Said) -> _Said:
    """As the peer has it."""
    return cast(_Said, decode(encode(message)))
