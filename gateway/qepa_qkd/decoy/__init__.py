"""How many secret bits a block holds: finite-key decoy-state bounds behind a pluggable proof.

Key comes from basis X, basis Z estimates the phase error. `proofs` says what is proved, from what and by whom.
"""

from qepa_qkd.decoy.comparison import ComparisonRow, compare
from qepa_qkd.decoy.proofs import PROOFS, DecoyProof
from qepa_qkd.decoy.quantities import (
    BlockCounts,
    Costs,
    EpsilonBudget,
    EpsilonItems,
    KeyLength,
    KeyLengthProof,
    SourceSettings,
)

__all__ = [
    "PROOFS",
    "BlockCounts",
    "ComparisonRow",
    "Costs",
    "DecoyProof",
    "EpsilonBudget",
    "EpsilonItems",
    "KeyLength",
    "KeyLengthProof",
    "SourceSettings",
    "compare",
]
