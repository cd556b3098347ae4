"""Every parser of bytes from outside: one kind of error, bounded memory, and none is forgotten.

`test_none_is_forgotten` finds parsers in the sources by their names; a new one is to stand in `PARSERS`, in `ELSEWHERE`
with the test that fuzzes it, or in `NO_PARSER` with the reason.
"""

import ast
import io
import json
import random
import re
import struct
import sys
import tracemalloc
import zipfile
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))
from bedside_rig import root
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_gateway.ble.channel import Channel
from qepa_gateway.errors import GatewayError, KeyUnavailable
from qepa_gateway.key_source import parse_link_status
from qepa_gateway.spool.vault import Vault as SpoolVault
from qepa_qkd import cobs_compiled, messages, parity_questions, pqc_secret, serial_protocol
from qepa_qkd.authentication import InitialSecret
from qepa_qkd.channel import FrameOpener, FrameSealer, parse_preface, preface
from qepa_qkd.drivers.errors import TagStreamError
from qepa_qkd.drivers.tdc1_words import RecordDecoder
from qepa_qkd.errors import QkdError
from qepa_qkd.key_id import Claim
from qepa_qkd.kme_client import _keys
from qepa_qkd.line_connection import LineConnection
from qepa_qkd.passport import verify_passport
from qepa_server.errors import ServerError
from qepa_server.parsing import parse as parse_model
from qepa_server.store.vault import Vault as ServerVault
from qepa_uplink.enrolment import EnrolmentRequest
from qepa_uplink.errors import UplinkError
from qepa_uplink.firmware import open_bundle
from qepa_uplink.identity import verify_signature
from qepa_uplink.sealing import SealKey
from qepa_wire import cobs, firmware, link_frames, manifest, payloads
from qepa_wire.errors import WireError
from qepa_wire.link_commands import SETTINGS

SOURCES = Path(__file__).parents[2]
ROOTS = ("firmware/qepa_wire", "gateway/qepa_uplink", "gateway/qepa_qkd", "gateway/qepa_gateway", "server/qepa_server")
MOST_BYTES = 8 << 20
"""That a parser may hold for one message of a few kilobytes."""

SIGNER = MLDSA65PrivateKey.generate()
KEY = bytes(range(32))
ALERT = struct.pack(payloads.ALERT_FORMAT, *payloads.Alert(9, 1, 1, 1, 0))


def classical_messages():
    slots, symbols = np.array([3, 70_000, 70_004]), np.array([0, 2, 3], np.uint8)
    bits = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1], np.uint8)
    questions = (
        parity_questions.Opening(9),
        parity_questions.Divisions(2, np.array([0, 5, 700])),
        parity_questions.SubsetRanges(np.array([1, 2], np.uint8), np.array([0, 9]), np.array([4, 12])),
        parity_questions.SyndromeBits(np.array([0, 1], np.uint16), 8),
    )
    return [
        messages.encode(each)
        for each in (
            messages.Hello(bytes(32), "1", (messages.PadPosition(1, 2, 3),), (4, 5)),
            messages.Settle((1, 2)),
            messages.RunStart(1),
            messages.Pause("why"),
            messages.Report(1, 2, 3, slots),
            messages.Sample(1, slots, symbols),
            messages.Bases(1, 2, symbols),
            messages.Sift(1, 2, np.array([0, 1, 2], np.uint8)),
            messages.Reconcile(1, 2, bytes(16), 0.02),
            *(messages.ParityRequest(1, question) for question in questions),
            messages.ParityReply(1, bits),
            messages.Corrected(1, (1, 2, 3), 4),
            messages.Verify(1, bytes(16), bytes(16)),
            messages.Amplify(1, 100, 64, bytes(20)),
            messages.Tag(1, 2, 3, bytes(16)),
            messages.Abort(1, "why"),
        )
    ]


