"""LDPC error correction: Alice tells a syndrome, Bob decodes; a round trip or a few, for slow channels.

The block is shuffled and cut into frames. Bob asks for the syndrome of all frames at once; for frames that do not
decode he asks for more parities, which take checks apart (`ldpc_code`). Where all parities of a frame do not suffice,
errors are far more than the error rate said: Cascade goes over the whole block, decoded frames corrected. Same
interface as `cascade`; every parity told, of either kind, is counted.

D. Elkouss, A. Leverrier, R. Alleaume, J. Boutros, "Efficient reconciliation protocol for discrete-variable quantum key
distribution" (2009); asking for more after a failure: J. Martinez-Mateo, D. Elkouss, V. Martin, "Blind reconciliation",
Quantum Inf. Comput. 12 (2012). A decoded frame has the syndrome Alice told; that it is her frame is for verification
to say.
"""

import hashlib
from math import ceil, log
from typing import Final

import numpy as np

from qepa_qkd.cascade import CascadeCorrector, CascadeReference
from qepa_qkd.errors import ProtocolError
from qepa_qkd.ldpc_code import Graph, binary_entropy, decode, make_code, syndrome, take_apart
from qepa_qkd.parity_questions import Bits, Opening, Question, SyndromeBits
from qepa_qkd.shuffling import shuffle

LARGEST_FRAME: Final = 65_536
_FIRST_EFFICIENCY: Final = 1.12
_STEP_EFFICIENCY: Final = 0.03
"""Parities per Shannon limit: asked for at first, and more after a failure."""
_PATIENCE: Final = 8
"""Failures of a frame after which each step is longer than the one before."""
_SMALLEST_RATE: Final = 2e-3
_FALLBACK_RATE: Final = 3
"""Cascade's error rate, in that of the block: about what all parities of a frame just cannot correct."""


