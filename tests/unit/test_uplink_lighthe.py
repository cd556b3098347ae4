"""LightHE on numpy gives the wire's own bytes, key by key or many keys at a time."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_uplink import compiled, lighthe
from qepa_uplink.errors import UplinkError
from qepa_uplink.lighthe import SealedVector, add_all, add_sealed, mask, open_sum, seal_values, sum_masks, zero
from qepa_wire.lighthe import seal

CHECK = bytes(range(32))
words = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=300)
keys = st.lists(st.binary(min_size=32, max_size=32), max_size=4)


@settings(max_examples=60, deadline=None)
@given(words, keys, st.integers(0, 2**64 - 1))
def test_a_board_on_numpy_seals_as_a_board_does(values, mask_keys, round_):
    ours = seal_values(values, mask_keys, CHECK, stream=2, round_=round_).to_bytes()
    assert ours == seal(values, mask_keys, CHECK, 2, round_)


@pytest.mark.parametrize("n_words", [1, 2, 3, 4, 5, 240, 1000])
@pytest.mark.parametrize("cell", [0, 65535])
def test_many_masks_at_a_time_are_the_sum_of_each(n_words, cell):
    if not compiled.available():
        pytest.skip("NOT TESTED: no numba, or no libcrypto of OpenSSL 3")
    many = [os.urandom(32) for _ in range(100)]
    place = {"stream": 2, "round_": 2**63 + 5, "n_words": n_words, "cell": cell}
    one_by_one = zero(n_words)
    for key in many:
        one_by_one = one_by_one + mask(key, **place)
    assert sum_masks(iter(many), **place).to_bytes() == one_by_one.to_bytes()


@pytest.mark.parametrize("n_words", [1, 2, 7, 240])
def test_without_compiled_loops_all_is_the_same(monkeypatch, n_words):
    many, place = [os.urandom(32) for _ in range(40)], {"stream": 1, "round_": 3}
    values = [i - 100 for i in range(n_words)]

    def everything():
        masks = sum_masks(many, n_words=n_words, **place)
        sealed = [seal_values(values, [key], CHECK, **place).to_bytes() for key in many]
        total = add_sealed(sealed, n_words)
        return masks.to_bytes(), sealed, total.to_bytes(), open_sum(total - masks, CHECK, **place).tolist()

    now = everything()
    monkeypatch.setattr(lighthe.compiled, "available", lambda: False)
    assert not compiled.loaded()
    assert everything() == now


def test_where_memory_may_not_become_code_sums_are_made_in_python():
    """As `MemoryDenyWriteExecute` of the gateway's service has it; numba refuses to be imported there."""
    refuse_code, pr_set_mdwe = 1, 65
    program = f"""
import ctypes
if ctypes.CDLL(None).prctl({pr_set_mdwe}, {refuse_code}, 0, 0, 0):
    raise SystemExit(77)
from qepa_uplink import lighthe
print(lighthe.sum_masks([bytes([i]) * 32 for i in range(40)], stream=1, round_=3, n_words=5).to_bytes().hex())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if run.returncode == 77:
        pytest.skip("NOT TESTED: this kernel cannot forbid it (before Linux 6.3)")
    assert run.returncode == 0, run.stderr
    here = sum_masks([bytes([i]) * 32 for i in range(40)], stream=1, round_=3, n_words=5)
    assert run.stdout.strip() == here.to_bytes().hex()


def test_a_key_of_another_length_among_many_is_refused():
    many = [os.urandom(32) for _ in range(40)]
    many[17] = os.urandom(31)
    with pytest.raises(ValueError, match="key"):
        sum_masks(many, stream=1, round_=3, n_words=7)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20).flatmap(lambda n: st.lists(st.binary(min_size=4 * n + 16, max_size=4 * n + 16), min_size=1)))
def test_bytes_add_up_as_vectors_do(vectors):
    n_words = len(vectors[0]) // 4 - 4
    total = zero(n_words)
    for vector in vectors:
        total = total + SealedVector.from_bytes(vector)
    assert add_sealed(vectors, n_words).to_bytes() == total.to_bytes()
    assert add_all([SealedVector.from_bytes(vector) for vector in vectors], n_words).to_bytes() == total.to_bytes()


def test_nothing_adds_up_to_zero_and_other_lengths_to_nothing():
    assert add_sealed([], 3).to_bytes() == add_all([], 3).to_bytes() == bytes(28)
    with pytest.raises(UplinkError, match="length"):
        add_sealed([bytes(28), bytes(32)], 3)
    with pytest.raises(UplinkError, match="length"):
        add_all([zero(3), zero(4)], 3)


def test_what_was_sealed_on_numpy_opens():
    boards = [[os.urandom(32), os.urandom(32)] for _ in range(30)]
    values = [(-1) ** i * 1000 * i for i in range(240)]
    sealed = [seal_values(values, pair, CHECK, stream=2, round_=9).to_bytes() for pair in boards]
    masks = sum_masks([key for pair in boards for key in pair], stream=2, round_=9, n_words=240)
    opened = open_sum(add_sealed(sealed, 240) - masks, CHECK, stream=2, round_=9)
    assert np.array_equal(opened, 30 * np.array(values))