def serial_messages():
    encode = serial_protocol.FrameEncoder().encode
    slots, detectors = np.array([5, 9, 70_000]), np.array([0, 1, 3], np.uint8)
    times, channels = np.array([0, 2000, 9_000_000]), np.array([0, 4, 2], np.uint8)
    return [
        encode(serial_protocol.Command("STATUS")),
        encode(serial_protocol.Reply("OK")),
        encode(serial_protocol.Detections(1, 0, 80_000, 0, slots, detectors)),
        encode(serial_protocol.TimeTags(1, 0, 9_100_000, 0, 1000, times, channels)),
        encode(serial_protocol.StateQuery(1, 2, slots)),
    ]


def bundle(compression=zipfile.ZIP_DEFLATED):
    content = b"code" * 40
    entry = manifest.Entry("lib/qepa_board/app.mpy", len(content), sha256(content).digest())
    listed = manifest.encode_manifest(manifest.Manifest(1, 2, 1, [entry]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("manifest", manifest.encode_release(listed, bytes(100)))
        archive.writestr(entry.path, content)
    return out.getvalue(), listed, manifest.encode_release(listed, bytes(100))


BUNDLE, MANIFEST, RELEASE = bundle()
STORED, BZIP2, LZMA = (bundle(kind)[0] for kind in (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
ENCRYPTED = BUNDLE.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
OFFER = pqc_secret.make_offer("link", SIGNER)
STATUS = {
    "stored_key_count": 3,
    "status_extension": {"qber": 0.01, "secret_bits_produced": 8, "threat_level": "normal", "rekey_s": 30.0},
}
KEYS = {"keys": [{"key_ID": str(UUID(int=5)), "key": "AAAA"}]}


def from_json(parse):
    """A parser of a JSON object, which its HTTP client has read."""

    def read(data):
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict):
            parse(document)

    return read


def signed_passport():
    body = {"counts": 1}
    signature = SIGNER.sign(json.dumps(body, sort_keys=True, separators=(",", ":")).encode(), b"qepa key passport 1")
    return json.dumps({"passport": body, "signature": signature.hex()}).encode()


def records():
    """A second of the TDC1's dummies and a few events."""
    return struct.pack("<8I", *((step << 5) | flag for step, flag in enumerate((16, 1, 2, 16, 4, 8, 3, 16))))


# name in the sources: how it is called, bytes that it takes, what it may raise
PARSERS = {
    "qepa_wire/cobs.py:decode": (cobs.decode, [cobs.encode(b"a\0b")], WireError),
    "qepa_qkd/cobs_compiled.py:decode": (cobs_compiled.decode, [cobs.encode(b"a\0b" * 200)], WireError),
    "qepa_wire/firmware.py:decode_offer": (
        firmware.decode_offer,
        [firmware.encode_offer(firmware.Offer(bytes(32), 2, 100, 100))],
        WireError,
    ),
    "qepa_wire/firmware.py:decode_want": (
        firmware.decode_want,
        [firmware.encode_want(firmware.Want(bytes(8), 0, 1, 0, 0, "drivers/max30003"))],
        WireError,
    ),
    "qepa_wire/firmware.py:decode_piece": (
        firmware.decode_piece,
        [firmware.encode_piece(firmware.Piece(bytes(8), 2, 0, b"data"))],
        WireError,
    ),
    "qepa_wire/link_commands.py:Setting.parse": (
        lambda data: [_setting(each, data.decode("latin-1")) for each in SETTINGS],
        [each.default.encode() for each in SETTINGS],
        WireError,
    ),
    "qepa_wire/link_frames.py:FrameReader.feed": (lambda d: link_frames.FrameReader().feed(d), serial_messages(), ()),
    "qepa_wire/link_frames.py:parse": (link_frames.parse, [each[:-1] for each in serial_messages()], WireError),
    "qepa_wire/manifest.py:decode_header": (manifest.decode_header, [MANIFEST], WireError),
    "qepa_wire/manifest.py:decode_manifest": (manifest.decode_manifest, [MANIFEST], WireError),
    "qepa_wire/manifest.py:decode_release": (manifest.decode_release, [RELEASE], WireError),
    "qepa_wire/payloads.py:check_alert": (
        payloads.check_alert,
        [ALERT],
        WireError,
    ),
    "qepa_wire/payloads.py:decode_rekey": (payloads.decode_rekey, [payloads.encode_rekey(30, 300)], WireError),
    "qepa_uplink/firmware.py:open_bundle": (open_bundle, [BUNDLE, STORED], UplinkError),
    "qepa_uplink/identity.py:verify_signature": (
        lambda data: verify_signature(root().public_key, data, b"message", b"context"),
        [bytes(3309)],
        UplinkError,
    ),
    "qepa_uplink/sealing.py:SealKey.from_bytes": (
        SealKey.from_bytes,
        [SealKey.generate().to_bytes()],
        (UplinkError, ValueError),
    ),
    "qepa_qkd/authentication.py:InitialSecret.parse": (InitialSecret.parse, [bytes(4096)], QkdError),
    "qepa_qkd/channel.py:parse_preface": (
        lambda data: parse_preface(data, "alice"),
        [preface("alice", bytes(32))],
        QkdError,
    ),
    "qepa_qkd/channel.py:FrameOpener.feed": (
        lambda data: FrameOpener(KEY).feed(data),
        [FrameSealer(KEY).seal(b"payload" * 9)],
        QkdError,
    ),
    "qepa_qkd/drivers/tdc1_words.py:RecordDecoder.feed": (
        lambda data: RecordDecoder(0.0).feed(data, 0.1),
        [records()],
        TagStreamError,
    ),
    "qepa_qkd/key_id.py:Claim.parse": (lambda data: Claim.parse(UUID(bytes=(data + bytes(16))[:16])), [], QkdError),
    "qepa_qkd/kme_client.py:_keys": (from_json(lambda d: _keys(d, 1)), [json.dumps(KEYS).encode()], QkdError),
    "qepa_qkd/line_connection.py:LineConnection.feed": (
        lambda data: _opening_line().feed(data, 1.0),
        [link_frames.FrameWriter().frame(kind, bytes(17)) for kind in range(4)],
        (),
    ),
    "qepa_qkd/messages.py:decode": (messages.decode, classical_messages(), QkdError),
    "qepa_qkd/parity_questions.py:decode_question": (
        parity_questions.decode_question,
        [parity_questions.encode_question(parity_questions.Divisions(2, np.array([0, 5, 700])))],
        QkdError,
    ),
    "qepa_qkd/passport.py:verify_passport": (
        lambda data: verify_passport(data.decode("utf-8", "surrogateescape"), SIGNER.public_key()),
        [signed_passport()],
        QkdError,
    ),
    "qepa_qkd/pqc_secret.py:Offer.from_private_bytes": (
        pqc_secret.Offer.from_private_bytes,
        [OFFER.private_bytes()],
        QkdError,
    ),
    "qepa_qkd/pqc_secret.py:answer_offer": (
        lambda data: pqc_secret.answer_offer(data, "link", SIGNER, SIGNER.public_key()),
        [OFFER.message],
        QkdError,
    ),
    "qepa_qkd/pqc_secret.py:take_answer": (
        lambda data: pqc_secret.take_answer(OFFER, data, "link", SIGNER.public_key()),
        [pqc_secret.answer_offer(OFFER.message, "link", SIGNER, SIGNER.public_key())[0]],
        QkdError,
    ),
    "qepa_qkd/serial_protocol.py:FrameDecoder.feed": (
        lambda data: list(serial_protocol.FrameDecoder().feed(data)),
        serial_messages(),
        (),
    ),
    "qepa_qkd/serial_protocol.py:decode_message": (
        lambda data: serial_protocol.decode_message(data[0] if data else 0, data[1:]),
        [bytes([kind]) + payload for kind, _, payload in (link_frames.parse(each[:-1]) for each in serial_messages())],
        QkdError,
    ),
    "qepa_gateway/key_source.py:parse_link_status": (
        from_json(parse_link_status),
        [json.dumps(STATUS).encode()],
        KeyUnavailable,
    ),
    "qepa_gateway/ble/channel.py:Channel.received": (
        lambda data: Channel(23, 500, lambda _reason: None).received(data, 0),
        [b"\x00\x05hello"],
        GatewayError,
    ),
    "qepa_gateway/spool/vault.py:Vault.open": (
        lambda data: SpoolVault(KEY).open(data, "here"),
        [SpoolVault(KEY).seal(b"secret", "here")],
        GatewayError,
    ),
    "qepa_server/store/vault.py:Vault.open_sealed": (
        lambda data: ServerVault(KEY).open_sealed(data, "here"),
        [ServerVault(KEY).seal(b"secret", "here")],
        ServerError,
    ),
    "qepa_server/parsing.py:parse": (
        lambda data: parse_model(EnrolmentRequest, data),
        [EnrolmentRequest(board=1, patient="p", gateway="gw-1", sealed_end_key=bytes(9)).model_dump_json().encode()],
        (UplinkError, ServerError),
    ),
}


def _setting(setting, text):
    try:
        setting.parse(text)
    except WireError:
        return


def _opening_line():
    line = LineConnection(lambda: 5, 921_600)
    line.begin(0.0)
    return line


ELSEWHERE = {
    "test_wire.py": {
        "qepa_wire/frame.py:parse",
        "qepa_wire/lms.py:verify",
        "qepa_wire/model.py:decode_model",
        "qepa_wire/model.py:decode_release",
        "qepa_wire/one_time.py:open_one_time",
        *(
            f"qepa_wire/payloads.py:{name}"
            for name in (
                "decode_hello", "decode_vector", "care_consent", "decode_care", "decode_labels", "decode_alert",
                "decode_ack", "decode_round", "grant_consent", "decode_grant", "decode_revoke", "decode_pads",
                "decode_held", "decode_wave", "decode_waves_wanted",
            )
        ),
    },
    "test_fragments.py": {"qepa_wire/fragments.py:Reassembler.push", "qepa_wire/gatt.py:decode_info"},
    "test_uplink.py": {
        "qepa_uplink/envelope.py:parse",
        "qepa_uplink/envelope.py:peek",
        "qepa_uplink/envelope.py:open_signed",
        "qepa_uplink/identity.py:Identity.unseal",
        "qepa_uplink/lighthe.py:SealedVector.from_bytes",
        "qepa_uplink/sealing.py:SealKey.unseal",
        "qepa_uplink/session.py:Session.open",
        "qepa_uplink/session.py:session_id",
        "qepa_server/hospital.py:Hospital.receive",
        "qepa_server/registry/bedside.py:BedsideLines.pushed",
        "qepa_server/sessions/hub.py:GatewayHub.receive",
    },
    "test_mqtt_packets.py": {"qepa_uplink/mqtt_packets.py:Packets.feed", "qepa_uplink/mqtt_packets.py:open_publish"},
    "test_gateway.py": {
        "qepa_gateway/core.py:Gateway.receive",
        "qepa_gateway/server_link.py:ServerLink.receive",
    },
}  # fmt: skip

NO_PARSER = {
    "qepa_uplink/lighthe.py:open_sum": "a vector that SealedVector.from_bytes has read",
    "qepa_server/unmask/opening.py:open_cell": "Partials that were read; tests/unit/server/test_opening.py",
    "qepa_qkd/delivery_ledger.py:DeliveryLedger.take_answer": "looks an answer up",
    "qepa_wire/fragments.py:Fragmenter.load": "cuts own frames",
    "qepa_qkd/store_database.py:StoreDatabase.unseal": "the key store's own file, tests/unit/qkd/test_keystore.py",
    "qepa_gateway/spool/rounds.py:RoundStore.open": "stores a round",
    "qepa_server/rounds/ledger.py:RoundLedger.open_round": "stores a round",
    "qepa_server/sessions/hub.py:GatewayHub.verify": "an envelope again that was taken before",
    "qepa_server/privacy/ledger.py:BudgetLedger.received": "notes what came",
    "qepa_server/hospital.py:Hospital.receive_all": "hands each to receive",
}
_NAMES = (
    "decode", "parse", "from_bytes", "from_private", "feed", "push", "peek", "unseal", "open_", "open$", "session_id",
    "receive", "verify_(sig|pass)", "care_consent", "grant_consent", "check_alert", "answer_offer", "take_answer",
)  # fmt: skip
_NAME = re.compile("|".join(_NAMES))
_BYTES = re.compile(r"\bbytes\b")


def parsers_in_sources():
    found = set()
    for base in ROOTS:
        for path in sorted((SOURCES / base).rglob("*.py")):
            within = f"{Path(base).name}/{path.relative_to(SOURCES / base).as_posix()}"
            found |= {f"{within}:{name}" for name in _parsers(ast.parse(path.read_text()), "")}
    return found


def _parsers(node, prefix):
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.ClassDef):
            yield from _parsers(each, f"{each.name}.")
        elif isinstance(each, ast.FunctionDef) and _NAME.match(each.name):
            annotated = [a.annotation for a in each.args.args if a.annotation is not None]
            if any(_BYTES.search(ast.unparse(annotation)) for annotation in annotated):
                yield prefix + each.name


def test_none_is_forgotten():
    known = PARSERS.keys() | NO_PARSER.keys() | set().union(*ELSEWHERE.values())
    assert parsers_in_sources() - known == set()


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_well_formed_is_taken(name):
    parse, good, refusal = PARSERS[name]
    for data in good:
        try:
            parse(data)
        except refusal:
            assert name.endswith((":verify_signature", ":Channel.received", "feed")), "its own bytes are refused"


ODD = {"qepa_uplink/firmware.py:open_bundle": [BZIP2, LZMA, ENCRYPTED]}
"""Well formed after some standard, and refused."""


@pytest.mark.parametrize(("name", "data"), [(name, each) for name, found in ODD.items() for each in found])
def test_what_a_standard_allows_and_nobody_here_sends_is_refused(name, data):
    parse, _, refusal = PARSERS[name]
    with pytest.raises(refusal):
        parse(data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_comes_is_taken_or_refused_in_one_way(name, data):
    parse, good, refusal = PARSERS[name]
    known = [*good, *ODD.get(name, ())]
    bent = data.draw(st.sampled_from(known).flatmap(mutations)) if known else b""
    for each in (bent, data.draw(st.binary(max_size=300))):
        try:
            parse(each)
        except refusal:
            continue


@st.composite
def mutations(draw, good):
    """``good`` cut, lengthened, overwritten or with a length that promises more."""
    bent = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(bent)))
        match draw(st.sampled_from(("cut", "insert", "overwrite", "huge", "repeat"))):
            case "cut":
                del bent[at : at + draw(st.integers(1, 8))]
            case "insert":
                bent[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "overwrite":
                new = draw(st.binary(min_size=1, max_size=4))
                bent[at : at + len(new)] = new
            case "huge":
                bent[at : at + 4] = b"\xff\xff\xff\x7f"
            case _:
                bent += bent[at : at + 64]
    return bytes(bent)


@pytest.mark.parametrize("name", PARSERS)
def test_no_length_that_is_promised_costs_memory(name):
    """Each two and each four bytes of a message say the most they can."""
    parse, good, refusal = PARSERS[name]
    for data in [*good, *ODD.get(name, ())]:
        places = random.Random(1).sample(range(len(data)), min(len(data), 60))
        for at in places:
            for lie in (b"\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff\x0f\x00"):
                bent = data[:at] + lie + data[at + len(lie) :]
                tracemalloc.start()
                try:
                    parse(bent)
                except refusal:
                    pass
                finally:
                    peak = tracemalloc.get_traced_memory()[1]
                    tracemalloc.stop()
                assert peak < MOST_BYTES
