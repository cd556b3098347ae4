"""Consents that end, alerts that start and end once, models that never go back, and what the dock may do."""

import json

import pyhsslms.pyhsslms as hsslms
import pytest

from qepa_board.errors import BoardError
from qepa_board.keys.counters import Counters
from qepa_board.keys.identity import parse_identity
from qepa_board.learning.models import ModelStore
from qepa_board.learning.network import ModelShape
from qepa_board.streams.alerts import LEAD_OFF_AFTER_MS, LEAD_ON_AFTER_MS, AlertEdges
from qepa_board.streams.care import CareStream
from qepa_board.system import dock
from qepa_board.system.flash import Flash
from qepa_wire.errors import WireError
from qepa_wire.keys import care_key
from qepa_wire.model import CONTEXT, HIDDEN, SOFTMAX, Model, encode_model, encode_release, model_words
from qepa_wire.payloads import (
    ALERT_ASYSTOLE,
    ALERT_LEAD_OFF,
    Label,
    encode_grant,
    encode_labels,
    encode_revoke,
    encode_waves_wanted,
)

BOARD = 7
END_KEY = bytes(range(32))
CONSENT = b"consent-number-1"
OTHER = b"consent-number-2"
SHAPE = ModelShape(classes=2, features=2)
IDENTITY = {
    "board": BOARD,
    "gateway": "gw-1",
    "broker": {"host": "127.0.0.1", "port": 1883},
    "fs_hz": 360,
    "rekey_s": 30,
    "end_key": "11" * 32,
    "cohort_key": "22" * 32,
    "model_root": "00000001" + "33" * 56,
}


def grant(consent=CONSENT, valid_s=10):
    return encode_grant(care_key(END_KEY, consent), BOARD, consent, valid_s)


def reason(call, *args):
    with pytest.raises((WireError, BoardError)) as refusal:
        call(*args)
    return refusal.value.reason


def test_waveforms_are_wanted_for_a_while_under_a_consent_alone(flash):
    def wanted(seconds, consent=CONSENT):
        return encode_waves_wanted(consent, seconds)

    care = CareStream(BOARD, END_KEY, flash)
    assert reason(care.want_waves, wanted(60), 0) == "consent"
    care.grant(grant(valid_s=1000), 0)
    assert not care.wants_waves(0)
    care.want_waves(wanted(60), 5000)
    assert care.wants_waves(64_999)
    assert not care.wants_waves(65_000)
    assert reason(care.want_waves, wanted(60, OTHER), 5000) == "consent"
    assert reason(care.want_waves, b"x", 5000) == "payload"
    assert care.wants_waves(64_999)
    care.want_waves(wanted(0), 6000)
    assert not care.wants_waves(6000)
    care.want_waves(wanted(60), 6000)
    care.grant(grant(OTHER), 7000)  # another consent: asked for anew
    assert not care.wants_waves(7000)
    care.want_waves(wanted(60, OTHER), 7000)
    care.revoke(encode_revoke(OTHER))
    assert not care.wants_waves(7000)


def test_a_consent_ends_by_time_and_never_starts_again(flash):
    care = CareStream(BOARD, END_KEY, flash)
    assert not care.active
    care.grant(grant(), 1000)
    assert (care.active, care.key) == (True, care_key(END_KEY, CONSENT))
    care.grant(grant(), 9000)  # repeated: not prolonged
    assert not care.expire(10999)
    assert care.expire(11000)
    assert care.key is None
    assert reason(care.grant, grant(), 12000) == "consent"
    assert reason(CareStream(BOARD, END_KEY, flash).grant, grant(), 0) == "consent"


def test_a_withdrawal_ends_at_once_even_before_its_grant_arrives(flash):
    care = CareStream(BOARD, END_KEY, flash)
    care.grant(grant(), 0)
    care.revoke(encode_revoke(OTHER))
    assert care.active
    care.revoke(encode_revoke(CONSENT))
    assert care.key is None
    assert reason(care.grant, grant(OTHER), 0) == "consent"
    assert reason(care.revoke, b"short") == "payload"


def test_a_forged_grant_and_labels_without_consent_are_refused(flash):
    care = CareStream(BOARD, END_KEY, flash)
    forged = bytearray(grant())
    forged[16] ^= 1
    assert reason(care.grant, bytes(forged), 0) == "mac"
    labels = encode_labels(care_key(END_KEY, CONSENT), CONSENT, BOARD, 3, [Label(1, 100, 2)])
    assert reason(care.labels, 3, labels, 1) == "consent"
    care.grant(grant(), 0)
    assert care.labels(3, labels, 1) == [Label(1, 100, 2)]
    assert reason(care.labels, 3, labels, 2) == "boots"
    assert reason(care.labels, 4, labels, 1) == "mac"


