"""Sifting: one detector a slot, chosen fairly; verdicts and counts compared with a count by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qepa_qkd.serial_protocol import STATE_GONE
from qepa_qkd.sifting import judge, report_symbols, squash, tally

clicks = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60).map(sorted)


@given(clicks, st.integers(0, 2**32 - 1))
def test_one_of_the_detectors_that_clicked_stays_in_each_slot(events: list[tuple[int, int]], seed: int) -> None:
    slots = np.array([slot for slot, _ in events], np.int64)
    detectors = np.array([detector for _, detector in events], np.uint8)
    kept, chosen = squash(slots, detectors, np.random.default_rng(seed))
    assert kept.tolist() == sorted({slot for slot, _ in events})
    assert set(zip(kept.tolist(), chosen.tolist(), strict=True)) <= set(events)


def test_each_of_several_clicks_is_as_likely_to_stay() -> None:
    slots = np.repeat(np.arange(30_000), 3)
    _, chosen = squash(slots, np.tile(np.array([0, 1, 3], np.uint8), 30_000), np.random.default_rng(1))
    counts = np.bincount(chosen, minlength=4)
    assert counts[2] == 0
    # Binomial, n = 30,000 and p = 1/3: five standard deviations are 408.
    assert all(abs(count - 10_000) < 408 for count in counts[[0, 1, 3]])


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([*range(12), STATE_GONE])), max_size=80))
def test_verdicts_and_counts_are_those_of_the_rules(events: list[tuple[int, int]]) -> None:
    detectors = np.array([detector for detector, _ in events], np.uint8)
    states = np.array([state for _, state in events], np.uint8)
    symbols = report_symbols(detectors)
    counts = tally(judge(symbols, states), symbols)
    n_x, n_z, m_z = [0, 0, 0], [0, 0, 0], [0, 0, 0]
    for detector, state in events:
        value, basis, intensity = state & 1, state >> 1 & 1, state >> 2
        if state == STATE_GONE or basis != detector >> 1:
            continue
        if basis == 0:
            n_x[intensity] += 1
        else:
            n_z[intensity] += 1
            m_z[intensity] += value != detector & 1
    assert (counts.n_x, counts.n_z, counts.m_z) == (tuple(n_x), tuple(n_z), tuple(m_z))
