"""Payloads of frames; every ``decode`` raises WireError and nothing else for what does not fit."""

import struct
from collections import namedtuple

from .errors import WireError
from .keys import CARE_ENCRYPT, CARE_GRANT, CARE_MAC, derive
from .keystream import (
    DOMAIN_ALERT,
    DOMAIN_CARE_DOWN,
    DOMAIN_CARE_UP,
    DOMAIN_WAVE,
    STREAM_ALERT,
    STREAM_CARE,
    xor_cipher,
)
from .lighthe import CHECK_BYTES, MAX_WORDS, vector_bytes
from .measures import MEASURES, UNKNOWN
from .primitives import equal, hmac_sha256

try:
    from collections.abc import Sequence
    from typing import Any
except ImportError:  # MicroPython: the annotations stay strings
    pass

TAG_BYTES = 16
ID_BYTES = 16

HELLO_FORMAT = "<16sHHIHHHBB"
Hello = namedtuple(
    "Hello",
    ("key_id", "steps", "boots", "model", "pads", "firmware", "battery_permille", "reset_cause", "mode"),
)
BATTERY_UNKNOWN = 0xFFFF
RESET_CAUSES = ("unknown", "power_on", "hard", "watchdog", "deep_sleep", "soft", "brown_out")
MODES = ("normal", "safe", "trial")  # safe: it samples nothing; trial: of firmware that is not confirmed yet
MAX_RATCHET_STEPS = 4096  # what an unauthenticated HELLO may cost its receiver

VECTOR_FORMAT = "<QBBHI"
VECTOR_HEADER = struct.calcsize(VECTOR_FORMAT)
Vector = namedtuple("Vector", ("round", "stream", "model", "n_words", "sealed"))

CARE_FORMAT = "<IHBBIHBB"
MEASURE_FORMAT = "<BBh"
# measures: a tuple of (code, quality, value) as measures.py defines them: quality is in percent, or the reason
# where the value is UNKNOWN
Care = namedtuple("Care", ("t_ms", "boots", "flags", "beat_class", "beats", "model", "measures"))
CARE_LEAD_OFF = 1
CARE_ASYSTOLE = 2
NO_BEAT_CLASS = 255
MAX_MEASURES = 16

WAVE_FORMAT = "<BBHHIBB"
# samples: bytes, int16 little endian, axis by axis of one moment after the other; first: number since boot of the first
# moment; peaks: numbers of R peaks that were not known at the last record, rising
Wave = namedtuple("Wave", ("channel", "axes", "fs_hz", "boots", "first", "peaks", "samples"))
WAVE_ECG = 1
WAVE_ACCEL = 2
WAVE_AXES = {WAVE_ECG: (1, 2), WAVE_ACCEL: (3,)}
WAVE_UNITS_PER_MV = 800  # of ECG
MAX_WAVE_HZ = 500
MAX_WAVE_PEAKS = 4

WANTED_FORMAT = "<16sH"

ALERT_FORMAT = "<IHBBh"
Alert = namedtuple("Alert", ("t_ms", "boots", "kind", "active", "value"))
ALERT_ASYSTOLE = 1
ALERT_LEAD_OFF = 2
ALERT_LOW_SPO2 = 3
ALERT_GLUCOSE_LOW = 4
ALERT_GLUCOSE_HIGH = 5
ALERT_BATTERY_LOW = 6
ALERT_SENSOR_FAULT = 7
ALERT_APNOEA = 8
ALERT_KINDS = (
    ALERT_ASYSTOLE,
    ALERT_LEAD_OFF,
    ALERT_LOW_SPO2,
    ALERT_GLUCOSE_LOW,
    ALERT_GLUCOSE_HIGH,
    ALERT_BATTERY_LOW,
    ALERT_SENSOR_FAULT,
    ALERT_APNOEA,
)

ROUND_FORMAT = "<QIIHB"
STREAM_FORMAT = "<BHIIBII"
RoundOrder = namedtuple("RoundOrder", ("round", "model", "deadline_ms", "n_max", "streams"))
# noise_q8: variance of the board's noise share in words squared, times 256; clip_norm: L2 bound of one patient's
# whole contribution in the input's units; 0 is none for both
StreamOrder = namedtuple("StreamOrder", ("stream", "n_words", "bound", "q_max", "rounding", "noise_q8", "clip_norm"))
MAX_STREAMS = 4

