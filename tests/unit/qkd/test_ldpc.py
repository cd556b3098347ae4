"""LDPC: ends with identical strings or no key; what is told is counted; codes are the same on every machine."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd.errors import NoKey, ProtocolError
from qepa_qkd.ldpc import LARGEST_FRAME, LdpcCorrector, LdpcReference
from qepa_qkd.ldpc_code import binary_entropy, make_code, syndrome, take_apart
from qepa_qkd.parity_questions import Opening, Question, SyndromeBits, decode_question, encode_question
from qepa_qkd.verification import make_tag


def strings(n: int, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    return alice, alice ^ (rng.random(n) < rate).astype(np.uint8)


def correct(alice: np.ndarray, bob: np.ndarray, rate: float) -> tuple[LdpcReference, LdpcCorrector]:
    reference, corrector = LdpcReference(alice, b"seed", rate), LdpcCorrector(bob, b"seed", rate)
    while (question := corrector.request()) is not None:
        corrector.receive(question, reference.answer(decode_question(encode_question(question))))
    return reference, corrector


@pytest.mark.parametrize(("n", "rate", "most"), [(10_000, 0.02, 1.35), (10_000, 0.05, 1.3), (100_000, 0.03, 1.25)])
def test_corrects_in_few_exchanges_and_counts_what_it_tells(n: int, rate: float, most: float) -> None:
    alice, bob = strings(n, rate, 3)
    reference, corrector = correct(alice, bob, rate)
    assert np.array_equal(corrector.bits, alice)
    assert corrector.corrected == int((alice != bob).sum())
    limit = n * binary_entropy(float(np.mean(alice != bob)))
    assert limit < reference.leak_bits == corrector.leak_bits < most * limit
    assert corrector.exchanges <= 10


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 2000), st.floats(0, 0.1), st.integers(0, 2**32))
def test_ends_identical_or_says_so(n: int, rate: float, seed: int) -> None:
    alice, bob = strings(n, rate, seed)
    try:
        _, corrector = correct(alice, bob, max(rate, 1e-3))
    except NoKey:
        return
    key = np.random.default_rng(seed + 1).bytes(16)
    assert make_tag(key, alice).matches(corrector.bits) == np.array_equal(alice, corrector.bits)


def test_a_higher_error_rate_than_assumed_takes_more_parities() -> None:
    alice, bob = strings(10_000, 0.03, 3)
    reference, corrector = correct(alice, bob, 0.02)
    assert np.array_equal(corrector.bits, alice)
    assert corrector.exchanges > 1
    assert reference.leak_bits > 10_000 * binary_entropy(0.03)


def test_frames_that_do_not_decode_are_left_to_cascade_and_both_leaks_are_counted() -> None:
    alice, bob = strings(6_000, 0.06, 3)
    reference, corrector = LdpcReference(alice, b"seed", 0.01), LdpcCorrector(bob, b"seed", 0.01)
    told = {True: 0, False: 0}
    while (question := corrector.request()) is not None:
        parities = reference.answer(decode_question(encode_question(question)))
        told[isinstance(question, SyndromeBits)] += len(parities)
        corrector.receive(question, parities)
    assert np.array_equal(corrector.bits, alice)
    assert corrector.corrected == int((alice != bob).sum())
    limit = 6_000 * binary_entropy(float(np.mean(alice != bob)))
    assert limit < told[False] < 1.3 * limit
    assert reference.leak_bits == corrector.leak_bits == told[True] + told[False]


def test_cascade_is_refused_while_syndromes_may_do() -> None:
    alice, bob = strings(3_000, 0.02, 3)
    reference, corrector = LdpcReference(alice, b"s", 0.02), LdpcCorrector(bob, b"s", 0.02)
    question = corrector.request()
    assert question is not None
    reference.answer(question)
    with pytest.raises(ProtocolError, match="syndromes"):
        reference.answer(Opening(0))


def test_hopeless_blocks_give_no_key() -> None:
    alice, bob = strings(8_000, 0.4, 3)
    with pytest.raises(NoKey, match="errors"):
        correct(alice, bob, 0.01)


def test_halves_of_a_check_add_up_to_it() -> None:
    code = make_code(5_000, 900)
    bits = np.random.default_rng(1).integers(0, 2, 5_000, dtype=np.uint8)
    whole = syndrome(code.ends, code.variables, bits)
    for c in (0, 17, 899):
        assert whole[c] == bits[code.variables[code.ends[c] : code.ends[c + 1]]].sum() % 2
    parts = syndrome(*take_apart(code.ends, code.variables, 300), bits)
    assert np.array_equal(parts[0:600:2] ^ parts[1:600:2], whole[:300])
    assert np.array_equal(parts[600:], whole[300:])


def test_the_code_is_the_same_on_every_machine_and_holds_no_variable_twice() -> None:
    code = make_code(2_000, 400)
    digest = hashlib.sha256(code.ends.tobytes() + code.variables.tobytes()).hexdigest()
    assert digest.startswith("8c8b40d9800d059d")
    for a, b in zip(code.ends, code.ends[1:], strict=False):
        assert len(set(code.variables[a:b].tolist())) == b - a
    assert set(code.variables.tolist()) == set(range(2_000))


def ask(count: int, *frames: int) -> SyndromeBits:
    return SyndromeBits(np.array(frames, np.uint16), count)


@pytest.mark.parametrize("question", [Opening(0), ask(5, 0), ask(5), ask(5, 2), ask(0, 0), ask(10**6, 0)], ids=str)
def test_impossible_questions_are_refused(question: Question) -> None:
    reference = LdpcReference(np.zeros(LARGEST_FRAME + 10, np.uint8), b"s", 0.02)
    with pytest.raises(ProtocolError):
        reference.answer(question)
    assert reference.leak_bits == 0


def test_answers_of_the_wrong_length_are_refused() -> None:
    alice, bob = strings(3_000, 0.02, 3)
    reference, corrector = LdpcReference(alice, b"s", 0.02), LdpcCorrector(bob, b"s", 0.02)
    question = corrector.request()
    assert question is not None
    with pytest.raises(ProtocolError, match="length"):
        corrector.receive(question, reference.answer(question)[1:])
