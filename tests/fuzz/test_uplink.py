"""Whatever bytes arrive at the server, they are refused with one error type; and the server goes on."""

import json
import sys
from base64 import urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "server"))
from hospital_rig import Rig, certified, ward

from qepa_server.errors import RefusedError
from qepa_server.parsing import parse as into
from qepa_uplink import envelope, sealing, session
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import NUMBERS
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, verify_certificate
from qepa_uplink.lighthe import SealedVector
from qepa_uplink.messages import (
    LEAD_LENGTH,
    Ack,
    BedsideStatus,
    CellVoid,
    ExplainedBeat,
    ModelStatus,
    Partial,
    Ready,
    Status,
)
from qepa_uplink.releases import FirmwareOrder, ModelOrder, Order, SignedFirmwareOrder, SignedOrder
from qepa_uplink.session import Session, offer

ROOT, PARTIES = certified()
GATEWAY, SERVER = PARTIES["gw-1"], PARTIES["server"]
READY = Ready(round=1, gateway="gw-1", nonce=bytes(32), commitment=bytes(32), patients=3)
SIGNED = envelope.sign(GATEWAY, READY)
OPENING = envelope.sign(GATEWAY, offer(GATEWAY, "server", SERVER.subject.seal_key, 1)[0])
SECRET = bytes(range(32))
SEALED = Session(SECRET, gateway_side=True).seal(Ack(ids=("a",)))
TO_SERVER = sealing.seal_to(SERVER.subject.seal_key, SECRET, b"info")

DECODERS = {
    "envelope": (lambda d: envelope.open_signed(envelope.parse(d), GATEWAY.subject.sign_key), SIGNED),
    "peek": (lambda d: envelope.peek(envelope.parse(d)), SIGNED),
    "opening": (lambda d: envelope.peek(envelope.parse(d)), OPENING),
    "session": (lambda d: Session(SECRET, gateway_side=False).open(d), SEALED),
    "session id": (session.session_id, SEALED),
    "hpke": (lambda d: SERVER.unseal(d, b"info"), TO_SERVER),
    "vector": (SealedVector.from_bytes, bytes(80)),
    "certificate": (
        lambda d: verify_certificate(
            Certificate(body=d, signature=GATEWAY.certificate.signature), ROOT.public_key, role="gateway", now_s=0
        ),
        GATEWAY.certificate.body,
    ),
}


mutations = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


def mutate(data, changes, cut):
    out = bytearray(data)
    for where, flip in changes:
        out[int(where * len(out))] ^= flip
    return bytes(out[: int(cut * len(out))]) if cut is not None else bytes(out)


@pytest.mark.parametrize("name", DECODERS)
def test_the_untouched_bytes_are_taken(name):
    decode, good = DECODERS[name]
    decode(good)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=40, deadline=None)
@given(changes=mutations, cut=st.none() | st.floats(0, 1))
def test_bent_bytes_raise_one_error(name, changes, cut):
    decode, good = DECODERS[name]
    try:
        decode(mutate(good, changes, cut))
    except UplinkError as error:
        assert error.reason  # noqa: PT017


@pytest.mark.parametrize("name", [n for n in DECODERS if n != "certificate"])
@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=4000), prefix=st.sampled_from([b"", b"QU\x01", b"QU\x01\x04gw-1", b"QS\x01"]))
def test_random_bytes_raise_one_error(name, data, prefix):
    try:
        DECODERS[name][0](prefix + data)
    except UplinkError as error:
        assert error.reason  # noqa: PT017


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class _Raw:
    """A message whose JSON is chosen freely, for who holds a certified key and means harm."""

    def __init__(self, text):
        self._text = text

    def model_dump_json(self):
        return self._text