def feed(alerts, t_ms, asystole, lead_off):
    changes = alerts.edges(t_ms, {ALERT_ASYSTOLE: asystole, ALERT_LEAD_OFF: lead_off})
    for change in changes:
        alerts.confirm(*change)
    return changes


def test_asystole_starts_and_ends_once_and_is_not_guessed(flash):
    alerts = AlertEdges(flash)
    assert [feed(alerts, t, state, False) for t, state in enumerate((None, False, True, True, None))] == [
        [], [], [(ALERT_ASYSTOLE, True)], [], [],
    ]  # fmt: skip
    rebooted = AlertEdges(flash)
    assert feed(rebooted, 0, None, False) == []
    assert feed(rebooted, 1, False, True) == []  # no signal: no telling
    assert feed(rebooted, 2, False, False) == [(ALERT_ASYSTOLE, False)]


def test_a_chattering_electrode_is_one_alert(flash):
    alerts = AlertEdges(flash)
    assert [feed(alerts, t, False, t % 200 == 0) for t in range(0, 5000, 100)] == [[]] * 50
    assert feed(alerts, 6000, False, True) == []
    assert feed(alerts, 6000 + LEAD_OFF_AFTER_MS, False, True) == [(ALERT_LEAD_OFF, True)]
    assert feed(alerts, 7000, False, False) == []
    assert feed(alerts, 7000 + LEAD_ON_AFTER_MS, False, False) == [(ALERT_LEAD_OFF, False)]


@pytest.fixture(scope="module")
def hospital():
    return hsslms.HssPrivateKey(levels=1, lms_type=hsslms.lms_sha256_m32_h5, lmots_type=hsslms.lmots_sha256_n32_w4)


def release(hospital, version, features=2, hidden=0, classes=2, fraction_bits=12, word=None):
    kind = HIDDEN if hidden else SOFTMAX
    words = [version if word is None else word] * model_words(kind, features, hidden, classes)
    blob = encode_model(Model(version, kind, features, hidden, classes, fraction_bits, words))
    return encode_release(blob, hospital.sign(CONTEXT + blob))


def test_models_are_signed_fit_and_rise(flash, hospital):
    root = hospital.publicKey().serialize()
    counters = Counters.create(flash)
    store = ModelStore(flash, counters, root, SHAPE)
    assert store.version == 0
    second = release(hospital, 2)
    assert store.accept(second)
    assert not store.accept(second)
    assert list(store.words) == [2] * 6
    assert reason(store.accept, release(hospital, 1)) == "downgrade"
    assert reason(store.accept, release(hospital, 2)) == "downgrade"  # same version, other signature
    assert reason(store.accept, release(hospital, 3, features=3)) == "shape"
    assert reason(store.accept, second[:-1] + b"?") == "signature"
    assert ModelStore(flash, counters, root, SHAPE).version == 2
    assert reason(store.accept, release(hospital, 3, classes=3)) == "shape"
    assert reason(store.accept, release(hospital, 3, fraction_bits=11)) == "shape"
    assert reason(store.accept, release(hospital, 3, word=32768)) == "shape"
    assert reason(store.accept, release(hospital, 3, word=-32768)) == "shape"
    assert reason(store.accept, release(hospital, 3, hidden=32)) == "shape"
    assert (store.version, store.shape.hidden) == (2, 0)
    flash.files["model"] = flash.files["model"][:-1]
    lost = ModelStore(flash, Counters.load(flash), root, SHAPE)
    assert lost.version == 0
    assert reason(lost.accept, release(hospital, 1)) == "downgrade"
    assert lost.accept(second)