Label = namedtuple("Label", ("boots", "sample", "beat_class"))
LABEL_FORMAT = "<HIB"
MAX_LABELS = 64
MAX_ACKS = 64

MAX_BLOCKS = 32
HELD_FORMAT = "<16sI"
HeldBlock = namedtuple("HeldBlock", ("key_id", "used"))
BLOCK_GONE = 0xFFFFFFFF  # for ``used``: the gateway will never hold this block

REKEY_FORMAT = "<II"
NO_REKEY = 0xFFFFFFFF  # seconds: longer than a board runs


def _unpack(format_: str, data: bytes) -> "tuple[Any, ...]":
    if len(data) != struct.calcsize(format_):
        raise WireError("payload", "%d bytes" % len(data))
    return struct.unpack(format_, data)


def encode_hello(hello: Hello) -> bytes:
    """First frame of an epoch: its key (``key_id``, ``steps`` ratchet steps on) and the board's state."""
    return struct.pack(HELLO_FORMAT, *hello)


def decode_hello(data: bytes) -> Hello:
    """Inverse of :func:`encode_hello`."""
    hello = Hello(*_unpack(HELLO_FORMAT, data))
    if hello.steps > MAX_RATCHET_STEPS:
        raise WireError("payload", "%d ratchet steps" % hello.steps)
    if hello.battery_permille > 1000 and hello.battery_permille != BATTERY_UNKNOWN:
        raise WireError("payload", "battery at %d permille" % hello.battery_permille)
    if hello.reset_cause >= len(RESET_CAUSES) or hello.mode >= len(MODES):
        raise WireError("payload", "reset cause %d, mode %d" % (hello.reset_cause, hello.mode))
    return hello


def encode_vector(round_: int, stream: int, model: int, sealed: bytes) -> bytes:
    """A LightHE vector: for which round, stream and model version, then the sealed words."""
    n_words = (len(sealed) - CHECK_BYTES) // 4
    return struct.pack(VECTOR_FORMAT, round_, stream, 0, n_words, model) + sealed


def decode_vector(data: bytes) -> Vector:
    """Inverse of :func:`encode_vector`."""
    if len(data) < VECTOR_HEADER:
        raise WireError("payload", "%d bytes" % len(data))
    round_, stream, zero, n_words, model = struct.unpack_from(VECTOR_FORMAT, data)
    if zero or not 0 < n_words <= MAX_WORDS or len(data) != VECTOR_HEADER + vector_bytes(n_words):
        raise WireError("payload", "a vector of %d words in %d bytes" % (n_words, len(data)))
    return Vector(round_, stream, model, n_words, data[VECTOR_HEADER:])


def _care_tag(key: bytes, domain: int, board: int, seq: int, body: bytes) -> bytes:
    return hmac_sha256(derive(key, CARE_MAC), struct.pack("<BII", domain, board, seq) + body)[:TAG_BYTES]


def encode_care(care_key: bytes, consent_id: bytes, board: int, seq: int, care: Care) -> bytes:
    """Live vitals, encrypted then authenticated under the care key of one consent; ``seq`` is the frame's."""
    measures = care.measures
    if len(measures) > MAX_MEASURES:
        raise WireError("payload", "%d measures" % len(measures))
    head = struct.pack(
        CARE_FORMAT, care.t_ms, care.boots, care.flags, care.beat_class, care.beats, care.model, len(measures), 0
    )
    plain = head + b"".join(struct.pack(MEASURE_FORMAT, *measure) for measure in measures)
    return _seal_care(care_key, consent_id, board, seq, plain, DOMAIN_CARE_UP)


def care_consent(data: bytes) -> bytes:
    """Return the consent a care or labels payload belongs to, so that its key can be found."""
    if len(data) < ID_BYTES + TAG_BYTES:
        raise WireError("payload", "%d bytes" % len(data))
    return data[:ID_BYTES]


