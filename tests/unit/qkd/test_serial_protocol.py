"""Serial protocol: what is encoded comes back, what is damaged is one known loss."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd import cobs_compiled
from qepa_qkd.serial_protocol import (
    MAX_PAYLOAD,
    Command,
    Detections,
    FrameDamaged,
    FrameDecoder,
    FrameEncoder,
    FramesLost,
    Message,
    Reply,
    StateQuery,
    States,
    TimeTags,
    detections_that_fit,
    split_queries,
    tags_that_fit,
)
from qepa_wire import cobs
from qepa_wire.errors import WireError

texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80)
words32 = st.integers(0, 2**32 - 1)
gaps = st.lists(st.one_of(st.integers(0, 300), st.integers(0, 200_000)), max_size=60)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    first = draw(st.integers(0, 1 << 50))
    slots = first + np.cumsum(np.array(draw(gaps), np.int64))
    end = int(slots[-1]) + 1 if len(slots) else first
    detectors = np.array(draw(st.lists(st.integers(0, 3), min_size=len(slots), max_size=len(slots))), np.uint8)
    return Detections(draw(words32), first, end + draw(st.integers(0, 9)), draw(words32), slots, detectors)


@st.composite
def queries(draw: st.DrawFn) -> StateQuery:
    slots = draw(st.integers(0, 1 << 50)) + np.cumsum(np.array([0, *draw(gaps)], np.int64))
    return StateQuery(draw(words32), draw(st.integers(0, 65535)), slots)


@st.composite
def time_tags(draw: st.DrawFn) -> TimeTags:
    tick_ps = draw(st.sampled_from([1, 2000, 16_000]))
    first = draw(st.integers(0, 1 << 40))
    ticks = first + np.cumsum(np.array(draw(gaps), np.int64))
    end = (int(ticks[-1]) + 1 if len(ticks) else first) + draw(st.integers(0, 9))
    channels = np.array(draw(st.lists(st.integers(0, 4), min_size=len(ticks), max_size=len(ticks))), np.uint8)
    return TimeTags(draw(words32), first * tick_ps, end * tick_ps, draw(words32), tick_ps, ticks * tick_ps, channels)


states = st.builds(
    States,
    words32,
    st.integers(0, 65535),
    st.lists(st.integers(0, 15), max_size=99).map(lambda x: np.array(x, np.uint8)),
)
messages = st.one_of(st.builds(Command, texts), st.builds(Reply, texts), detections(), queries(), time_tags(), states)


def same(a: object, b: object) -> bool:
    fields = getattr(a, "__dataclass_fields__", {})
    return type(a) is type(b) and all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields)


@given(st.binary(max_size=2000))
def test_cobs_round_trip_has_no_zero(data: bytes) -> None:
    encoded = cobs.encode(data)
    assert 0 not in encoded
    assert cobs.decode(encoded) == data


@pytest.mark.parametrize(
    ("plain", "encoded"),
    [
        (b"\x00", b"\x01\x01"),
        (b"\x00\x00", b"\x01\x01\x01"),
        (b"\x11\x22\x00\x33", b"\x03\x11\x22\x02\x33"),
        (b"\x11\x00\x00\x00", b"\x02\x11\x01\x01\x01"),
        (bytes(range(1, 256)), b"\xff" + bytes(range(1, 255)) + b"\x02\xff"),
    ],
)
def test_cobs_published_examples(plain: bytes, encoded: bytes) -> None:
    assert cobs.encode(plain) == encoded
    assert cobs.decode(encoded) == plain


@st.composite
def with_zeros(draw: st.DrawFn) -> bytes:
    """Long enough to be encoded by compiled loops, with full blocks of 254 bytes and with few."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    data = rng.integers(1, 256, draw(st.sampled_from([64, 253, 254, 255, 508, 509, 1270, 4103])), dtype=np.uint8)
    data[rng.random(len(data)) < draw(st.sampled_from([0, 0.002, 0.05, 0.9]))] = 0
    return data.tobytes()


