"""A passport alone suffices to repeat its proof, and to see what the others would have granted."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from qepa_qkd.decoy import PROOFS
from qepa_qkd.errors import CorruptError
from qepa_qkd.passport import verify_passport
from qepa_qkd.passport_proof import compare_proofs, repeat_proof

from .conftest import MemoryLink


@pytest.fixture
def passport(make_link: Callable[..., MemoryLink]) -> dict[str, Any]:
    link = make_link()
    link.run_block()
    return verify_passport(link.vaults["bob"].keys.passports()[0], link.signer.public_key())


def test_a_passport_suffices_to_repeat_its_proof(passport: dict[str, Any]) -> None:
    length = repeat_proof(passport)
    bounds = passport["bounds"]
    assert (length.bits, length.phase_error) == (bounds["bits"], bounds["phase_error"])
    items = bounds["epsilons"]
    assert items["parameter_estimation"] + items["smoothing"] + items["privacy_amplification"] == pytest.approx(
        passport["epsilon"]["secrecy"]
    )
    assert bounds["costs"]["leak"] == passport["leak_bits"]
    assert sum(passport["counts"]["m_x"]) / sum(passport["counts"]["n_x"]) == passport["qber_x"]
    rows = {row.proof: row.length for row in compare_proofs(passport)}
    assert list(rows) == list(PROOFS)
    assert rows[passport["proof"]] == length


CHANGES: tuple[Callable[[dict[str, Any]], object], ...] = (
    lambda p: p["bounds"].update(bits=p["bounds"]["bits"] + 1),
    lambda p: p.update(key_bits=p["bounds"]["bits"] + 1),
    lambda p: p.update(leak_bits=p["leak_bits"] - 1),
    lambda p: p["counts"].update(m_z=[0, 0, 0]),
    lambda p: p.update(proof="trust me"),
    lambda p: p.pop("counts"),
    lambda p: p["source"].update(probabilities=[1, 2, 3]),
)


def test_a_passport_that_says_anything_else_is_found_out(passport: dict[str, Any]) -> None:
    for change in CHANGES:
        wrong = copy.deepcopy(passport)
        change(wrong)
        with pytest.raises(CorruptError):
            repeat_proof(wrong)
