"""Whatever bytes arrive, the wire raises WireError and nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qepa_wire import frame, keys, keystream, lms, model, one_time, payloads
from qepa_wire.errors import WireError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
KEYS = {name: bytes.fromhex(value) for name, value in VECTORS["keys"].items() if isinstance(value, str)}
BOARD = VECTORS["keys"]["board"]
SIGNED = VECTORS["signatures"][1]
PUBLIC, MESSAGE = bytes.fromhex(SIGNED["public"]), bytes.fromhex(SIGNED["message"])
REASONS = {"truncated", "magic", "version", "type", "suite", "length", "mac", "payload", "model", "signature"}


def payload(name: str) -> bytes:
    return bytes.fromhex(VECTORS["payloads"][name]["bytes"])


def seq(name: str) -> int:
    return 0x01000000 + VECTORS["payloads"][name]["type"]


def opened_one_time(data: bytes) -> None:
    """All that a receiver does with a frame of suite otp, but for its own MAC, which would keep the fuzz out."""
    parsed = frame.parse(data, frame.UP_TYPES)
    block = bytes.fromhex(VECTORS["one_time"][0]["block"])
    _, offset, n_bytes = one_time.reference(parsed)
    opened = one_time.open_one_time(parsed, (block[offset : offset + n_bytes] + bytes(n_bytes))[:n_bytes])
    if opened.type == frame.ALERT:
        one_time.unmask_alert(opened)
    else:
        payloads.decode_vector(opened.payload)


# each decoder with bytes that it takes
DECODERS = {
    "frame up": (lambda data: frame.parse(data, frame.UP_TYPES), bytes.fromhex(VECTORS["frames"][1]["frame"])),
    "frame down": (lambda data: frame.parse(data, frame.DOWN_TYPES), bytes.fromhex(VECTORS["frames"][4]["frame"])),
    "hello": (payloads.decode_hello, payload("hello")),
    "vector": (payloads.decode_vector, payload("vector")),
    "care": (lambda data: payloads.decode_care(KEYS["care"], BOARD, seq("care"), data), payload("care")),
    "wave": (lambda data: payloads.decode_wave(KEYS["care"], BOARD, seq("wave"), data), payload("wave")),
    "waves wanted": (payloads.decode_waves_wanted, payload("wanted")),
    "care consent": (payloads.care_consent, payload("care")),
    "alert": (
        lambda data: payloads.decode_alert(KEYS["link"], 1, data),
        payloads.encode_alert(KEYS["link"], 1, payloads.Alert(0, 0, 1, 1, 0)),
    ),
    "ack": (payloads.decode_ack, payload("ack")),
    "round": (payloads.decode_round, payload("round")),
    "grant": (lambda data: payloads.decode_grant(KEYS["care"], BOARD, data), payload("grant")),
    "grant consent": (payloads.grant_consent, payload("grant")),
    "revoke": (payloads.decode_revoke, payload("revoke")),
    "pads": (payloads.decode_pads, payload("pads")),
    "held": (payloads.decode_held, payload("held")),
    "one-time alert": (opened_one_time, bytes.fromhex(VECTORS["one_time"][0]["frame"])),
    "one-time vector": (opened_one_time, bytes.fromhex(VECTORS["one_time"][1]["frame"])),
    "labels": (lambda data: payloads.decode_labels(KEYS["care"], BOARD, seq("labels"), data), payload("labels")),
    "model": (model.decode_model, bytes.fromhex(VECTORS["models"][0]["blob"])),
    "release": (model.decode_release, payload("model")),
    "signature": (lambda data: lms.verify(PUBLIC, MESSAGE, data), bytes.fromhex(SIGNED["signature"])),
    "public key": (lambda data: lms.verify(data, MESSAGE, bytes.fromhex(SIGNED["signature"])), PUBLIC),
}


def decoded_or_refused(decode, data: bytes) -> bool:
    """Whether ``data`` was taken; anything raised but WireError, or without a known reason, is the test's failure."""
    refused = None
    try:
        decode(data)
    except WireError as error:
        refused = error
    assert refused is None or refused.reason in REASONS
    return refused is None


@st.composite
def mutations(draw, good: bytes) -> bytes:
    """``good`` cut, extended, overwritten or spliced in up to four places."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("cut", "insert", "overwrite", "repeat"))):
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "overwrite":
                new = draw(st.binary(min_size=1, max_size=4))
                data[at : at + len(new)] = new
            case _:
                data += data[at : at + 64]
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
def test_good_bytes_are_taken(name):
    assert decoded_or_refused(*DECODERS[name])


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=400))
@example(data=b"")
def test_random_bytes_raise_wire_error_only(name, data):
    decoded_or_refused(DECODERS[name][0], data)


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
@settings(max_examples=60)
def test_mutated_bytes_raise_wire_error_only(name, data):
    decode, good = DECODERS[name]
    decoded_or_refused(decode, data.draw(mutations(good)))


@given(head=st.binary(min_size=12, max_size=40), samples=st.binary(max_size=60))
def test_what_a_board_seals_as_a_waveform_is_taken_or_refused(head, samples):
    """Past the tag, which keeps the other fuzz out."""
    sealed = payloads._seal_care(KEYS["care"], bytes(16), BOARD, 7, head + samples, keystream.DOMAIN_WAVE)
    decoded_or_refused(lambda data: payloads.decode_wave(KEYS["care"], BOARD, 7, data), sealed)


@pytest.mark.parametrize("name", DECODERS)
def test_no_prefix_of_good_bytes_raises_anything_else(name):
    decode, good = DECODERS[name]
    for length in [*range(min(len(good), 150)), *range(150, len(good), 97)]:
        decoded_or_refused(decode, good[:length])


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
@given(data=st.data())
@settings(max_examples=60)
def test_a_changed_frame_is_never_taken(case, data):
    good = bytes.fromhex(case["frame"])
    way, types = (b"up", frame.UP_TYPES) if case["type"] in frame.UP_TYPES else (b"down", frame.DOWN_TYPES)
    changed = data.draw(mutations(good).filter(lambda changed: changed != good))

    def receive(received: bytes) -> None:
        frame.parse(received, types)
        frame.authenticate(received, keys.derive(KEYS["link"], b"qepa/1/link/mac/" + way))

    assert decoded_or_refused(receive, good)
    assert not decoded_or_refused(receive, changed)