def decode_care(care_key: bytes, board: int, seq: int, data: bytes) -> Care:
    """Inverse of :func:`encode_care`; raises WireError("mac") when the tag does not hold."""
    plain = _open_care(care_key, board, seq, data, DOMAIN_CARE_UP)
    head, each = struct.calcsize(CARE_FORMAT), struct.calcsize(MEASURE_FORMAT)
    if len(plain) < head:
        raise WireError("payload", "%d bytes of care record" % len(plain))
    t_ms, boots, flags, beat_class, beats, model, count, zero = struct.unpack_from(CARE_FORMAT, plain)
    if flags & ~(CARE_LEAD_OFF | CARE_ASYSTOLE) or zero or count > MAX_MEASURES or len(plain) != head + count * each:
        raise WireError("payload", "care record with flags %d, %d measures" % (flags, count))
    measures = tuple([struct.unpack_from(MEASURE_FORMAT, plain, head + i * each) for i in range(count)])
    for code, quality, value in measures:
        _check_measure(code, quality, value)
    if len({measure[0] for measure in measures}) != count:
        raise WireError("payload", "a measure stands twice in a care record")
    return Care(t_ms, boots, flags, beat_class, beats, model, measures)


def reseal_care(care_key: bytes, board: int, seq: int, data: bytes, new_seq: int) -> bytes:
    """The care record ``data`` of the frame ``seq`` for another frame; raises WireError("mac") when its tag fails."""
    plain = _open_care(care_key, board, seq, data, DOMAIN_CARE_UP)
    return _seal_care(care_key, data[:ID_BYTES], board, new_seq, plain, DOMAIN_CARE_UP)


def _check_measure(code: int, quality: int, value: int) -> None:
    """Raise WireError("payload") for a value outside its table. A code unknown here is kept: the board may be newer."""
    known = MEASURES.get(code)
    if value == UNKNOWN:
        wrong = code == 0 or quality == 0
    else:
        wrong = code == 0 or quality > 100 or (known is not None and not known.low <= value <= known.high)
    if wrong:
        raise WireError("payload", "measure %d, quality %d, value %d" % (code, quality, value))


def _seal_care(key: bytes, consent_id: bytes, board: int, seq: int, plain: bytes, domain: int) -> bytes:
    body = consent_id + xor_cipher(derive(key, CARE_ENCRYPT), domain, STREAM_CARE, seq, plain)
    return body + _care_tag(key, domain, board, seq, body)


def _open_care(key: bytes, board: int, seq: int, data: bytes, domain: int) -> bytes:
    if len(data) < ID_BYTES + TAG_BYTES:
        raise WireError("payload", "%d bytes" % len(data))
    body = data[:-TAG_BYTES]
    if not equal(_care_tag(key, domain, board, seq, body), data[-TAG_BYTES:]):
        raise WireError("mac", "care record")
    return xor_cipher(derive(key, CARE_ENCRYPT), domain, STREAM_CARE, seq, body[ID_BYTES:])


def encode_wave(care_key: bytes, consent_id: bytes, board: int, seq: int, wave: Wave) -> bytes:
    """At most a second of a waveform, encrypted and authenticated as a care record is, in a domain of its own."""
    *head, peaks, samples = wave
    count = len(peaks)
    plain = struct.pack(WAVE_FORMAT, *head, count, 0) + struct.pack("<%dI" % count, *peaks) + samples
    return _seal_care(care_key, consent_id, board, seq, plain, DOMAIN_WAVE)


def decode_wave(care_key: bytes, board: int, seq: int, data: bytes) -> Wave:
    """Inverse of :func:`encode_wave`; raises WireError("mac") when the tag does not hold."""
    plain = _open_care(care_key, board, seq, data, DOMAIN_WAVE)
    head = struct.calcsize(WAVE_FORMAT)
    if len(plain) < head:
        raise WireError("payload", "%d bytes of waveform" % len(plain))
    channel, axes, fs_hz, boots, first, count, zero = struct.unpack_from(WAVE_FORMAT, plain)
    at = head + 4 * count
    n, left = divmod(len(plain) - at, 2 * max(axes, 1))
    if axes not in WAVE_AXES.get(channel, ()) or zero or count > MAX_WAVE_PEAKS or left or not 0 < n <= fs_hz:
        raise WireError("payload", "channel %d, %d axes, %d peaks, %d bytes" % (channel, axes, count, len(plain)))
    peaks = struct.unpack_from("<%dI" % count, plain, head)
    rising = all(peaks[i] < peaks[i + 1] for i in range(count - 1))
    if fs_hz > MAX_WAVE_HZ or not rising or (count and peaks[-1] >= first + n):
        raise WireError("payload", "%d samples at %d Hz, peaks that do not rise or are yet to come" % (n, fs_hz))
    return Wave(channel, axes, fs_hz, boots, first, peaks, plain[at:])


