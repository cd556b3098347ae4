"""The universal hash equals the polynomial of its definition, however a message is cut and however long."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd.universal_hash import PRIME, PolynomialHash, collision_probability


def written_out(point: bytes, parts: list[bytes]) -> int:
    """Sum of coefficients times powers, the first coefficient with the highest power; no Horner."""
    x = int.from_bytes(point, "little") % PRIME
    coefficients = []
    for part in parts:
        coefficients.append(len(part) + 1)
        coefficients += [int.from_bytes(part[i : i + 15], "little") for i in range(0, len(part), 15)]
    return sum(c * pow(x, len(coefficients) - k, PRIME) for k, c in enumerate(coefficients)) % PRIME


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(max_size=2000), max_size=4))
def test_equals_the_polynomial(point: bytes, parts: list[bytes]) -> None:
    hashed = PolynomialHash(point)
    for part in parts:
        hashed.update(part)
    assert hashed.value() == written_out(point, parts)


@pytest.mark.parametrize(
    "point", [b"\xff" * 16, b"\xfe" + b"\xff" * 14 + b"\x7f", bytes(15) + b"\x40", b"\1" + bytes(15)]
)
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80])
def test_extreme_words_carry_right(point: bytes, fill: int) -> None:
    part = bytes([fill]) * 5000
    hashed = PolynomialHash(point)
    hashed.update(part)
    assert hashed.value() == written_out(point, [part])


def test_long_messages() -> None:
    part = np.random.default_rng(3).bytes(300_007)
    hashed = PolynomialHash(bytes(range(1, 17)))
    hashed.update(part)
    hashed.update(part[:100])
    assert hashed.value() == written_out(bytes(range(1, 17)), [part, part[:100]])
    assert hashed.collision_probability() == collision_probability(len(part), 100)
    assert collision_probability(len(part), 100) * PRIME == pytest.approx(1 + 20_001 + 1 + 7 + 2, rel=1e-9)


def test_the_bound_covers_the_key_of_which_all_messages_hash_to_zero() -> None:
    """Keys of 16 bytes are taken mod p; 0 and 1 are hit three times and every other point twice."""
    keys = [0, 1, PRIME, PRIME + 1, 2 * PRIME, 2 * PRIME + 1]
    hashes = []
    for key in keys:
        hashed = PolynomialHash(key.to_bytes(16, "little"))
        hashed.update(b"a message")
        hashes.append(hashed.value())
    assert hashes[0::2] == [0, 0, 0]
    assert len(set(hashes[1::2])) == 1
    # A part of 9 bytes is a polynomial of degree 2, which has 2 roots at most.
    assert collision_probability(9) >= (2 * 2 + 2) / 2**128
