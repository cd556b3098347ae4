"""Frames and payloads: what is encoded is decoded, and one flipped bit is one refused frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_wire import frame, keys, measures, model, payloads, topics
from qepa_wire.errors import WireError

U8, U16, U32, U64 = (st.integers(0, 2 ** (8 * size) - 1) for size in (1, 2, 4, 8))
ID = st.binary(min_size=16, max_size=16)
KEY = st.binary(min_size=32, max_size=32)

hellos = st.builds(
    payloads.Hello,
    ID,
    st.integers(0, 4096),
    U16,
    U32,
    U16,
    U16,
    st.one_of(st.integers(0, 1000), st.just(65535)),
    st.integers(0, len(payloads.RESET_CAUSES) - 1),
    st.integers(0, len(payloads.MODES) - 1),
)


@st.composite
def measure(draw) -> tuple[int, int, int]:
    """A value in its table, an unknown one with its reason, or a code that only newer boards know."""
    code = draw(st.one_of(st.sampled_from(sorted(measures.MEASURES)), st.integers(1, 255)))
    if draw(st.booleans()):
        return code, draw(st.integers(1, 255)), measures.UNKNOWN
    table = measures.MEASURES.get(code)
    low, high = (table.low, table.high) if table else (measures.UNKNOWN + 1, 2**15 - 1)
    return code, draw(st.integers(0, 100)), draw(st.integers(low, high))


cares = st.builds(
    payloads.Care,
    U32,
    U16,
    st.integers(0, 3),
    U8,
    U32,
    U16,
    st.lists(measure(), max_size=payloads.MAX_MEASURES, unique_by=lambda one: one[0]).map(tuple),
)
labels = st.lists(st.builds(payloads.Label, U16, U32, U8), max_size=64)


@st.composite
def waves(draw) -> payloads.Wave:
    channel = draw(st.sampled_from(sorted(payloads.WAVE_AXES)))
    axes = draw(st.sampled_from(payloads.WAVE_AXES[channel]))
    fs_hz = draw(st.integers(1, payloads.MAX_WAVE_HZ))
    n = draw(st.integers(1, min(fs_hz, 60)))
    first = draw(U32)
    peaks = draw(st.sets(st.integers(0, first + n - 1).filter(lambda at: at < 2**32), max_size=payloads.MAX_WAVE_PEAKS))
    samples = draw(st.binary(min_size=2 * axes * n, max_size=2 * axes * n))
    return payloads.Wave(channel, axes, fs_hz, draw(U16), first, tuple(sorted(peaks)), samples)


alerts = st.builds(
    payloads.Alert, U32, U16, st.sampled_from(payloads.ALERT_KINDS), st.integers(0, 1), st.integers(-(2**15), 2**15 - 1)
)
orders = st.builds(
    payloads.RoundOrder,
    U64,
    U32,
    U32,
    U16,
    st.lists(
        st.builds(payloads.StreamOrder, U8, U16, U32, U32, U8, U32, U32),
        min_size=1,
        max_size=4,
        unique_by=lambda order: order[0],
    ),
)


def refusal(call, *args) -> str:
    with pytest.raises(WireError) as refused:
        call(*args)
    return refused.value.reason


def received(data: bytes, types: tuple[int, ...], mac_key: bytes) -> frame.Frame:
    parsed = frame.parse(data, types)
    frame.authenticate(data, mac_key)
    return parsed


@given(st.sampled_from(frame.UP_TYPES + frame.DOWN_TYPES), U32, U32, U32, st.binary(max_size=300), KEY)
def test_frames_come_back(type_, board, epoch, seq, payload, mac_key):
    types = frame.UP_TYPES if type_ in frame.UP_TYPES else frame.DOWN_TYPES
    data = frame.encode(type_, board, epoch, seq, payload, mac_key)
    parsed = received(data, types, mac_key)
    assert (parsed.type, parsed.suite) == (type_, frame.SUITE_AES256)
    assert (parsed.board, parsed.epoch, parsed.seq, parsed.payload) == (board, epoch, seq, payload)


def test_each_single_flipped_bit_is_refused():
    mac_key = keys.derive(b"k" * 32, keys.LINK_MAC_UP)
    data = frame.encode(frame.VECTOR, 7, 3, 99, payloads.encode_vector(5, 1, 2, bytes(range(24))), mac_key)
    received(data, frame.UP_TYPES, mac_key)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        refusal(received, bytes(changed), frame.UP_TYPES, mac_key)


@pytest.mark.parametrize("type_", [t for t in frame.UP_TYPES + frame.DOWN_TYPES if t not in frame.OTP_TYPES])
def test_only_vectors_and_alerts_come_under_one_time_pads(type_):
    data = frame.encode(type_, 1, 1, 1, b"x", b"k" * 32, frame.SUITE_OTP)
    frame.authenticate(data, b"k" * 32)
    assert refusal(frame.parse, data, frame.UP_TYPES + frame.DOWN_TYPES) == "suite"


def test_the_longest_payload_is_taken_and_a_longer_one_refused():
    longest = bytes(frame.MAX_PAYLOAD)
    assert received(frame.encode(frame.CARE, 1, 1, 1, longest, b"k"), frame.UP_TYPES, b"k").payload == longest
    assert refusal(frame.parse, frame.encode(frame.CARE, 1, 1, 1, longest + b"\0", b"k"), frame.UP_TYPES) == "length"


@given(hellos, orders, st.lists(U32, min_size=1, max_size=64), ID)
def test_plain_payloads_come_back(hello, order, seqs, consent):
    assert payloads.decode_hello(payloads.encode_hello(hello)) == hello
    assert payloads.decode_round(payloads.encode_round(order)) == order
    assert payloads.decode_ack(payloads.encode_ack(seqs)) == tuple(seqs)
    assert payloads.decode_revoke(payloads.encode_revoke(consent)) == consent


@given(U64, U8, U32, st.integers(1, 40).flatmap(lambda n: st.binary(min_size=4 * n + 16, max_size=4 * n + 16)))
def test_vectors_come_back(round_, stream, version, sealed):
    vector = payloads.decode_vector(payloads.encode_vector(round_, stream, version, sealed))
    assert vector == (round_, stream, version, (len(sealed) - 16) // 4, sealed)


@given(KEY, ID, U32, U32, cares, labels, U32)
def test_care_comes_back_to_the_same_board_seq_and_key_only(key, consent, board, seq, care, beat_labels, valid_s):
    record = payloads.encode_care(key, consent, board, seq, care)
    labelled = payloads.encode_labels(key, consent, board, seq, beat_labels)
    grant = payloads.encode_grant(key, board, consent, valid_s)
    assert payloads.decode_care(key, board, seq, record) == care
    assert payloads.decode_labels(key, board, seq, labelled) == beat_labels
    assert payloads.decode_grant(key, board, grant) == valid_s
    assert payloads.care_consent(record) == payloads.care_consent(labelled) == payloads.grant_consent(grant) == consent
    other = bytes([key[0] ^ 1]) + key[1:]
    for decode, data in ((payloads.decode_care, record), (payloads.decode_labels, labelled)):
        assert refusal(decode, other, board, seq, data) == "mac"
        assert refusal(decode, key, board ^ 1, seq, data) == "mac"
        assert refusal(decode, key, board, seq ^ 1, data) == "mac"
    assert refusal(payloads.decode_labels, key, board, seq, record) == "mac"
    assert refusal(payloads.decode_care, key, board, seq, labelled) == "mac"
    assert refusal(payloads.decode_grant, other, board, grant) == "mac"
    assert refusal(payloads.decode_grant, key, board ^ 1, grant) == "mac"


@given(KEY, ID, U32, U32, waves(), ID, U16)
def test_a_waveform_comes_back_and_is_no_care_record(key, consent, board, seq, wave, other, seconds):
    data = payloads.encode_wave(key, consent, board, seq, wave)
    assert payloads.decode_wave(key, board, seq, data) == wave
    assert payloads.care_consent(data) == consent
    for decode in (payloads.decode_care, payloads.decode_labels):
        assert refusal(decode, key, board, seq, data) == "mac"
    assert refusal(payloads.decode_wave, key, board, seq ^ 1, data) == "mac"
    record = payloads.encode_care(key, consent, board, seq, payloads.Care(0, 0, 0, 0, 0, 0, ()))
    assert refusal(payloads.decode_wave, key, board, seq, record) == "mac"
    assert payloads.decode_waves_wanted(payloads.encode_waves_wanted(other, seconds)) == (other, seconds)


def test_each_single_flipped_bit_of_a_grant_and_a_care_record_is_refused():
    grant = payloads.encode_grant(b"k" * 32, 1, b"c" * 16, 60)
    record = payloads.encode_care(b"k" * 32, b"c" * 16, 1, 2, payloads.Care(0, 0, 0, 0, 0, 0, ()))
    for data, decode in (
        (grant, lambda data: payloads.decode_grant(b"k" * 32, 1, data)),
        (record, lambda data: payloads.decode_care(b"k" * 32, 1, 2, data)),
    ):
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            assert refusal(decode, bytes(changed)) == "mac"


@given(KEY, U32, alerts)
def test_alerts_come_back(key, seq, alert):
    assert payloads.decode_alert(key, seq, payloads.encode_alert(key, seq, alert)) == alert


MODEL_SHAPES = [  # kind, features, hidden units, classes
    (model.SOFTMAX, 1, 0, 2), (model.SOFTMAX, 7, 0, 5), (model.SOFTMAX, 47, 0, 5), (model.SOFTMAX, 119, 0, 2),
    (model.HIDDEN, 1, 1, 2), (model.HIDDEN, 17, 10, 4), (model.HIDDEN, 20, 10, 2), (model.HIDDEN, 56, 4, 2),
]  # fmt: skip


@given(U32, st.integers(0, 24), st.sampled_from(MODEL_SHAPES), st.data())
def test_models_come_back(version, fraction_bits, shape, data):
    n = model.model_words(*shape)
    word = st.integers(-(2**31), 2**31 - 1)
    words = tuple(data.draw(st.lists(word, min_size=1, max_size=1)) * n)
    sent = model.Model(version, *shape, fraction_bits, words)
    blob = model.encode_model(sent)
    assert model.decode_model(blob) == sent
    assert model.decode_release(model.encode_release(blob, b"s")) == (blob, b"s")


@pytest.mark.parametrize(
    ("kind", "features", "hidden", "classes"),
    [
        (0, 17, 0, 4), (3, 17, 10, 4), (model.SOFTMAX, 17, 1, 4), (model.HIDDEN, 17, 0, 4), (model.SOFTMAX, 0, 0, 4),
        (model.SOFTMAX, 239, 0, 1), (model.HIDDEN, 17, 10, 1), (model.HIDDEN, 17, 11, 4), (model.SOFTMAX, 60, 0, 4),
    ],
)  # fmt: skip
def test_a_shape_that_no_kind_has_or_that_is_too_large_is_refused(kind, features, hidden, classes):
    count = model.model_words(kind, features, hidden, classes)
    assert count == 0 or count > model.MAX_WORDS
    for n_words in {count, (features + 1) * classes, 224}:
        blob = model.encode_model(model.Model(1, kind, features, hidden, classes, 12, [0] * n_words))
        assert refusal(model.decode_model, blob) == "model"


def test_a_round_that_would_seal_one_stream_twice_is_refused():
    once = payloads.StreamOrder(1, 72, 1000, 4096, 0, 0, 0)
    again = once._replace(bound=2000)
    data = payloads.encode_round(payloads.RoundOrder(1, 0, 1000, 10, [once, again]))
    assert refusal(payloads.decode_round, data) == "payload"


def test_a_hello_cannot_ask_for_long_ratchets():
    hello = payloads.Hello(bytes(16), 4097, 0, 0, 0, 0, payloads.BATTERY_UNKNOWN, 0, 0)
    assert refusal(payloads.decode_hello, payloads.encode_hello(hello)) == "payload"


@pytest.mark.parametrize("seqs", [(), range(65)])
def test_no_acknowledgement_is_made_that_a_board_would_refuse(seqs):
    assert refusal(payloads.encode_ack, seqs) == "payload"


def test_more_labels_than_fit_are_refused(monkeypatch):
    too_many = [payloads.Label(0, 0, 0)] * 65
    assert refusal(payloads.encode_labels, b"k" * 32, bytes(16), 1, 1, too_many) == "payload"
    with monkeypatch.context() as patch:
        patch.setattr(payloads, "MAX_LABELS", 65)
        data = payloads.encode_labels(b"k" * 32, bytes(16), 1, 1, too_many)
    assert refusal(payloads.decode_labels, b"k" * 32, 1, 1, data) == "payload"


def test_a_model_with_bytes_left_over_is_refused():
    blob = model.encode_model(model.Model(1, model.SOFTMAX, 1, 0, 2, 16, (1, 2, 3, 4)))
    model.decode_model(blob)
    assert refusal(model.decode_model, blob + bytes(4)) == "model"


@pytest.mark.parametrize(
    ("flags", "sent", "why"),
    [
        (4, (), "unknown flag"),
        (0, ((measures.HEART_RATE, 101, 60),), "quality over 100 %"),
        (0, ((measures.HEART_RATE, 90, 14),), "below what a heart rate can be"),
        (0, ((measures.SPO2, 90, 1001),), "above what SpO2 can be"),
        (0, ((measures.HEART_RATE, 90, 60), (measures.HEART_RATE, 90, 61)), "a measure twice"),
        (0, ((measures.HEART_RATE, 0, measures.UNKNOWN),), "unknown without a reason"),
        (0, ((0, 90, 1),), "no measure has code 0"),
        (0, ((200, 101, 1),), "quality over 100 % of a measure that is not known here"),
    ],
)
def test_a_care_record_out_of_range_is_refused_though_its_tag_holds(flags, sent, why):
    data = payloads.encode_care(b"k" * 32, bytes(16), 1, 1, payloads.Care(0, 0, flags, 0, 0, 0, sent))
    assert refusal(payloads.decode_care, b"k" * 32, 1, 1, data) == "payload", why


def test_no_care_record_is_made_with_more_measures_than_fit():
    many = tuple((code, 50, 1) for code in range(100, 117))
    assert refusal(payloads.encode_care, b"k" * 32, bytes(16), 1, 1, payloads.Care(0, 0, 0, 0, 0, 0, many)) == "payload"


@given(KEY, st.integers(0, 20), st.integers(0, 20))
def test_ratchet_steps_add_up(key, first, then):
    assert keys.ratchet(keys.ratchet(key, first), then) == keys.ratchet(key, first + then)


def test_topics_are_as_published():
    assert topics.board_up("ward-3", 0xAB) == "qepa/1/board/ward-3/000000ab/up"
    assert topics.board_down("ward-3", 2**32 - 1) == "qepa/1/board/ward-3/ffffffff/down"
    assert topics.all_boards_up("ward-3") == "qepa/1/board/ward-3/+/up"
