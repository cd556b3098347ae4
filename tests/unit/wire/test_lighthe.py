"""LightHE laws: sums of sealed vectors are sealed sums, and an altered sum is noticed."""

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qepa_wire import keys, lighthe
from qepa_wire.errors import WireError
from qepa_wire.keystream import DOMAIN_MASK, keystream

M32, M64 = 2**32, 2**64
COHORT = keys.derive(b"c" * 32, keys.COHORT_CHECK)

rounds = st.integers(0, M64 - 1)
streams = st.sampled_from((1, 2))
key = st.binary(min_size=32, max_size=32)


@st.composite
def cohorts(draw):
    """Vectors of several boards, small enough that their sum stays in (-2^31, 2^31), and each board's two keys."""
    n_boards, n_words = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    limit = (2**31 - 1) // n_boards
    word = st.one_of(st.integers(-limit, limit), st.sampled_from((0, 1, -1, limit, -limit)))
    vector = st.lists(word, min_size=n_words, max_size=n_words)
    values = draw(st.lists(vector, min_size=n_boards, max_size=n_boards))
    masks = draw(st.lists(st.tuples(key, key), min_size=n_boards, max_size=n_boards))
    return values, masks


def unpacked(data: bytes) -> tuple[list[int], list[int]]:
    n = (len(data) - 16) // 4
    return list(struct.unpack_from(f"<{n}I", data)), list(struct.unpack_from("<QQ", data, 4 * n))


def combined(vectors: list[bytes], signs: list[int]) -> tuple[list[int], list[int]]:
    """The signed sum of vectors, word by word: words mod 2^32, checks mod 2^64."""
    parts = [unpacked(vector) for vector in vectors]

    def add(which: int, modulus: int) -> list[int]:
        columns = zip(*(part[which] for part in parts), strict=True)
        return [sum(s * w for s, w in zip(signs, column, strict=True)) % modulus for column in columns]

    return add(0, M32), add(1, M64)


def signed(words: list[int]) -> list[int]:
    return [word - M32 if word >= 2**31 else word for word in words]


def opened(values, masks, stream, round_, *, summed=None, stripped=None) -> tuple[list[int], list[int]]:
    """What a server opens: sealed vectors of boards ``summed`` minus the masks of boards ``stripped``."""
    boards = range(len(values))
    summed = boards if summed is None else summed
    stripped = boards if stripped is None else stripped
    size = lighthe.vector_bytes(len(values[0]))
    sealed = [lighthe.seal(values[i], masks[i], COHORT, stream, round_) for i in summed]
    pads = [keystream(k, DOMAIN_MASK, stream, 0, round_, size) for i in stripped for k in masks[i]]
    return combined(sealed + pads, [1] * len(sealed) + [-1] * len(pads))


@given(cohorts(), streams, rounds)
def test_sum_of_sealed_minus_masks_is_the_sum_and_its_checks_hold(cohort, stream, round_):
    values, masks = cohort
    words, checks = opened(values, masks, stream, round_)
    assert signed(words) == [sum(column) for column in zip(*values, strict=True)]
    assert checks == list(lighthe.check_values(signed(words), COHORT, stream, round_))


@given(cohorts(), streams, rounds, st.data())
def test_an_altered_sum_fails_the_check(cohort, stream, round_, data):
    values, masks = cohort
    words, checks = opened(values, masks, stream, round_)
    at = data.draw(st.integers(0, len(words) - 1), label="word")
    # single bits, the top one among them (the worst case of the proof), and whole words
    words[at] ^= data.draw(st.one_of(st.sampled_from([1 << i for i in range(32)]), st.integers(1, M32 - 1)))
    assert checks != list(lighthe.check_values(signed(words), COHORT, stream, round_))


@given(cohorts(), streams, rounds, st.integers(0, 1), st.integers(1, M64 - 1))
def test_an_altered_check_word_fails_the_check(cohort, stream, round_, which, delta):
    words, checks = opened(*cohort, stream, round_)
    checks[which] = (checks[which] + delta) % M64
    assert checks != list(lighthe.check_values(signed(words), COHORT, stream, round_))


@given(cohorts(), streams, rounds)
def test_a_dropped_or_doubled_board_fails_the_check(cohort, stream, round_):
    values, masks = cohort
    assume(len(set(masks)) == len(masks))
    boards = list(range(len(values)))
    for summed in ([*boards, 0], boards[1:]):
        if summed:
            words, checks = opened(values, masks, stream, round_, summed=summed, stripped=boards)
            assert checks != list(lighthe.check_values(signed(words), COHORT, stream, round_))


@given(cohorts(), streams, st.integers(1, M64 - 1))
def test_a_vector_replayed_from_an_earlier_round_fails_the_check(cohort, stream, round_):
    values, masks = cohort
    size = lighthe.vector_bytes(len(values[0]))
    old = lighthe.seal(values[0], masks[0], COHORT, stream, round_ - 1)
    pads = [keystream(k, DOMAIN_MASK, stream, 0, round_, size) for k in masks[0]]
    words, checks = combined([old, *pads], [1, -1, -1])
    assert checks != list(lighthe.check_values(signed(words), COHORT, stream, round_))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), key, key, rounds)
def test_masks_may_come_off_in_any_order(values, link, end, round_):
    sealed = lighthe.seal(values, [link, end], COHORT, 1, round_)
    assert sealed == lighthe.seal(values, [end, link], COHORT, 1, round_)
    pad = keystream(link, DOMAIN_MASK, 1, 0, round_, len(sealed))
    words, checks = combined([sealed, pad], [1, -1])
    assert (words, checks) == unpacked(lighthe.seal(values, [end], COHORT, 1, round_))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8), key, rounds, st.data())
def test_a_pad_masks_as_a_keystream_does(values, end, round_, data):
    pad = data.draw(st.binary(min_size=4 * len(values) + 16, max_size=4 * len(values) + 16))
    words, checks = combined([lighthe.seal(values, [end], COHORT, 1, round_, [pad]), pad], [1, -1])
    assert (words, checks) == unpacked(lighthe.seal(values, [end], COHORT, 1, round_))
    with pytest.raises(WireError, match="a pad of"):
        lighthe.seal(values, [end], COHORT, 1, round_, [pad + b"x"])


def test_the_longest_vector_is_sealed_and_a_longer_one_refused():
    longest = [0] * lighthe.MAX_WORDS
    assert len(lighthe.seal(longest, [b"k" * 32], COHORT, 1, 1)) == 4 * lighthe.MAX_WORDS + 16
    with pytest.raises(WireError, match="not 65536"):
        lighthe.seal([0, *longest], [b"k" * 32], COHORT, 1, 1)
