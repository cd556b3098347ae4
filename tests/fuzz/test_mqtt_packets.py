"""Whatever a broker sends, packets are cut from it or refused with one error; no promised length costs memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_uplink.errors import UplinkError

packets = pytest.importorskip("qepa_uplink.mqtt_packets")
GOOD = packets.publish("qepa/1/board/gw-1/00000001/up", b"frame" * 9, 7)


def read(pieces):
    cut = packets.Packets()
    found = []
    for piece in pieces:
        for first, body in cut.feed(piece):
            found.append((first, body))
            if first & 0xF0 == packets.PUBLISH:
                packets.open_publish(first, body)
    return found


@given(at=st.integers(0, 60), change=st.binary(max_size=6), more=st.binary(max_size=40), cut=st.integers(1, 50))
def test_bent_packets_raise_one_error(at, change, more, cut):
    bent = GOOD[:at] + change + GOOD[at + len(change) :] + more
    try:
        read([bent[:cut], bent[cut:]])
    except UplinkError as error:
        assert error.reason == "mqtt"  # noqa: PT017


@given(st.lists(st.integers(1, 60), max_size=5))
def test_packets_do_not_depend_on_how_they_come_in_pieces(cuts):
    stream, pieces, at = GOOD * 3, [], 0
    for length in cuts:
        pieces.append(stream[at : at + length])
        at += length
    assert read([*pieces, stream[at:]]) == read([stream])


def test_a_promised_length_costs_nothing_until_it_comes():
    tracemalloc.start()
    try:
        read([b"\x30\xff\xff\xff\x07" + bytes(100)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
