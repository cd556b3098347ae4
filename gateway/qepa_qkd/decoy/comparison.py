"""The same counts under every proof, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass

from qepa_qkd.decoy.proofs import PROOFS
from qepa_qkd.decoy.quantities import BlockCounts, EpsilonBudget, KeyLength, SourceSettings


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One proof's answer, or why it has none."""

    proof: str
    length: KeyLength | None
    reason: str | None
    bits_per_sifted_bit: float


def compare(
    counts: BlockCounts,
    source: SourceSettings,
    epsilon: EpsilonBudget,
    leak_bits: int,
    verification_bits: int,
    *,
    proofs: Iterable[str] = tuple(PROOFS),
    errors_public: bool = True,
) -> list[ComparisonRow]:
    """Return one row for each of `proofs`, in that order. Choosing the best row afterwards would be no proof at all."""
    rows = []
    sifted = max(1, sum(counts.n_x))
    for name in proofs:
        try:
            length = PROOFS[name].key_length(
                counts, source, epsilon, leak_bits, verification_bits, errors_public=errors_public
            )
        except ValueError as error:
            rows.append(ComparisonRow(name, None, str(error), 0.0))
        else:
            rows.append(ComparisonRow(name, length, length.reason, length.bits / sifted))
    return rows