def test_a_model_that_was_bent_cut_or_signed_by_others_is_never_used(flash, hospital):
    root = hospital.publicKey().serialize()
    store = ModelStore(flash, Counters.create(flash), root, SHAPE)
    store.accept(release(hospital, 2))
    good = release(hospital, 3)
    stranger = hsslms.HssPrivateKey(levels=1, lms_type=hsslms.lms_sha256_m32_h5, lmots_type=hsslms.lmots_sha256_n32_w4)
    bad = [release(stranger, 3), b"\x1c\x00\x00\x00TFL3" + bytes(2000), b"", encode_release(good[2:40], good[-1292:])]
    bad += [good[:length] for length in range(0, len(good), 97)]
    for at in (0, 2, 6, 12, 30, 45, 60, len(good) // 2, len(good) - 1):
        bad.append(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
    for each in bad:
        assert reason(store.accept, each) in ("signature", "model", "shape", "truncated", "lms")
        assert (store.version, list(store.words)) == (2, [2] * 6)
    assert ModelStore(flash, Counters.load(flash), root, SHAPE).version == 2
    assert store.accept(good)


def test_a_model_may_gain_and_lose_its_hidden_layer(flash, hospital):
    root = hospital.publicKey().serialize()
    store = ModelStore(flash, Counters.create(flash), root, SHAPE)
    store.accept(release(hospital, 1))
    assert store.accept(release(hospital, 2, hidden=3))
    again = ModelStore(flash, Counters.load(flash), root, SHAPE)
    for held in (store, again):
        assert (held.version, held.shape.hidden, held.shape.words, list(held.words)) == (2, 3, 17, [2] * 17)
    assert again.accept(release(hospital, 3))
    assert (again.shape.hidden, len(again.words)) == (0, 6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("board", -1), ("board", True), ("board", 1 << 32), ("gateway", "a/b"), ("gateway", ""), ("broker", {}),
        ("broker", {"host": "x", "port": 0}), ("fs_hz", 100), ("rekey_s", 0), ("end_key", "11"), ("end_key", None),
        ("cohort_key", "zz" * 32), ("model_root", ""),
        ("suite", "rc4"), ("suite", None), ("patient_boards", 0), ("patient_boards", 65),
    ],
)  # fmt: skip
def test_identities_that_do_not_fit_name_the_field_and_no_value(field, value):
    with pytest.raises(BoardError) as refusal:
        parse_identity(json.dumps(IDENTITY | {field: value}))
    assert refusal.value.reason == "identity"
    assert "11" * 8 not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"])
def test_what_is_no_identity_is_refused(text):
    assert reason(parse_identity, text) == "identity"


@pytest.fixture
def cradle(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dock, "Flash", lambda: Flash(str(tmp_path / "qepa")))

    def call(function, *args):
        getattr(dock, function)(*args)
        (line,) = capsys.readouterr().out.splitlines()
        return json.loads(line)

    return call


def test_provisioning_never_sets_counters_back(cradle, tmp_path):
    assert cradle("status")["provisioned"] is False
    assert cradle("provision", json.dumps(IDENTITY)) == {"ok": True, "board": BOARD, "reset": False}
    flash = Flash(str(tmp_path / "qepa"))
    Counters.load(flash).reserve_round(1, 9)
    floors = IDENTITY | {"floors": {"round": 1}}
    assert cradle("provision", json.dumps(floors)) == {"ok": True, "board": BOARD, "reset": True}
    assert cradle("status")["round"] == 9
    flash.remove("counters")
    assert cradle("status")["provisioned"] is False
    assert cradle("provision", json.dumps(IDENTITY))["reason"] == "counters"
    assert cradle("provision", json.dumps(floors))["ok"]
    assert cradle("status")["round"] == 1
    flash.remove("counters")
    assert cradle("provision", json.dumps(IDENTITY | {"end_key": "44" * 32}))["ok"]


@pytest.mark.parametrize("pads", ["", "00", "zz" * 48, "00" * 47, "00" * 49])
def test_half_pads_are_refused(cradle, pads):
    answer = cradle("load", pads)
    assert (answer["ok"], answer["reason"]) == (False, "pads")


def test_pads_are_counted(cradle):
    cradle("provision", json.dumps(IDENTITY))
    pads = b"".join(bytes([n]) * 48 for n in range(1, 4)).hex()
    assert cradle("load", pads) == {"ok": True, "loaded": 3, "known": 0, "pads": 3}
    assert cradle("load", pads) == {"ok": True, "loaded": 0, "known": 3, "pads": 3}
    assert cradle("status")["pads"] == 3


def test_a_move_to_another_gateway_drops_the_keys_that_only_the_old_one_shares(cradle, tmp_path):
    cradle("provision", json.dumps(IDENTITY))
    cradle("load", (b"p" * 48).hex())
    assert cradle("load_blocks", (b"b" * 80).hex(), 64) == {"ok": True, "loaded": 1, "known": 0, "block_bytes": 64}
    status = cradle("status")
    assert (status["pads"], status["blocks"], status["block_bytes"]) == (1, 1, 64)
    cradle("provision", json.dumps(IDENTITY | {"rekey_s": 60}))
    assert cradle("status")["blocks"] == 1
    cradle("provision", json.dumps(IDENTITY | {"gateway": "gw-2"}))
    status = cradle("status")
    assert (status["pads"], status["blocks"]) == (0, 0)


@pytest.mark.parametrize(("blocks", "size"), [("", 64), ("zz" * 80, 64), ("00" * 79, 64), ("00" * 26, 10)])
def test_half_blocks_are_refused(cradle, blocks, size):
    answer = cradle("load_blocks", blocks, size)
    assert (answer["ok"], answer["reason"]) == (False, "blocks")


def test_a_file_is_old_or_new_when_writing_fails(tmp_path, monkeypatch):
    root = str(tmp_path / "qepa")
    flash = Flash(root)
    flash.write("file", b"old")

    def dies(*_):
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", dies)
        assert reason(flash.write, "file", b"new") == "flash"
    assert flash.read("file") == b"old"
    assert flash.names() == ["file"]  # nothing half written takes the room of what comes next
    (tmp_path / "qepa" / "file.new").write_bytes(b"cut off")
    assert Flash(root).names() == ["file"]
