"""Error correction by name: what both ends choose from, and what each method looks like."""

from dataclasses import dataclass
from typing import Final, Protocol

from qepa_qkd.cascade import CascadeCorrector, CascadeReference
from qepa_qkd.ldpc import LdpcCorrector, LdpcReference
from qepa_qkd.parity_questions import Bits, Question


class Reference(Protocol):
    """Alice's side: answers questions about her bits."""

    leak_bits: int
    """Parities told so far."""

    def answer(self, question: Question) -> Bits:
        """Return the parities asked for. Raises ProtocolError."""
        ...


class Corrector(Protocol):
    """Bob's side: asks until there is nothing left to ask; then his bits are corrected."""

    leak_bits: int
    exchanges: int

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