def encode_waves_wanted(consent_id: bytes, seconds: int) -> bytes:
    """Ask a board for waveforms under a consent for ``seconds`` from now on, 0 to end them; the frame's MAC counts."""
    return struct.pack(WANTED_FORMAT, consent_id, seconds)


def decode_waves_wanted(data: bytes) -> "tuple[Any, ...]":
    """Inverse of :func:`encode_waves_wanted`: (consent_id, seconds)."""
    return _unpack(WANTED_FORMAT, data)


def encode_labels(care_key: bytes, consent_id: bytes, board: int, seq: int, labels: "list[Label]") -> bytes:
    """Beat labels by a clinician: class of the beat at a sample since boot number ``boots``; at most 64."""
    if len(labels) > MAX_LABELS:
        raise WireError("payload", "%d labels" % len(labels))
    plain = b"".join(struct.pack(LABEL_FORMAT, *label) for label in labels)
    return _seal_care(care_key, consent_id, board, seq, plain, DOMAIN_CARE_DOWN)


def decode_labels(care_key: bytes, board: int, seq: int, data: bytes) -> "list[Label]":
    """Inverse of :func:`encode_labels`: a list of Label."""
    plain = _open_care(care_key, board, seq, data, DOMAIN_CARE_DOWN)
    size = struct.calcsize(LABEL_FORMAT)
    if len(plain) % size or len(plain) > MAX_LABELS * size:
        raise WireError("payload", "%d bytes of labels" % len(plain))
    return [Label(*struct.unpack_from(LABEL_FORMAT, plain, i)) for i in range(0, len(plain), size)]


def encode_alert(alert_key: bytes, seq: int, alert: Alert) -> bytes:
    """A short emergency, encrypted under the link's alert key; the frame's MAC authenticates it."""
    return xor_cipher(alert_key, DOMAIN_ALERT, STREAM_ALERT, seq, struct.pack(ALERT_FORMAT, *alert))


def decode_alert(alert_key: bytes, seq: int, data: bytes) -> Alert:
    """Inverse of :func:`encode_alert`."""
    if len(data) != struct.calcsize(ALERT_FORMAT):
        raise WireError("payload", "%d bytes" % len(data))
    return check_alert(xor_cipher(alert_key, DOMAIN_ALERT, STREAM_ALERT, seq, data))


def check_alert(plain: bytes) -> Alert:
    """Return the alert in its 10 bytes of plain text."""
    alert = Alert(*_unpack(ALERT_FORMAT, plain))
    if alert.kind not in ALERT_KINDS or alert.active > 1:
        raise WireError("payload", "alert kind %d" % alert.kind)
    return alert


def encode_ack(seqs: "Sequence[int]") -> bytes:
    """Sequence numbers of frames that the gateway holds durably; 1 to 64."""
    if not 0 < len(seqs) <= MAX_ACKS:
        raise WireError("payload", "%d acknowledgements" % len(seqs))
    return struct.pack("<%dI" % len(seqs), *seqs)


