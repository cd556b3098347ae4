"""Replay window, key ratchet and token bucket as laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_gateway.domain.keyring import KEPT_EPOCHS, EpochKeys, KeyReference, Keyring, epoch_keys
from qepa_gateway.domain.rate import TokenBucket
from qepa_gateway.domain.replay import WIDTH, Verdict, Window
from qepa_gateway.errors import Refused
from qepa_wire.keys import LINK_MAC_UP, derive, ratchet

seqs = st.lists(st.integers(0, 4 * WIDTH) | st.integers(0, 2**32 - 1), max_size=60)
PAD_A = bytes(16)
KEY_A, KEY_B = bytes(range(32)), bytes(range(32, 64))


def mark(seq, salt=0):
    return (seq * 31 + salt).to_bytes(16, "little")


@given(seqs)
def test_a_number_is_new_at_most_once_and_only_inside_the_window(numbers):
    window, taken, highest = Window(), set(), -1
    for seq in numbers:
        verdict = window.judge(seq, mark(seq))
        if highest >= 0 and seq <= highest - WIDTH:
            assert verdict is Verdict.TOO_OLD
        elif seq in taken:
            assert verdict is Verdict.DUPLICATE
            assert window.judge(seq, mark(seq, salt=1)) is Verdict.CONFLICT
        else:
            assert verdict is Verdict.NEW
            window.admit(seq, mark(seq))
            taken.add(seq)
            highest = max(highest, seq)


@given(seqs, seqs)
def test_a_window_read_back_judges_like_the_one_that_was_stored(before, after):
    window, stored = Window(), {}
    for seq in before:
        if window.judge(seq, mark(seq)) is Verdict.NEW:
            stored[seq] = mark(seq)
            window.admit(seq, mark(seq))
    again = Window(stored)
    assert [again.judge(seq, mark(seq)) for seq in after] == [window.judge(seq, mark(seq)) for seq in after]


def test_what_the_window_forgets_is_refused_all_the_same():
    window, pruned = Window(), 0
    for seq in range(5 * WIDTH):
        if window.admit(seq, mark(seq)):
            pruned += 1
            assert window.judge(window.floor, mark(window.floor)) is Verdict.TOO_OLD
            assert window.judge(window.floor + 1, mark(window.floor + 1)) is Verdict.DUPLICATE
    assert pruned


@given(st.binary(min_size=32, max_size=32), st.integers(0, 40), st.integers(1, 40))
def test_a_ratcheted_epoch_has_the_key_that_the_pad_leads_to(pad, first, more):
    ring = Keyring()
    reference = KeyReference(PAD_A, first)
    ring.begin(epoch_keys(1, reference, pad, ring.plan(1, reference).steps))
    later = KeyReference(PAD_A, first + more)
    plan = ring.plan(2, later)
    assert plan.base is not None  # from the key held, not from the pad: that is gone
    keys = epoch_keys(2, later, plan.base, plan.steps)
    assert keys.mac_up == derive(ratchet(pad, first + more), LINK_MAC_UP)


@given(st.integers(0, 4096), st.integers(0, 5000))
def test_the_same_pad_is_taken_only_with_more_steps(held, asked):
    ring = Keyring()
    ring.begin(epoch_keys(1, KeyReference(PAD_A, held), KEY_A, 0))
    if held < asked <= 4096:
        assert ring.plan(2, KeyReference(PAD_A, asked)).steps == asked - held
    else:
        with pytest.raises(Refused, match="ratchet"):
            ring.plan(2, KeyReference(PAD_A, asked))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_epochs_never_go_back_and_old_ones_lose_their_keys(numbers):
    ring, highest = Keyring(), 0
    for number in numbers:
        reference = KeyReference(number.to_bytes(16, "big"), 0)
        if number <= highest:
            with pytest.raises(Refused, match="epoch"):
                ring.plan(number, reference)
            continue
        dropped = ring.begin(epoch_keys(number, reference, KEY_B, 0))
        assert all(ring.keys(epoch) is None for epoch in dropped)
        highest = number
        assert ring.current is not None
        assert ring.current.epoch == highest
        assert len(ring.epochs) <= KEPT_EPOCHS
        for epoch in ring.epochs[:-1]:
            held = ring.keys(epoch)
            assert held is not None
            assert held.link == held.mac_down == b""


def test_keys_are_not_shown():
    keys = epoch_keys(1, KeyReference(PAD_A, 0), KEY_A, 0)
    shown = repr(keys) + repr(Keyring([keys]).plan(2, KeyReference(PAD_A, 1)))
    for secret in (keys.link, keys.mask, keys.mac_up, keys.mac_down, keys.alert):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert isinstance(keys, EpochKeys)


@given(st.lists(st.integers(-1000, 3000), max_size=60))
def test_a_bucket_gives_no_more_than_burst_and_refill(gaps_ms):
    bucket, now_ms, highest, taken = TokenBucket(burst=4, refill_ms=1000), 0, 0, 0
    gained = 0.0
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        gained += max(0, gap_ms) / 1000
        taken += bucket.take(now_ms)
        highest = max(highest, now_ms)
        assert taken <= 4 + gained + 1e-9