TEMPLATES = [
    json.loads(message.model_dump_json())
    for message in (
        READY,
        Partial(
            id="p", round=1, cell=1, stream=1, gateway="gw-1", contributors=(101,), patients=1, n_words=16,
            sealed=bytes(80), last_frame_ms=1,
        ),
        CellVoid(id="v", round=1, cell=1, stream=1, gateway="gw-1", reason="x"),
        Status(now_ms=1, boards=(), link=None, refused={}, spool=0),
        Status(
            now_ms=1, boards=(), link=None, refused={}, spool=0,
            model=ModelStatus(version=1, stage="withdrawn", failed=(101,)),
            bedside=(BedsideStatus(name="ecg-beats", version=1, digest=bytes(32), shipped=True),),
        ),
        Ack(ids=("a",)),
    )
]  # fmt: skip
TEMPLATES.append(
    {"type": "alert", "id": "a", "board": 101, "kind": 1, "active": True, "value": 0, "t_ms": 1, "received_ms": 1}
)
TEMPLATES.append({"type": "care_record", "board": 101, "seq": 1, "payload": "AAAA", "received_ms": 1})
edges = st.sampled_from([0, -1, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 1e308, "", "gw-2", [], {}])


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    rig = Rig(tmp_path_factory.mktemp("hospital"), ward(1, 12))
    rig.connect()
    rig.gateways["gw-1"].silent = True
    rig.pass_time(1)
    assert rig.hospital.rounds.running is not None
    return rig


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    template=st.sampled_from(TEMPLATES),
    field=st.integers(0, 20),
    value=edges | json_values,
    sealed=st.booleans(),
)
def test_a_hostile_certified_gateway_cannot_stop_the_server(rig, template, field, value, sealed):
    """Well signed and well sealed, but with any value anywhere."""
    message = dict(template)
    message[list(message)[1 + field % (len(message) - 1)]] = value
    raw = _Raw(json.dumps(message))
    gateway = rig.gateways["gw-1"]
    if sealed:
        rig.hospital.receive("gw-1", gateway.session.seal(raw))
    else:
        rig.hospital.receive("gw-1", envelope.sign(gateway.identity, raw))
    rig.hospital.tick()
    json.loads(json.dumps(rig.state(), allow_nan=False))
    rig.to_gateways.clear()


told = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["ecg-beats", "activity", "weather"]),
        "version": st.sampled_from([0, 1, 2, 9, 1000, 2**31, 2**32 - 1]),
        "digest": st.sampled_from(["AA==", "A" * 43 + "="]),
        "shipped": st.booleans(),
        "errors": st.sampled_from([0, 5, 2**52]),
        "refused_version": st.sampled_from([0, 1, 2, 1001, 2**32 - 1]),
        "refused": st.sampled_from(["", "no", "\ud800"]),
    }
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bedside=st.lists(told, max_size=3),
    stage=st.sampled_from(["canary", "ward", "withdrawn"]),
    version=st.sampled_from([0, 1, 2, 3, 2**52]),
)
def test_what_a_gateway_tells_of_models_cannot_stop_the_server_or_use_numbers_up(rig, bedside, stage, version):
    message = {"type": "status", "now_ms": 1, "boards": [], "link": None, "refused": {}, "spool": 0}
    message |= {"bedside": bedside, "model": {"version": version, "stage": stage}}
    rig.hospital.receive("gw-1", rig.gateways["gw-1"].session.seal(_Raw(json.dumps(message))))
    for name in ("ecg-beats", "activity"):
        newest = rig.hospital.releases.newest(name)
        assert newest is None or newest.version < 20_000
    rig.to_gateways.clear()


@pytest.fixture(scope="module")
def watched(rig):
    """A board under consent, and a beat of it that is taken."""
    board = rig.gateways["gw-1"].boards[101]
    rig.hospital.consents.accept(rig.consent(board, bytes(16)))
    rig.to_gateways.clear()
    return json.loads(
        ExplainedBeat(
            board=101, consent_id=bytes(16), boots=1, t_ms=1, received_ms=rig.now, model="ecg-beats", version=1,
            answer="V", probabilities=(50, 0, 950, 0), shares=(0,) * len(PLAYERS), numbers=(0,) * len(NUMBERS),
            beat=bytes(LEAD_LENGTH), usual=bytes(LEAD_LENGTH),
        ).model_dump_json()
    )  # fmt: skip