class _Frames:
    """How a block is shuffled and cut; the same at both ends."""

    def __init__(self, bit_count: int, seed: bytes, error_rate: float) -> None:
        if bit_count < 2:
            raise ValueError("a block for LDPC codes has at least 2 bits")
        self.count = -(-bit_count // LARGEST_FRAME)
        self.length = -(-bit_count // self.count)
        self._bit_count = bit_count
        self._keys = np.frombuffer(hashlib.shake_256(b"ldpc" + seed).digest(20), "<u4").astype(np.uint32)
        self.rate = min(0.25, max(error_rate, _SMALLEST_RATE))
        limit = self.length * binary_entropy(self.rate)
        # Short frames stray further from the mean number of errors.
        spread = 1.0 / max(1.0, self.length * self.rate) ** 0.5
        self.checks = max(4, min(self.length - 1, ceil(limit * (_FIRST_EFFICIENCY + spread))))
        self.step = max(2, ceil(limit * _STEP_EFFICIENCY))

    @property
    def fallback_rate(self) -> float:
        """Error rate that Cascade goes by."""
        return min(0.25, _FALLBACK_RATE * self.rate)

    def code(self) -> Graph:
        return make_code(self.length, self.checks)

    def cut(self, bits: Bits) -> Bits:
        """Shuffle `bits` into rows of one frame each; the end of the last one is filled with zeros."""
        out = np.zeros(self.count * self.length, np.uint8)
        shuffle(self._keys, bits, out[: self._bit_count], False)
        return out.reshape(self.count, self.length)

    def join(self, frames: Bits) -> Bits:
        """The reverse of `cut`."""
        out = np.empty(self._bit_count, np.uint8)
        shuffle(self._keys, frames.reshape(-1)[: self._bit_count], out, True)
        return out


class LdpcReference:
    """Alice's side: tells parities of `bits` and counts them in `leak_bits`."""

    def __init__(self, bits: Bits, seed: bytes, error_rate: float) -> None:
        """`seed` is public and drawn after Bob's bits are fixed; both ends have the same `error_rate`."""
        self._frames = _Frames(len(bits), seed, error_rate)
        self._rows = self._frames.cut(bits)
        self._told = np.zeros(self._frames.count, np.int64)
        self._syndrome_bits = 0
        self._bits, self._seed = bits, seed
        self._cascade: CascadeReference | None = None

    @property
    def leak_bits(self) -> int:
        """Parities told so far."""
        return self._syndrome_bits + (self._cascade.leak_bits if self._cascade else 0)

    def answer(self, question: Question) -> Bits:
        """Return the next parities of the frames asked for. Raises ProtocolError on questions no corrector asks."""
        frames = self._frames
        if isinstance(question, Opening) and self._cascade is None and self._told.max() == 2 * frames.checks:
            self._cascade = CascadeReference(self._bits, self._seed, frames.fallback_rate)
        if self._cascade is not None:
            return self._cascade.answer(question)
        if not isinstance(question, SyndromeBits) or not len(question.frames):
            raise ProtocolError("a question that is not about syndromes")
        names = question.frames
        if names.max() >= frames.count or np.any(np.diff(names.astype(np.int64)) <= 0):
            raise ProtocolError("a request for frames that do not exist")
        told = set(self._told[names].tolist())
        whole = told == {0} and question.count == frames.checks
        more = len(told) == 1 and 0 not in told and 0 < question.count <= 2 * frames.checks - max(told)
        if not whole and not more:
            raise ProtocolError("a request for parities that a frame does not have")
        first = max(told)
        out = [self._parities(self._rows[name])[first : first + question.count] for name in names]
        self._told[names] += question.count
        told_bits = np.concatenate(out)
        self._syndrome_bits += len(told_bits)
        return told_bits

    def _parities(self, row: Bits) -> Bits:
        """All parities of a frame: of its checks, then of the first half of each."""
        code = self._frames.code()
        whole = syndrome(code.ends, code.variables, row)
        halves = syndrome(*take_apart(code.ends, code.variables, len(whole)), row)[::2]
        return np.concatenate([whole, halves])


class LdpcCorrector:
    """Bob's side. Alternate `request()` and `receive()` until `request()` returns None; then `bits` is corrected."""

    def __init__(self, bits: Bits, seed: bytes, error_rate: float, exchange_cost_bits: float | None = None) -> None:
        """`exchange_cost_bits`, what saving one exchange is worth in leaked bits, sets how much more is asked for."""
        self._frames = _Frames(len(bits), seed, error_rate)
        self._rows = self._frames.cut(bits)
        self._wrong = np.zeros_like(self._rows)
        self._known: list[Bits] = [np.zeros(0, np.uint8)] * self._frames.count
        self._open = np.arange(self._frames.count, dtype=np.uint16)
        self._step = max(self._frames.step, int(exchange_cost_bits or 0))
        self._prior = np.full(self._frames.length, log((1 - self._frames.rate) / self._frames.rate), np.float32)
        self._seed, self._cost = seed, exchange_cost_bits
        self._syndrome_bits = self._syndromes = 0
        self._cascade: CascadeCorrector | None = None

    @property
    def leak_bits(self) -> int:
        """Parities told so far."""
        return self._syndrome_bits + (self._cascade.leak_bits if self._cascade else 0)

    @property
    def exchanges(self) -> int:
        """Questions answered so far."""
        return self._syndromes + (self._cascade.exchanges if self._cascade else 0)

    @property
    def bits(self) -> Bits:
        """The bits as they are now, in the order they came in."""
        return self._cascade.bits if self._cascade else self._frames.join(self._rows ^ self._wrong)

    @property
    def corrected(self) -> int:
        """Bits changed so far."""
        return int(np.count_nonzero(self.bits != self._frames.join(self._rows)))

    def request(self) -> Question | None:
        """Return the next question, or None when nothing is left to ask. Raises NoKey on hopelessly many errors."""
        if self._cascade is not None:
            return self._cascade.request()
        if not len(self._open):
            return None
        known = len(self._known[int(self._open[0])])
        if known == 0:
            return SyndromeBits(self._open, self._frames.checks)
        left = 2 * self._frames.checks - known
        if left == 0:
            self._cascade = CascadeCorrector(self.bits, self._seed, self._frames.fallback_rate, self._cost)
            return self._cascade.request()
        return SyndromeBits(self._open, min(self._step * max(1, self._syndromes - _PATIENCE), left))

    def receive(self, question: Question, parities: Bits) -> None:
        """Take the answers to `question`, the last request, and decode."""
        if self._cascade is not None:
            self._cascade.receive(question, parities)
            return
        if not isinstance(question, SyndromeBits) or len(parities) != len(question.frames) * question.count:
            raise ProtocolError("a parity answer of the wrong length")
        self._syndrome_bits += len(parities)
        self._syndromes += 1
        rows = parities.reshape(len(question.frames), question.count)
        failed = [name for name, row in zip(question.frames.tolist(), rows, strict=True) if not self._decode(name, row)]
        self._open = np.array(failed, np.uint16)

    def _decode(self, name: int, more: Bits) -> bool:
        known = self._known[name] = np.concatenate([self._known[name], more])
        checks, code = self._frames.checks, self._frames.code()
        apart = len(known) - checks
        ends, variables = take_apart(code.ends, code.variables, apart)
        told = np.empty(len(known), np.uint8)
        told[0 : 2 * apart : 2] = known[checks:]
        told[1 : 2 * apart : 2] = known[checks:] ^ known[:apart]
        told[2 * apart :] = known[apart:checks]
        wanted = told ^ syndrome(ends, variables, self._rows[name])
        pattern = np.zeros(self._frames.length, np.uint8)
        if decode(ends, variables, wanted, self._prior, pattern) < 0:
            return False
        self._wrong[name] = pattern
        return True
