"""Who this board is, as the dock provisioned it: identity.json."""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import json
from binascii import a2b_base64

from qepa_wire.keys import KEY_BYTES

from ..errors import BoardError

FILE = "identity.json"
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"
_HSS_PUBLIC_BYTES = 60
_MAX_BOARD = 0xFFFFFFFF


class Identity:
    """A checked identity.json. Raises BoardError("identity") naming the field that does not fit, never its value."""

    def __init__(self, record):
        if not isinstance(record, dict):
            raise BoardError("identity", "not an object")
        self.board = _integer(record, "board", 0, _MAX_BOARD)
        self.gateway = _text(record, "gateway", 32)
        if any(c not in _NAME for c in self.gateway) or self.gateway[0] == "-":
            raise BoardError("identity", "gateway")
        self.transport = record.get("transport", "mqtt")
        if self.transport == "mqtt":
            self._read_broker(record.get("broker"))
        elif self.transport == "ble":
            ble = record.get("ble", {})
            if not isinstance(ble, dict):
                raise BoardError("identity", "ble")
            # What a central must type to pair; without it pairing is open to whoever is there in that moment.
            self.ble_passkey = _integer(ble, "passkey", 0, 999999) if "passkey" in ble else None
        else:
            raise BoardError("identity", "transport")
        self.fs_hz = _integer(record, "fs_hz", 200, 500)
        self.mains_hz = _integer(record, "mains_hz", 50, 60, 50)
        self.rekey_s = _integer(record, "rekey_s", 1, 86400 * 7)
        self.patient_boards = _integer(record, "patient_boards", 1, 64, 1)  # how many this patient wears
        self.suite = record.get("suite", "aes256")
        if self.suite not in ("aes256", "otp"):
            raise BoardError("identity", "suite")
        self.end_key = _hex(record, "end_key", KEY_BYTES)
        self.cohort_key = _hex(record, "cohort_key", KEY_BYTES)
        self.model_root = _hex(record, "model_root", _HSS_PUBLIC_BYTES)
        self.firmware_root = _hex(record, "firmware_root", _HSS_PUBLIC_BYTES) if "firmware_root" in record else None

    def _read_broker(self, broker):
        if not isinstance(broker, dict):
            raise BoardError("identity", "broker")
        self.broker_host = _text(broker, "host", 255)
        self.broker_port = _integer(broker, "port", 1, 65535)
        self.broker_user = _text(broker, "user", 64) if "user" in broker else None
        self.broker_password = _text(broker, "password", 128) if "password" in broker else None
        tls = broker.get("tls")
        self.broker_tls = None  # (DER of CAs, name, DER of own certificate or None, DER of its key or None)
        if tls is not None:
            if not isinstance(tls, dict):
                raise BoardError("identity", "tls")
            own = ("certificate" in tls) + ("key" in tls)
            if own == 1:
                raise BoardError("identity", "certificate and key")
            name = _text(tls, "name", 255) if "name" in tls else self.broker_host
            certificate = _ders(tls, "certificate")[0] if own else None
            self.broker_tls = (_ders(tls, "ca"), name, certificate, _ders(tls, "key")[0] if own else None)


def _ders(record, name):
    """Certificates or keys in DER, from PEM or from hexadecimal DER; at least one."""
    text = _text(record, name, 8192)
    try:
        if "-----BEGIN" not in text:
            return [bytes.fromhex(text)]
        parts = []
        for part in text.split("-----BEGIN")[1:]:
            parts.append(a2b_base64(part.split("-----")[1]))
        return parts
    except (ValueError, IndexError):
        raise BoardError("identity", name)


def _integer(record, name, low, high, default=None):
    value = record.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BoardError("identity", name)
    return value


def _text(record, name, longest):
    value = record.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BoardError("identity", name)
    return value


def _hex(record, name, size):
    value = record.get(name)
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError, AttributeError):
        raise BoardError("identity", name)
    if len(data) != size:
        raise BoardError("identity", name)
    return data


def parse_identity(text):
    """Identity in JSON ``text`` (str or bytes)."""
    try:
        record = json.loads(text)
    except (ValueError, TypeError):
        raise BoardError("identity", "not JSON")
    return Identity(record)


def load_identity(flash):
    """Identity in ``flash``, or None if the board was never provisioned."""
    data = flash.read(FILE)
    return None if data is None else parse_identity(data)
