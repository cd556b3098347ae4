"""Classical channel: messages round trip, forgeries and nonsense are refused with the one error, tags authenticate."""

import contextlib
import os
from dataclasses import fields, is_dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_qkd import messages as m
from qepa_qkd import parity_questions as q
from qepa_qkd.authentication import InitialSecret, Pad, SessionKeys, Transcript
from qepa_qkd.channel import FrameOpener, FrameSealer, parse_preface, preface
from qepa_qkd.errors import ConfigError, ProtocolError, SecurityError
from qepa_qkd.universal_hash import PRIME, PolynomialHash

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
bits = st.lists(st.integers(0, 1), max_size=70).map(lambda x: np.array(x, np.uint8))
text = st.text(max_size=100)
sixteen = st.binary(min_size=16, max_size=16)


symbols = st.lists(st.sampled_from([0, 2, 3]), max_size=50).map(lambda x: np.array(x, np.uint8))


@st.composite
def slots(draw: st.DrawFn, count: int | None = None) -> npt.NDArray[np.int64]:
    gap = st.one_of(st.integers(1, 90), st.integers(1, 300_000))
    gaps = draw(st.lists(gap, min_size=count or 0, max_size=50 if count is None else count))
    return draw(st.integers(0, 1 << 50)) + np.cumsum(np.array(gaps, np.int64))


@st.composite
def samples(draw: st.DrawFn) -> m.Sample:
    said = draw(symbols)
    return m.Sample(draw(u32), draw(slots(len(said))), said)


@st.composite
def divisions(draw: st.DrawFn) -> q.Divisions:
    segments = sorted(draw(st.sets(st.one_of(st.integers(0, 300), st.integers(0, 2**31 - 1)), max_size=40)))
    return q.Divisions(draw(st.integers(0, 255)), np.array(segments, np.int32))


@st.composite
def subset_ranges(draw: st.DrawFn) -> q.SubsetRanges:
    rows = draw(st.lists(st.tuples(st.integers(0, 255), u32, u32), max_size=255))
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return q.SubsetRanges(columns[0].astype(np.uint8), columns[1], columns[2])


questions = st.one_of(st.builds(q.Opening, u64), divisions(), subset_ranges())
verdicts = st.lists(st.integers(0, 9), max_size=33).map(lambda x: np.array(x, np.uint8))
all_messages = st.one_of(
    st.builds(
        m.Hello,
        st.binary(min_size=32, max_size=32),
        text,
        st.lists(st.builds(m.PadPosition, u64, u32, u32), max_size=4).map(tuple),
        st.lists(u64, max_size=4).map(tuple),
    ),
    st.builds(m.Settle, st.lists(u64, max_size=4).map(tuple)),
    st.builds(m.RunStart, u32),
    st.builds(m.RunReady, u32),
    st.builds(m.Pause, text),
    samples(),
    st.builds(m.Aligned, u32),
    st.builds(m.Report, u32, u32, u32, slots()),
    st.builds(m.Bases, u32, u32, symbols),
    st.builds(m.Sift, u32, u32, verdicts),
    st.builds(m.Reconcile, u32, u64, sixteen, st.floats(0.001, 0.5)),
    st.builds(m.ParityRequest, u32, questions),
    st.builds(m.ParityReply, u32, bits),
    st.builds(m.Corrected, u32, st.tuples(u32, u32, u32), u32),
    st.builds(m.Verify, u32, sixteen, sixteen),
    st.builds(m.Verified, u32),
    st.builds(m.Amplify, u32, u32, u16, st.binary(max_size=99)),
    st.builds(m.Tag, u32, u64, u32, sixteen),
    st.builds(m.Stored, u32),
    st.builds(m.Abort, u32, text),
    st.just(m.KeepAlive()),
    st.builds(m.Refuse, text),
)


def assert_same(a: object, b: object) -> None:
    assert type(a) is type(b)
    if is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert np.array_equal(a, b)  # type: ignore[arg-type]  # numbers, texts and arrays alike


@given(all_messages)
def test_messages_round_trip(message: m.Message) -> None:
    decoded = m.decode(m.encode(message))
    assert_same(decoded, message)


