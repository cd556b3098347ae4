"""Payloads that carry firmware: what is encoded comes back, golden bytes, and nonsense is refused with one error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_wire import firmware as wire
from qepa_wire.errors import WireError

OFFER = wire.Offer(bytes(range(32)), 0x01020304, 0x0506, 0x0708)
WANT = wire.Want(bytes(range(8)), wire.WANTS, 2, 0x0102, 0x03040506, "drivers/max30003")
PIECE = wire.Piece(bytes(range(8)), 0x0102, 0x03040506, b"\xff\xfe")


def test_the_bytes_are_those_of_the_document() -> None:
    assert wire.encode_offer(OFFER) == bytes(range(32)) + bytes.fromhex("04030201 0605 0807")
    assert wire.encode_want(WANT) == bytes(range(8)) + bytes.fromhex("00 02 0201 06050403") + b"drivers/max30003"
    assert wire.encode_piece(PIECE) == bytes(range(8)) + bytes.fromhex("0201 06050403 fffe")


def test_what_is_encoded_comes_back() -> None:
    assert wire.decode_offer(wire.encode_offer(OFFER)) == OFFER
    assert wire.decode_want(wire.encode_want(WANT)) == WANT
    assert wire.decode_piece(wire.encode_piece(PIECE)) == PIECE


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (wire.decode_offer, wire.encode_offer(OFFER._replace(manifest_bytes=0))),
        (wire.decode_offer, wire.encode_offer(OFFER._replace(manifest_bytes=16385))),
        (wire.decode_offer, wire.encode_offer(OFFER._replace(signature_bytes=8193))),
        (wire.decode_offer, wire.encode_offer(OFFER) + b"x"),
        (wire.decode_want, wire.encode_want(WANT._replace(state=len(wire.STATES)))),
        (wire.decode_want, wire.encode_want(WANT._replace(target=9))),
        (wire.decode_want, wire.encode_want(WANT._replace(needs="line\nbreak"))),
        (wire.decode_want, wire.encode_want(WANT._replace(needs="x" * 201))),
        (wire.decode_piece, wire.encode_piece(PIECE._replace(data=b""))),
        (wire.decode_piece, wire.encode_piece(PIECE._replace(data=bytes(1025)))),
    ],
)
def test_what_is_out_of_its_table_is_refused(decode, data: bytes) -> None:
    with pytest.raises(WireError) as refused:
        decode(data)
    assert refused.value.reason == "payload"


@given(st.sampled_from([wire.decode_offer, wire.decode_want, wire.decode_piece]), st.binary(max_size=60))
def test_whatever_the_bytes_are_there_is_one_error(decode, data: bytes) -> None:
    reason = "payload"
    try:
        decode(data)
    except WireError as error:
        reason = error.reason
    assert reason == "payload"