thousandths = st.sampled_from([0, 1, -1, 500, 1000, 2000, -2000, 4000, -4000]) | st.integers(-4000, 4000)
bent = st.one_of(
    st.tuples(st.just("numbers"), st.lists(thousandths, min_size=len(NUMBERS), max_size=len(NUMBERS))),
    st.tuples(st.just("shares"), st.lists(thousandths, min_size=len(PLAYERS), max_size=len(PLAYERS))),
    st.tuples(st.just("probabilities"), st.lists(thousandths, min_size=4, max_size=4)),
    st.tuples(
        st.sampled_from(["answer", "model", "beat", "boots", "t_ms", "received_ms", "version"]), edges | json_values
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(bent, max_size=3), t_ms=st.integers(0, 2**32 - 1))
def test_whatever_a_gateway_says_of_a_beat_is_refused_or_can_be_shown(rig, watched, changes, t_ms):
    message = watched | {"t_ms": t_ms} | dict(changes)
    rig.hospital.receive("gw-1", rig.gateways["gw-1"].session.seal(_Raw(json.dumps(message))))
    explained = rig.hospital.explained.newest(101, rig.now)
    if explained is not None:
        shown = json.loads(json.dumps(explained.whole(rig.now), allow_nan=False))
        assert shown["answer"] in "SVF"
        assert 0 <= shown["lead_points"] <= 100
        assert abs(shown["start_points"]) <= 102.5
        assert sum(r["points"] for r in shown["reasons"]) == pytest.approx(shown["lead_points"] - shown["start_points"])
        assert all(r["words"] for r in shown["reasons"])
    rig.to_gateways.clear()


ORDER = json.loads(
    ModelOrder(
        what="push", name="ecg-beats", signed_s=1_800_000_000, nonce=bytes(16), blob=b"TFL3" * 9, card="{}"
    ).model_dump_json()
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    what=st.sampled_from(["push", "rollback"]),
    name=st.sampled_from(["board", "ecg-beats", "weather"]),
    field=st.sampled_from(sorted(ORDER)),
    value=edges | json_values | st.sampled_from(["[1e999]", '{"name": "ecg-beats"}', "{" * 5000, "AAAAAFRGTDM="]),
)
def test_whatever_a_certified_person_orders_is_done_or_refused_in_one_way(rig, what, name, field, value):
    body = json.dumps(ORDER | {"what": what, "name": name, "signed_s": rig.now // 1000} | {field: value}).encode()
    with suppress(UplinkError, RefusedError):
        rig.hospital.releases.order(signed_by_a_person(body, ModelOrder))
    rig.to_gateways.clear()


def signed_by_a_person(body: bytes, kind: type[Order]) -> SignedOrder:
    person = PARTIES["releaser"]
    return SignedOrder(body=body, certificate=person.certificate, signature=person.sign(body, kind.CONTEXT))


FIRMWARE_ORDER = json.loads(
    FirmwareOrder(
        kind="unix-ecg", boards=(101,), signed_s=1_800_000_000, nonce=bytes(16), bundle=bytes(32)
    ).model_dump_json()
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(FIRMWARE_ORDER)), value=edges | json_values, bundle=st.binary(max_size=200))
def test_whatever_a_certified_person_orders_of_firmware_is_refused_in_one_way(rig, field, value, bundle):
    digest = urlsafe_b64encode(sha256(bundle).digest()).decode()
    body = json.dumps(FIRMWARE_ORDER | {"signed_s": rig.now // 1000, "bundle": digest} | {field: value}).encode()
    with pytest.raises((UplinkError, RefusedError)):
        rig.hospital.firmware.order(SignedFirmwareOrder(order=signed_by_a_person(body, FirmwareOrder), bundle=bundle))


FIRMWARE_POSTED = SignedFirmwareOrder(
    order=signed_by_a_person(json.dumps(FIRMWARE_ORDER).encode(), FirmwareOrder), bundle=b"PK"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations, cut=st.none() | st.floats(0, 1), where=st.sampled_from(["all", "body"]))
def test_a_bent_order_about_firmware_is_refused_in_one_way(rig, changes, cut, where):
    def post():
        if where == "all":
            return into(SignedFirmwareOrder, mutate(FIRMWARE_POSTED.model_dump_json().encode(), changes, cut))
        bent = FIRMWARE_POSTED.order.model_copy(update={"body": mutate(FIRMWARE_POSTED.order.body, changes, cut)})
        return FIRMWARE_POSTED.model_copy(update={"order": bent})

    with pytest.raises((UplinkError, RefusedError)):
        rig.hospital.firmware.order(post())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    base=st.sampled_from([b"", SIGNED, OPENING, SEALED]),
    changes=mutations,
    topic=st.sampled_from(["gw-1", "gw-9", "", "\n", "é"]),
)
def test_no_bytes_stop_the_server(rig, data, base, changes, topic):
    before = sum(rig.hospital.refused.values())
    rig.hospital.receive(topic, mutate(base, changes, None) + data if base else data)
    assert sum(rig.hospital.refused.values()) == before + 1
    rig.to_gateways.clear()
