"""Cascade: ends with identical strings, or verification says that it did not; every parity is counted."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd.cascade import PASSES, CascadeCorrector, CascadeReference, first_block_size
from qepa_qkd.cascade_subsets import SUBSETS
from qepa_qkd.errors import NoKey, ProtocolError
from qepa_qkd.parity_questions import Divisions, Opening, Question, SubsetRanges, decode_question, encode_question
from qepa_qkd.verification import make_tag


class Run:
    """Both sides at work; counts what crosses the channel by itself."""

    def __init__(self, alice: np.ndarray, bob: np.ndarray, seed: bytes, rate: float, cost: float | None = None) -> None:
        self.reference = CascadeReference(alice, seed, rate)
        self.corrector = CascadeCorrector(bob, seed, rate, cost)
        self.told = 0
        self.asked: list[Question] = []
        while (question := self.corrector.request()) is not None:
            arrived = decode_question(encode_question(question))
            parities = self.reference.answer(arrived)
            self.told += len(parities)
            self.asked.append(question)
            self.corrector.receive(question, parities)
        self.bits = self.corrector.bits


def strings(n: int, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    return alice, alice ^ (rng.random(n) < rate).astype(np.uint8)


def shannon_bits(alice: np.ndarray, bob: np.ndarray) -> float:
    rate = float(np.mean(alice != bob))
    return len(alice) * -(rate * log2(rate) + (1 - rate) * log2(1 - rate)) if rate else 0.0


@settings(deadline=None, max_examples=150)
@given(
    st.integers(2, 3000), st.floats(0, 0.12), st.integers(0, 2**32), st.floats(0.001, 0.2), st.sampled_from([0, 9, 999])
)
def test_ends_identical_or_verification_says_so(n: int, rate: float, seed: int, assumed: float, cost: float) -> None:
    alice, bob = strings(n, rate, seed)
    run = Run(alice, bob, seed.to_bytes(8, "little"), assumed, cost)
    assert make_tag(bytes(range(16)), alice).matches(run.bits) == np.array_equal(alice, run.bits)
    assert run.reference.leak_bits == run.corrector.leak_bits == run.told
    assert run.corrector.corrected == int((run.bits != bob).sum())
    assert len(run.asked) == run.corrector.exchanges < 60 * (2 + int((alice != bob).sum()))


@pytest.mark.parametrize(("n", "most", "repetitions"), [(10_000, 1.07, 100), (100_000, 1.04, 20), (1_000_000, 1.03, 1)])
def test_leaks_little_more_than_the_shannon_limit_in_few_exchanges(n: int, most: float, repetitions: int) -> None:
    leak = limit = 0.0
    exchanges = []
    for seed in range(repetitions):
        alice, bob = strings(n, 0.02, seed)
        run = Run(alice, bob, b"seed%d" % seed, 0.02)
        assert np.array_equal(alice, run.bits)
        leak += run.told
        limit += shannon_bits(alice, bob)
        exchanges.append(len(run.asked))
    assert limit < leak < most * limit
    assert max(exchanges) <= 200


@pytest.mark.parametrize("rate", [0.0, 0.0125, 0.05, 0.1])
def test_efficient_at_other_error_rates(rate: float) -> None:
    alice, bob = strings(60_000, rate, 5)
    run = Run(alice, bob, b"seed", max(rate, 1e-3))
    assert np.array_equal(alice, run.bits)
    assert shannon_bits(alice, bob) < run.told < 1.05 * shannon_bits(alice, bob) + 200


def test_a_misjudged_error_rate_costs_leak_not_correctness() -> None:
    alice, bob = strings(20_000, 0.04, 8)
    for assumed in (0.005, 0.02, 0.04, 0.11):
        run = Run(alice, bob, b"s", assumed)
        assert np.array_equal(run.bits, alice)
        assert run.told < 1.6 * shannon_bits(alice, bob)


def test_errors_in_bursts_cost_nothing() -> None:
    rng = np.random.default_rng(4)
    alice = rng.integers(0, 2, 50_000, dtype=np.uint8)
    bob = alice.copy()
    for start in rng.integers(0, 49_900, 20):
        bob[start : start + 50] ^= 1
    run = Run(alice, bob, b"s", 0.02)
    assert np.array_equal(run.bits, alice)
    assert run.told < 1.06 * shannon_bits(alice, bob)


def test_saving_exchanges_is_paid_in_leak() -> None:
    alice, bob = strings(50_000, 0.02, 2)
    frugal, hasty = (Run(alice, bob, b"s", 0.02, cost) for cost in (0, 200))
    assert np.array_equal(frugal.bits, hasty.bits)
    assert len(hasty.asked) < len(frugal.asked) / 2
    assert frugal.told < hasty.told


def test_the_seed_decides_the_order() -> None:
    alice, _ = strings(5_000, 0.02, 2)
    question = Opening(0)
    first, again, other = (CascadeReference(alice, seed, 0.02).answer(question) for seed in (b"a", b"a", b"b"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_parities_of_blocks_are_parities_of_disjoint_sets_of_bits() -> None:
    """Changing one bit changes the parity of one block; the blocks share the bits out evenly."""
    n, size = 640, first_block_size(640, 0.02)
    base = CascadeReference(np.zeros(n, np.uint8), b"s", 0.02).answer(Opening(0))
    assert not base.any()
    block = np.empty(n, int)
    for i in range(n):
        bits = np.zeros(n, np.uint8)
        bits[i] = 1
        (block[i],) = np.flatnonzero(CascadeReference(bits, b"s", 0.02).answer(Opening(0)))
    assert np.array_equal(np.bincount(block), np.full(n // size, size))
    assert np.any(np.diff(block) < 0)


def divisions(*segments: int, levels: int = 1) -> Divisions:
    return Divisions(levels, np.array(segments, np.int32))


def subset(number: int, start: int, end: int) -> SubsetRanges:
    return SubsetRanges(np.array([number], np.uint8), np.array([start]), np.array([end]))


@pytest.mark.parametrize(
    "question",
    [
        divisions(),
        divisions(0, levels=0),
        divisions(0, levels=6),
        divisions(10**6),
        divisions(-1),
        divisions(3, 3),
        divisions(3, 2),
        divisions(5, 10**6),
        Opening(0),
        subset(SUBSETS, 0, 5),
        subset(0, 5, 5),
        subset(0, 6, 5),
        subset(0, -1, 5),
        subset(0, 0, 1001),
    ],
    ids=str,
)
def test_impossible_questions_are_refused(question: Question) -> None:
    reference = CascadeReference(np.zeros(1000, np.uint8), b"s", 0.02)
    reference.answer(Opening(0))
    with pytest.raises(ProtocolError):
        reference.answer(question)
    assert reference.leak_bits == len(np.zeros(1000)) // first_block_size(1000, 0.02) + 1


def test_asking_for_everything_is_refused() -> None:
    reference = CascadeReference(np.zeros(1000, np.uint8), b"s", 0.02)
    every = np.arange(255)
    everything = SubsetRanges(np.zeros(255, np.uint8), every, every + 1)
    for _ in range(6):
        reference.answer(everything)
    with pytest.raises(ProtocolError, match="far more"):
        reference.answer(everything)


def test_hopelessly_many_errors_end_the_block_before_the_reference_refuses() -> None:
    alice, bob = strings(20_000, 0.4, 8)
    with pytest.raises(NoKey, match="errors"):
        Run(alice, bob, b"s", 0.02)


def test_no_more_passes_than_there_are() -> None:
    reference = CascadeReference(np.zeros(1000, np.uint8), b"s", 0.02)
    for _ in range(PASSES):
        reference.answer(Opening(1 << 34))
    with pytest.raises(ProtocolError, match="pass"):
        reference.answer(Opening(1 << 34))


def test_contradictory_answers_are_found_or_leave_errors_that_verification_sees() -> None:
    """One wrong parity anywhere: an error is raised, or the result differs, or the lie was of no consequence."""
    alice, bob = strings(3_000, 0.02, 2)
    total = Run(alice, bob, b"s", 0.02).told
    refused = 0
    for lie in range(0, total, 7):
        reference, corrector = CascadeReference(alice, b"s", 0.02), CascadeCorrector(bob, b"s", 0.02)
        told = 0
        try:
            while (question := corrector.request()) is not None:
                parities = reference.answer(question)
                if told <= lie < told + len(parities):
                    parities[lie - told] ^= 1
                told += len(parities)
                corrector.receive(question, parities)
        except ProtocolError:
            refused += 1
            continue
        tag = make_tag(bytes(range(16)), alice)
        assert tag.matches(corrector.bits) == np.array_equal(corrector.bits, alice)
    assert refused > 0


@pytest.mark.parametrize("wrong", [-1, 1])
@pytest.mark.parametrize("after", [0, 3, 8])
def test_answers_of_the_wrong_length_are_refused(wrong: int, after: int) -> None:
    alice, bob = strings(3_000, 0.02, 2)
    reference, corrector = CascadeReference(alice, b"s", 0.02), CascadeCorrector(bob, b"s", 0.02)
    for _ in range(after):
        question = corrector.request()
        assert question is not None
        corrector.receive(question, reference.answer(question))
    question = corrector.request()
    assert question is not None
    parities = reference.answer(question)
    with pytest.raises(ProtocolError, match="length"):
        corrector.receive(question, np.resize(parities, len(parities) + wrong))


def test_segments_may_be_named_in_any_width() -> None:
    for gap in (1, 300, 70_000):
        question = divisions(0, 5, 5 + gap, levels=2)
        again = decode_question(encode_question(question))
        assert isinstance(again, Divisions)
        assert np.array_equal(again.segments, question.segments)
        assert again.levels == 2
    assert len(encode_question(divisions(*range(100)))) == 3 + 100