@given(
    st.one_of(
        st.binary(max_size=120),
        st.tuples(st.integers(1, 22), st.binary(max_size=120)).map(lambda x: bytes([x[0]]) + x[1]),
    )
)
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        m.decode(data)


@given(all_messages, st.data())
def test_a_message_cut_short_or_padded_is_refused(message: m.Message, data: st.DataObject) -> None:
    encoded = m.encode(message)
    for wrong in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        if isinstance(message, m.ParityRequest) and isinstance(message.question, q.Divisions):
            # They go on to the end of the message: fewer or more of them are another question.
            with contextlib.suppress(ProtocolError):
                assert m.encode(m.decode(wrong)) != encoded
            continue
        with pytest.raises(ProtocolError):
            m.decode(wrong)


KEYS = SessionKeys.derive(bytes(32), bytes(32), bytes(range(32)))


def test_frames_arrive_in_any_chunks() -> None:
    sealer, opener = FrameSealer(KEYS.to_bob), FrameOpener(KEYS.to_bob)
    payloads = [os.urandom(n) for n in (0, 1, 1000, 70_000)]
    stream = b"".join(sealer.seal(p) for p in payloads)
    assert [p for i in range(0, len(stream), 777) for p in opener.feed(stream[i : i + 777])] == payloads


@pytest.mark.parametrize("attack", ["change", "replay", "drop", "reflect"])
def test_tampered_frames_are_refused_before_they_are_parsed(attack: str) -> None:
    sealer, opener = FrameSealer(KEYS.to_bob), FrameOpener(KEYS.to_bob)
    first, second = sealer.seal(b"first"), sealer.seal(b"second")
    if attack == "change":
        stream = first[:6] + bytes([first[6] ^ 1]) + first[7:]
    elif attack == "replay":
        stream = first + first
    elif attack == "drop":
        stream = second
    else:
        stream = FrameSealer(KEYS.to_alice).seal(b"first")
    with pytest.raises(SecurityError):
        opener.feed(stream)


def test_an_endless_frame_is_refused_at_its_length() -> None:
    with pytest.raises(ProtocolError):
        FrameOpener(KEYS.to_bob).feed(b"\xff\xff\xff\xff")


def test_prefaces_of_strangers_and_of_the_own_role_are_refused() -> None:
    nonce = os.urandom(32)
    assert parse_preface(preface("bob", nonce), "bob") == nonce
    for data in (preface("alice", nonce), b"GET / HTTP/1.1\r\n", b"", bytes(43)):
        with pytest.raises(ProtocolError):
            parse_preface(data, "bob")


@given(st.lists(st.binary(max_size=60), max_size=6), sixteen)
def test_the_hash_is_the_polynomial_it_claims(parts: list[bytes], point: bytes) -> None:
    hashed = PolynomialHash(point)
    coefficients = []
    for part in parts:
        hashed.update(part)
        coefficients += [len(part) + 1]
        coefficients += [int.from_bytes(part[i : i + 15], "little") for i in range(0, len(part), 15)]
    r, n = int.from_bytes(point, "little"), len(coefficients)
    assert hashed.value() == sum(c * pow(r, n - i, PRIME) for i, c in enumerate(coefficients)) % PRIME
    assert (n + 1) / PRIME <= hashed.collision_probability()


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.binary(max_size=40), max_size=5))
def test_tags_tell_transcripts_apart_borders_included(a: list[bytes], b: list[bytes]) -> None:
    tags = []
    for parts in (a, b):
        transcript = Transcript()
        for part in parts:
            transcript.absorb(part)
        tags.append(transcript.tag(Pad(0, 0, bytes(range(32)))))
        assert transcript.verify(tags[-1], Pad(0, 0, bytes(range(32))))
        assert not transcript.verify(tags[-1], Pad(0, 1, bytes(range(16)) + bytes(16)))
    assert (tags[0] == tags[1]) == (a == b)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least"):
        InitialSecret.parse(bytes(90))
    secret = InitialSecret.parse(os.urandom(4096))
    assert len(secret.pads_to_bob) == len(secret.pads_to_alice) == 2016
    assert secret.pads_to_bob != secret.pads_to_alice