def decode_ack(data: bytes) -> tuple[int, ...]:
    """Inverse of :func:`encode_ack`: a tuple of sequence numbers."""
    if not data or len(data) % 4 or len(data) > 4 * MAX_ACKS:
        raise WireError("payload", "%d bytes of acknowledgements" % len(data))
    return struct.unpack("<%dI" % (len(data) // 4), data)


def terms_key(cohort_check_key: bytes, model: int, n_max: int, stream: StreamOrder) -> bytes:
    """Key of the check coefficients for one stream of a round order.

    The terms of the order are in the key: a gateway that hands its boards other terms than the server's makes the
    check values fail.
    """
    return hmac_sha256(cohort_check_key, struct.pack("<IH", model, n_max) + struct.pack(STREAM_FORMAT, *stream))


def encode_round(order: RoundOrder) -> bytes:
    """What a board is asked for in one round."""
    head = struct.pack(ROUND_FORMAT, order.round, order.model, order.deadline_ms, order.n_max, len(order.streams))
    return head + b"".join(struct.pack(STREAM_FORMAT, *stream) for stream in order.streams)


def decode_round(data: bytes) -> RoundOrder:
    """Inverse of :func:`encode_round`."""
    head, each = struct.calcsize(ROUND_FORMAT), struct.calcsize(STREAM_FORMAT)
    if len(data) < head:
        raise WireError("payload", "%d bytes" % len(data))
    round_, model, deadline_ms, n_max, count = struct.unpack_from(ROUND_FORMAT, data)
    if not 0 < count <= MAX_STREAMS or len(data) != head + count * each:
        raise WireError("payload", "%d streams in %d bytes" % (count, len(data)))
    streams = [StreamOrder(*struct.unpack_from(STREAM_FORMAT, data, head + i * each)) for i in range(count)]
    if len({stream.stream for stream in streams}) != count:
        # sealed twice in a round, a stream would show its difference to whoever strips the link masks
        raise WireError("payload", "a stream is asked for twice")
    return RoundOrder(round_, model, deadline_ms, n_max, streams)


def _grant_tag(care_key: bytes, board: int, consent_id: bytes, valid_s: int) -> bytes:
    message = struct.pack("<II", board, valid_s) + consent_id
    return hmac_sha256(derive(care_key, CARE_GRANT), message)[:TAG_BYTES]


def encode_grant(care_key: bytes, board: int, consent_id: bytes, valid_s: int) -> bytes:
    """Tell a board to stream care records for ``valid_s`` seconds; the tag shows that the server agreed."""
    return consent_id + struct.pack("<I", valid_s) + _grant_tag(care_key, board, consent_id, valid_s)


def grant_consent(data: bytes) -> bytes:
    """Return the consent of a grant, so that its care key can be derived."""
    if len(data) != ID_BYTES + 4 + TAG_BYTES:
        raise WireError("payload", "%d bytes of care grant" % len(data))
    return data[:ID_BYTES]


def decode_grant(care_key: bytes, board: int, data: bytes) -> int:
    """Return ``valid_s`` of a grant; raises WireError("mac") when the tag does not hold."""
    consent_id = grant_consent(data)
    valid_s: int = struct.unpack_from("<I", data, ID_BYTES)[0]
    if not equal(_grant_tag(care_key, board, consent_id, valid_s), data[-TAG_BYTES:]):
        raise WireError("mac", "care grant")
    return valid_s


def encode_revoke(consent_id: bytes) -> bytes:
    """Tell a board that a consent has ended; the frame's MAC authenticates it."""
    return consent_id


def decode_revoke(data: bytes) -> bytes:
    """Return the consent that has ended."""
    if len(data) != ID_BYTES:
        raise WireError("payload", "%d bytes of care revocation" % len(data))
    return data


def encode_pads(key_ids: "Sequence[bytes]") -> bytes:
    """Tell the gateway which one-time blocks this board holds: 0 to 32 key_IDs."""
    if len(key_ids) > MAX_BLOCKS:
        raise WireError("payload", "%d blocks" % len(key_ids))
    return b"".join(key_ids)


def decode_pads(data: bytes) -> "list[bytes]":
    """Inverse of :func:`encode_pads`."""
    if len(data) % ID_BYTES or len(data) > MAX_BLOCKS * ID_BYTES:
        raise WireError("payload", "%d bytes of key_IDs" % len(data))
    key_ids = [data[i : i + ID_BYTES] for i in range(0, len(data), ID_BYTES)]
    if len(set(key_ids)) != len(key_ids):
        raise WireError("payload", "a block is listed twice")
    return key_ids


def encode_held(blocks: "Sequence[HeldBlock]") -> bytes:
    """Tell a board which of its one-time blocks the gateway holds durably, and up to where each is used."""
    if len(blocks) > MAX_BLOCKS:
        raise WireError("payload", "%d blocks" % len(blocks))
    return b"".join(struct.pack(HELD_FORMAT, *block) for block in blocks)


def decode_held(data: bytes) -> "list[HeldBlock]":
    """Inverse of :func:`encode_held`."""
    each = struct.calcsize(HELD_FORMAT)
    if len(data) % each or len(data) > MAX_BLOCKS * each:
        raise WireError("payload", "%d bytes of held blocks" % len(data))
    return [HeldBlock(*struct.unpack_from(HELD_FORMAT, data, i)) for i in range(0, len(data), each)]


def encode_rekey(step_s: int, pad_s: int) -> bytes:
    """How old a link key may grow before a ratchet step, and a pad before the next one replaces it, in seconds."""
    return struct.pack(REKEY_FORMAT, step_s, pad_s)


def decode_rekey(data: bytes) -> tuple[int, ...]:
    """Inverse of :func:`encode_rekey`: (step_s, pad_s)."""
    ages = _unpack(REKEY_FORMAT, data)
    if 0 in ages:
        raise WireError("payload", "a key that is always too old")
    return ages
