"""Error correction by name: what both ends choose from, and what each method looks like."""

from dataclasses import dataclass
from typing import Final, Protocol

from qepa_qkd.cascade import CascadeCorrector, CascadeReference, exchange_cost
from qepa_qkd.ldpc import LdpcCorrector, LdpcReference
from qepa_qkd.parity_questions import Bits, Question


class Reference(Protocol):
    """Alice's side: answers questions about her bits."""

    @property
    def leak_bits(self) -> int:
        """Parities told so far."""
        ...

    def answer(self, question: Question) -> Bits:
        """Return the parities asked for. Raises ProtocolError."""
        ...


class Corrector(Protocol):
    """Bob's side: asks until there is nothing left to ask; then his bits are corrected."""

    @property
    def leak_bits(self) -> int:
        """Parities told so far."""
        ...

    @property
    def exchanges(self) -> int:
        """Questions answered so far."""
        ...

    @property
    def bits(self) -> Bits:
        """The bits as they are now."""
        ...

    @property
    def corrected(self) -> int:
        """Bits changed so far."""
        ...

    def request(self) -> Question | None:
        """Return the next question, None at the end. Raises NoKey when correction fails, ProtocolError on lies."""
        ...

    def receive(self, question: Question, parities: Bits) -> None:
        """Take the answers to the last request. Raises ProtocolError."""
        ...


class MakeReference(Protocol):
    """Makes Alice's side from her bits, the block's public seed and the error rate both ends assume."""

    def __call__(self, bits: Bits, seed: bytes, error_rate: float) -> Reference: ...


class MakeCorrector(Protocol):
    """Makes Bob's side; `exchange_cost_bits`: what saving one exchange is worth, in leaked bits."""

    def __call__(
        self, bits: Bits, seed: bytes, error_rate: float, exchange_cost_bits: float | None = None
    ) -> Corrector: ...


@dataclass(frozen=True, slots=True)
class Method:
    """Both sides of one way to correct errors."""

    reference: MakeReference
    corrector: MakeCorrector


METHODS: Final = {
    "cascade": Method(CascadeReference, CascadeCorrector),
    "ldpc": Method(LdpcReference, LdpcCorrector),
}


class Pace:
    """What saving one exchange is worth, learned from how long correction takes beside filling a block.

    Correction that keeps up may take its exchanges and leak least; where it falls behind, as over a long round trip,
    exchanges are bought with leak until it keeps up.
    """

    _LEAST: Final = 2e-5
    _MOST: Final = 1e-2

    def __init__(self) -> None:
        self._fraction = self._LEAST
        self._began_s: float | None = None
        self._filled_s: float | None = None

    def begin(self, now_s: float, bit_count: int) -> float:
        """A block of `bit_count` is full: return `exchange_cost_bits` for it."""
        self._filled_s = None if self._began_s is None else now_s - self._began_s
        self._began_s = now_s
        return max(self._fraction * bit_count, exchange_cost(bit_count))

    def end(self, now_s: float) -> None:
        """The block that began last is corrected."""
        if self._began_s is None or self._filled_s is None:
            return
        share = (now_s - self._began_s) / max(self._filled_s, 1e-3)
        if share > 0.5:
            self._fraction = min(self._MOST, 2 * self._fraction)
        elif share < 0.1:
            self._fraction = max(self._LEAST, self._fraction / 2)
