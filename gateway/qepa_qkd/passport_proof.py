"""Repeat the key-length computation that a passport states, and see what other proofs would have said."""

from typing import Any

from qepa_qkd.decoy import PROOFS, BlockCounts, ComparisonRow, EpsilonBudget, KeyLength, SourceSettings, compare
from qepa_qkd.errors import CorruptError


def repeat_proof(passport: dict[str, Any]) -> KeyLength:
    """Compute the length again from the counts in a verified passport.

    Raises CorruptError when the passport lacks what that takes, or grants another length or more key than that.
    """
    counts, source, epsilon, leak, verification = _inputs(passport)
    try:
        length = PROOFS[passport["proof"]].key_length(counts, source, epsilon, leak, verification)
        stated, granted = int(passport["bounds"]["bits"]), int(passport["key_bits"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"a passport whose proof cannot be repeated: {error}") from None
    if stated != length.bits or granted > length.bits:
        raise CorruptError(f"a passport states {stated} bits, of which {granted} kept; its counts give {length.bits}")
    return length


def compare_proofs(passport: dict[str, Any]) -> list[ComparisonRow]:
    """Return what every proof says to the counts of a verified passport. Raises CorruptError."""
    return compare(*_inputs(passport))


def _inputs(passport: dict[str, Any]) -> tuple[BlockCounts, SourceSettings, EpsilonBudget, int, int]:
    try:
        counts, source = passport["counts"], passport["source"]
        m_x = counts["m_x"]
        return (
            BlockCounts(
                _triple(counts["n_x"]),
                _triple(counts["n_z"]),
                _triple(counts["m_z"]),
                None if m_x is None else _triple(m_x),
            ),
            SourceSettings(tuple(source["intensities"]), tuple(source["probabilities"])),
            EpsilonBudget(**passport["epsilon"]),
            int(passport["leak_bits"]),
            int(passport["verification_bits"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"a passport whose proof cannot be repeated: {error!r}") from None


def _triple(values: list[int]) -> tuple[int, int, int]:
    first, second, third = values
    return int(first), int(second), int(third)