@settings(deadline=None)  # compiles at first
@given(with_zeros(), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=2), st.integers(0, 40))
def test_compiled_cobs_gives_the_same_bytes_and_the_same_errors(
    data: bytes, wrong: list[tuple[int, int]], missing: int
) -> None:
    assert cobs_compiled.encode(data) == cobs.encode(data)
    arrived = bytearray(cobs.encode(data))
    for position, byte in wrong:
        arrived[position % len(arrived)] = byte
    del arrived[len(arrived) - missing :]
    found = []
    for decode in (cobs.decode, cobs_compiled.decode):
        try:
            found.append(decode(bytes(arrived)))
        except WireError as error:
            found.append(str(error))
    assert found[0] == found[1]


@given(st.lists(messages, max_size=8), st.integers(1, 50))
def test_messages_survive_any_chunking(sent: list[Message], chunk: int) -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    stream = b"".join(encoder.encode(message) for message in sent)
    received = [e for i in range(0, len(stream), chunk) for e in decoder.feed(stream[i : i + chunk])]
    assert len(received) == len(sent)
    assert all(same(a, b) for a, b in zip(received, sent, strict=True))


@given(st.lists(messages, min_size=3, max_size=8), st.data())
def test_a_lost_frame_is_known_and_the_rest_is_untouched(sent: list[Message], data: st.DataObject) -> None:
    encoder, decoder = FrameEncoder(), FrameDecoder()
    frames = [encoder.encode(message) for message in sent]
    lost = data.draw(st.integers(1, len(frames) - 2))
    del frames[lost]
    events = list(decoder.feed(b"".join(frames)))
    assert events[lost] == FramesLost(1)
    assert decoder.frames_lost == 1
    assert all(same(a, b) for a, b in zip(events[lost + 1 :], sent[lost + 1 :], strict=True))


@given(messages, st.data())
def test_a_damaged_frame_never_becomes_another_message(message: Message, data: st.DataObject) -> None:
    frame = bytearray(FrameEncoder().encode(message))
    position = data.draw(st.integers(0, len(frame) - 2))
    frame[position] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder()
    events = list(decoder.feed(bytes(frame)))
    assert all(isinstance(event, FrameDamaged) for event in events)
    assert decoder.frames_damaged


@given(st.binary(max_size=300))
def test_any_bytes_are_events(data: bytes) -> None:
    for _ in FrameDecoder().feed(data):
        pass


@given(st.sampled_from([0x01, 0x02, 0x10, 0x11, 0x12, 0x13, 0x55]), st.binary(max_size=200))
def test_any_payload_behind_a_good_crc_is_one_event(kind: int, payload: bytes) -> None:
    body = bytes([kind, 0, 0]) + payload
    frame = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))
    assert len(list(FrameDecoder().feed(frame + b"\0"))) == 1


def test_endless_bytes_without_delimiter_do_not_fill_memory() -> None:
    decoder = FrameDecoder()
    damaged = [event for _ in range(100) for event in decoder.feed(b"\x01" * 1000)]
    assert len(damaged) == 1
    assert [type(e) for e in decoder.feed(b"\0" + FrameEncoder().encode(Command("STOP")))] == [Command]


def test_splitting_keeps_every_slot_and_fits_frames() -> None:
    rng = np.random.default_rng(7)
    slots = np.cumsum(rng.integers(0, 90_000, 9000))
    parts = list(split_queries(1, 65_535, slots))
    assert np.array_equal(np.concatenate([p.slots for p in parts]), slots)
    assert [p.tag for p in parts[:2]] == [65_535, 0]
    for part in parts:
        FrameEncoder().encode(part)
    fit = detections_that_fit(slots, 0)
    assert 0 < fit < len(slots)
    full = Detections(1, 0, int(slots[fit - 1]) + 1, 0, slots[:fit], np.zeros(fit, np.uint8))
    assert len(FrameEncoder().encode(full)) > MAX_PAYLOAD // 2


def test_as_many_time_tags_as_fit_make_a_frame_and_one_more_does_not() -> None:
    times = 2000 * np.cumsum(np.random.default_rng(8).integers(0, 20_000, 5000))
    fit = tags_that_fit(times, 0, 2000)

    def frame(count: int) -> bytes:
        end = int(times[count - 1]) + 2000
        return FrameEncoder().encode(TimeTags(1, 0, end, 0, 2000, times[:count], np.zeros(count, np.uint8)))

    assert len(frame(fit)) > MAX_PAYLOAD - 10
    with pytest.raises(ValueError, match="does not fit"):
        frame(fit + 3)
