"""The peripheral's table of states, and what it remembers of its peers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_board.transport.ble import (
    ADVERTISE,
    ADVERTISING,
    CLOSE_MS,
    CLOSING,
    CONNECT,
    CONNECTED,
    DISCONNECT,
    DROP,
    ENCRYPTION,
    IDLE,
    MTU,
    OPENED,
    PAIR,
    READY,
    SECURED,
    SETUP_MS,
    Peripheral,
)
from qepa_board.transport.bonds import MAX_SECRETS, Bonds

PEER, IRK = 2, 10
AUTHENTIC = (1, 1, 1, 16)
JUST_WORKS = (1, 0, 1, 16)


def walk(peripheral, *events, now_ms=0):
    """Feed (event, *details) of connection 1; returns the actions."""
    return [peripheral.event(event[0], 1, now_ms, *event[1:])[0] for event in events]


@pytest.fixture
def peripheral():
    peripheral = Peripheral(True)
    assert peripheral.state == IDLE
    assert peripheral.start() == (ADVERTISE, None)
    return peripheral


def test_the_way_to_a_connection_that_carries_frames(peripheral):
    assert walk(peripheral, (CONNECT,), (MTU, 247), (ENCRYPTION, *AUTHENTIC), (OPENED,)) == [PAIR, None, None, None]
    assert (peripheral.state, peripheral.conn, peripheral.mtu, peripheral.authenticated) == (READY, 1, 247, True)
    assert walk(peripheral, (DISCONNECT,)) == [ADVERTISE]
    assert (peripheral.state, peripheral.conn, peripheral.mtu) == (ADVERTISING, None, 23)


@pytest.mark.parametrize(
    "security", [(0, 0, 0, 16), (1, 1, 1, 7), (1, 1, 1, 15), JUST_WORKS], ids=["none", "7", "15", "just works"]
)
@pytest.mark.parametrize("before", [[], [(ENCRYPTION, *AUTHENTIC)], [(ENCRYPTION, *AUTHENTIC), (OPENED,)]])
def test_a_link_weaker_than_it_should_be_is_dropped(peripheral, security, before):
    walk(peripheral, (CONNECT,), *before)
    assert walk(peripheral, (ENCRYPTION, *security)) == [DROP]
    assert peripheral.state == CLOSING


def test_without_a_passkey_just_works_will_do():
    peripheral = Peripheral(False)
    peripheral.start()
    walk(peripheral, (CONNECT,), (ENCRYPTION, *JUST_WORKS), (OPENED,))
    assert (peripheral.state, peripheral.authenticated) == (READY, False)


def test_who_writes_before_the_link_is_encrypted_is_dropped(peripheral):
    assert walk(peripheral, (CONNECT,), (OPENED,)) == [PAIR, DROP]


@pytest.mark.parametrize("before", [[], [(ENCRYPTION, *AUTHENTIC)]])
def test_who_sits_there_is_dropped_and_who_does_not_go_is_dropped_again(peripheral, before):
    walk(peripheral, (CONNECT,), *before)
    assert peripheral.poll(SETUP_MS - 1) == (None, None)
    assert peripheral.poll(SETUP_MS) == (DROP, 1)
    assert peripheral.poll(SETUP_MS + CLOSE_MS) == (DROP, 1)
    assert walk(peripheral, (DISCONNECT,)) == [ADVERTISE]
    assert peripheral.poll(10 * SETUP_MS) == (None, None)


def test_a_ready_connection_has_no_deadline(peripheral):
    walk(peripheral, (CONNECT,), (ENCRYPTION, *AUTHENTIC), (OPENED,))
    assert peripheral.poll(10**9) == (None, None)


def test_a_second_central_is_sent_away_and_changes_nothing(peripheral):
    walk(peripheral, (CONNECT,), (ENCRYPTION, *AUTHENTIC), (OPENED,))
    assert peripheral.event(CONNECT, 2, 0) == (DROP, 2)
    for event in ((ENCRYPTION, 0, 0, 0, 16), (MTU, 99), (OPENED,), (DISCONNECT,)):
        assert peripheral.event(event[0], 2, 0, *event[1:])[0] is None
    assert (peripheral.state, peripheral.conn, peripheral.mtu) == (READY, 1, 23)


def test_a_connection_that_does_not_come_to_stand_is_advertised_again(peripheral):
    assert peripheral.event(DISCONNECT, 0, 0) == (ADVERTISE, None)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([CONNECT, DISCONNECT, OPENED])),
            st.tuples(st.just(MTU), st.integers(23, 517)),
            st.tuples(st.just(ENCRYPTION), st.booleans(), st.booleans(), st.booleans(), st.integers(7, 16)),
        ),
        max_size=30,
    )
)
def test_it_is_never_ready_unless_the_last_word_on_encryption_was_good(events):
    peripheral = Peripheral(True)
    peripheral.start()
    secure = False
    for event in events:
        if event[0] == CONNECT and peripheral.state == ADVERTISING:
            secure = False
        if event[0] == ENCRYPTION and peripheral.conn is not None:
            secure = bool(event[1] and event[2] and event[4] == 16)
        walk(peripheral, event)
        assert peripheral.state not in (SECURED, READY) or secure
        assert peripheral.state != CONNECTED or peripheral.conn == 1


def test_bonds_are_found_by_key_and_by_index_and_outlive_a_reboot(flash):
    bonds = Bonds(flash)
    assert bonds.get(PEER, 0, None) is None
    assert bonds.set(IRK, memoryview(b"irk"), memoryview(bytes(16)))
    assert bonds.set(PEER, b"a", b"first")
    assert bonds.set(PEER, b"b", b"second")
    assert bonds.set(PEER, b"a", b"third")
    assert not flash.files  # the stack calls set(): nothing is written there
    bonds.save()
    again = Bonds(flash)
    assert again.get(PEER, 0, b"a") == b"third"
    assert again.get(PEER, 0, None) == b"second"  # the older one
    assert again.get(PEER, 1, None) == b"third"
    assert again.get(PEER, 2, None) is None
    assert again.get(IRK, 0, b"irk") == bytes(16)
    assert again.set(PEER, b"b", None)
    assert not again.set(PEER, b"b", None)
    again.save()
    assert Bonds(flash).get(PEER, 0, b"b") is None


def test_bonds_are_bounded_and_the_boards_own_secret_stays(flash):
    bonds = Bonds(flash)
    bonds.set(IRK, b"irk", bytes(16))
    for number in range(MAX_SECRETS + 5):
        bonds.set(PEER, bytes([number]), b"secret")
    assert len(bonds) == MAX_SECRETS
    assert bonds.get(IRK, 0, b"irk") is not None
    assert bonds.get(PEER, 0, bytes([0])) is None
    assert bonds.get(PEER, 0, bytes([MAX_SECRETS + 4])) == b"secret"
    assert not bonds.set(PEER, b"k", bytes(256))


@pytest.mark.parametrize("applied", [False, True])
def test_a_power_cut_costs_at_most_the_new_bond(flash, power_cut, applied):
    bonds = Bonds(flash)
    bonds.set(PEER, b"a", b"first")
    bonds.save()
    bonds.set(PEER, b"b", b"second")
    flash.operations, flash.dies_at, flash.applied = 0, 1, applied
    with pytest.raises(power_cut):
        bonds.save()
    flash.dies_at = None
    again = Bonds(flash)
    assert again.get(PEER, 0, b"a") == b"first"
    assert (again.get(PEER, 0, b"b") is not None) == applied


def test_altered_bonds_are_forgotten(flash):
    bonds = Bonds(flash)
    bonds.set(PEER, b"a", b"first")
    bonds.save()
    flash.files["bonds"] = flash.files["bonds"][:-1]
    assert len(Bonds(flash)) == 0
    assert "bonds" not in flash.files
