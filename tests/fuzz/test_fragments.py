"""Whatever fragments arrive, they raise WireError and nothing else, and take no more memory than was given."""

from hypothesis import given
from hypothesis import strategies as st

from qepa_wire import gatt
from qepa_wire.errors import WireError
from qepa_wire.fragments import Reassembler

MAX_FRAME = 200


def outcome(decode, data):
    """(what it returned, ""), or (None, why it refused)."""
    try:
        return decode(data), ""
    except WireError as error:
        return None, error.reason


@given(st.lists(st.binary(max_size=60), max_size=60))
def test_random_fragments_raise_wire_error_only(fragments):
    reassembler = Reassembler(MAX_FRAME)
    for fragment in fragments:
        frame, reason = outcome(reassembler.push, fragment)
        assert frame is None or len(frame) <= MAX_FRAME
        assert reason in {"", "truncated", "fragment", "length"}
    assert len(reassembler._buffer) == MAX_FRAME


@given(st.binary(max_size=20))
def test_random_info_raises_wire_error_only(data):
    assert outcome(gatt.decode_info, data)[1] in {"", "payload", "version"}
