"""Fragments: whatever fits comes back whole, whatever the air does costs the frames it touched and no other."""

import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_wire import gatt
from qepa_wire.errors import WireError
from qepa_wire.fragments import MAX_MTU, MIN_MTU, OPEN, Fragmenter, Reassembler

HOME = Path(__file__).parents[2] / "vectors"
VECTORS = json.loads((HOME / "fragments.json").read_text())
MAX_FRAME = 2000
frames = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)
mtus = st.integers(MIN_MTU, MAX_MTU)


def cut(fragmenter, frame):
    fragmenter.load(frame)
    fragments = []
    while (fragment := fragmenter.next()) is not None:
        fragments.append(bytes(fragment))
    return fragments


def put_together(fragments, max_frame=MAX_FRAME):
    """(frames, reasons for refusing)."""
    reassembler = Reassembler(max_frame)
    whole, refused = [], []
    for fragment in fragments:
        try:
            frame = reassembler.push(fragment)
        except WireError as error:
            refused.append(error.reason)
        else:
            whole += [] if frame is None else [frame]
    return whole, refused


@given(frames, mtus)
def test_frames_come_back_and_fit_the_mtu(sent, mtu):
    fragmenter = Fragmenter()
    fragmenter.reset(mtu)
    fragments = [fragment for frame in sent for fragment in cut(fragmenter, frame)]
    assert max(map(len, fragments)) <= mtu - 3
    assert len(fragments) == sum(-(-len(frame) // (mtu - 4)) for frame in sent)
    assert put_together(fragments) == (sent, [])


@given(frames, mtus, st.data())
def test_a_lost_fragment_costs_its_frame_alone(sent, mtu, data):
    fragmenter = Fragmenter()
    fragmenter.reset(mtu)
    pieces = [cut(fragmenter, frame) for frame in sent]
    hit = data.draw(st.integers(0, len(sent) - 1))
    pieces[hit].pop(data.draw(st.integers(0, len(pieces[hit]) - 1)))
    whole, _ = put_together([piece for each in pieces for piece in each])
    assert whole == sent[:hit] + sent[hit + 1 :]


@given(frames, mtus, st.data())
def test_a_fragment_sent_twice_in_a_row_costs_nothing(sent, mtu, data):
    fragmenter = Fragmenter()
    fragmenter.reset(mtu)
    fragments = [fragment for frame in sent for fragment in cut(fragmenter, frame)]
    at = data.draw(st.integers(0, len(fragments) - 1))
    assert put_together([*fragments[: at + 1], *fragments[at:]]) == (sent, ["fragment"])


@given(st.lists(st.binary(min_size=40, max_size=300), min_size=3, max_size=5), st.data())
def test_fragments_out_of_order_make_no_frame_that_was_not_sent(sent, data):
    fragmenter = Fragmenter()
    pieces = [cut(fragmenter, frame) for frame in sent]
    hit = data.draw(st.integers(0, len(sent) - 1))
    at = data.draw(st.integers(0, len(pieces[hit]) - 2))
    pieces[hit][at], pieces[hit][at + 1] = pieces[hit][at + 1], pieces[hit][at]
    whole, refused = put_together([piece for each in pieces for piece in each])
    assert whole == sent[:hit] + sent[hit + 1 :]
    assert set(refused) == {"fragment"}


def test_a_frame_that_is_too_long_is_refused_and_the_next_is_not():
    fragmenter = Fragmenter()
    fragments = cut(fragmenter, bytes(MAX_FRAME + 1)) + cut(fragmenter, b"next")
    whole, refused = put_together(fragments)
    assert whole == [b"next"]
    assert refused == ["length"]


def test_an_empty_fragment_is_refused_and_open_is_an_empty_frame():
    assert put_together([b"", OPEN, *cut(Fragmenter(), b"frame")]) == ([b"", b"frame"], ["truncated"])


def test_a_new_connection_expects_nothing_of_the_last():
    fragmenter, reassembler = Fragmenter(), Reassembler(MAX_FRAME)
    reassembler.push(cut(fragmenter, bytes(100))[0])
    reassembler.reset()
    fragmenter.reset(MIN_MTU)
    (last,) = cut(fragmenter, b"first here")
    assert reassembler.push(last) == b"first here"
    assert reassembler.cut_off == 0


@pytest.mark.parametrize("case", VECTORS["fragments"], ids=lambda case: f"{len(case['frame']) // 2} at {case['mtu']}")
def test_golden_vectors(case):
    fragmenter = Fragmenter()
    fragmenter.reset(case["mtu"])
    for _ in range(case["after"]):
        cut(fragmenter, b"x")
    fragments = cut(fragmenter, bytes.fromhex(case["frame"]))
    assert [fragment.hex() for fragment in fragments] == case["fragments"]
    assert put_together(fragments) == ([bytes.fromhex(case["frame"])], [])


def test_info_and_advertisement_have_golden_bytes():
    info = VECTORS["info"]
    assert gatt.encode_info(*info["fields"]).hex() == info["bytes"]
    assert list(gatt.decode_info(bytes.fromhex(info["bytes"])))[1:] == info["fields"]
    assert gatt.advertisement().hex() == VECTORS["advertisement"]
    for wrong, reason in ((b"", "payload"), (bytes(10), "payload"), (bytes(9), "version")):
        with pytest.raises(WireError) as refused:
            gatt.decode_info(wrong)
        assert refused.value.reason == reason


def test_the_vectors_are_what_their_maker_makes():
    maker = runpy.run_path(str(HOME / "make_fragment_vectors.py"))
    assert maker["text"]() == (HOME / "fragments.json").read_text()
