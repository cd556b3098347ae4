"""How an identity says by what way, and to whom, its board speaks."""

import base64
import json

import pytest

from qepa_board.errors import BoardError
from qepa_board.keys.identity import parse_identity
from qepa_board.system import dock
from qepa_board.system.flash import Flash

IDENTITY = {
    "board": 7,
    "gateway": "gw-1",
    "fs_hz": 360,
    "rekey_s": 30,
    "end_key": "11" * 32,
    "cohort_key": "22" * 32,
    "model_root": "00000001" + "33" * 56,
}
BROKER = {"host": "broker.ward", "port": 8883}
DER, KEY = bytes(range(200)), bytes(range(90))


def pem(der: bytes, what: str = "CERTIFICATE") -> str:
    return f"-----BEGIN {what}-----\n{base64.encodebytes(der).decode()}-----END {what}-----\n"


def read(**changes):
    return parse_identity(json.dumps(IDENTITY | changes))


def refused(**changes) -> str:
    with pytest.raises(BoardError) as refusal:
        read(**changes)
    return str(refusal.value)


def test_mqtt_in_clear_is_the_default():
    identity = read(broker=BROKER)
    assert (identity.transport, identity.broker_tls) == ("mqtt", None)


def test_certificates_come_in_pem_or_hexadecimal():
    own = {"certificate": pem(DER), "key": pem(KEY, "EC PRIVATE KEY")}
    for ca in (DER.hex(), pem(DER)):
        assert read(broker=BROKER | {"tls": {"ca": ca}}).broker_tls == ([DER], "broker.ward", None, None)
    two = read(broker=BROKER | {"tls": {"ca": pem(KEY) + pem(DER), "name": "other", **own}})
    assert two.broker_tls == ([KEY, DER], "other", DER, KEY)


@pytest.mark.parametrize(
    ("tls", "field"),
    [
        ({}, "ca"), ([], "tls"), ("yes", "tls"), ({"ca": ""}, "ca"), ({"ca": "zz"}, "ca"), ({"ca": 5}, "ca"),
        ({"ca": "-----BEGIN CERTIFICATE"}, "ca"), ({"ca": "00", "name": ""}, "name"),
        ({"ca": "00", "certificate": "00"}, "certificate and key"), ({"ca": "00", "key": "00"}, "certificate and key"),
    ],
)  # fmt: skip
def test_settings_of_tls_that_do_not_fit_are_refused_not_left_out(tls, field):
    assert refused(broker=BROKER | {"tls": tls}) == "identity: " + field


def test_bluetooth_needs_no_broker():
    assert read(transport="ble").ble_passkey is None
    assert read(transport="ble", ble={"passkey": 0}).ble_passkey == 0


@pytest.mark.parametrize("passkey", [-1, 1_000_000, "123456", True, None, 1.5])
def test_a_passkey_has_six_digits(passkey):
    assert refused(transport="ble", ble={"passkey": passkey}) == "identity: passkey"


@pytest.mark.parametrize("transport", ["", "BLE", None, 1])
def test_an_unknown_transport_is_refused(transport):
    assert refused(broker=BROKER, transport=transport) == "identity: transport"
    assert refused(transport="ble", ble=[]) == "identity: ble"


@pytest.mark.parametrize(
    ("changes", "stays"), [({}, True), ({"board": 8, "end_key": "44" * 32}, False), ({"gateway": "gw-2"}, False)]
)
def test_bonds_and_kept_care_records_stay_with_board_and_gateway(tmp_path, monkeypatch, capsys, changes, stays):
    monkeypatch.setattr(dock, "Flash", lambda: Flash(str(tmp_path / "qepa")))
    dock.provision(json.dumps(IDENTITY | {"broker": BROKER}))
    flash = Flash(str(tmp_path / "qepa"))
    for name in ("bonds", "ring-00000000"):
        flash.write(name, b"something")
    dock.provision(json.dumps(IDENTITY | {"broker": BROKER} | changes))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"]
    kept = [name for name in flash.names() if name.startswith(("bonds", "ring"))]
    assert kept == (["bonds", "ring-00000000"] if stays else [])
