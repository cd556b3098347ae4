"""Services, characteristics and advertisement of a board on Bluetooth LE: PROTOCOL.md, section 14."""

import struct
from collections import namedtuple

from .errors import WireError

SERVICE = "c9a40001-8f1b-4e6d-9a57-2f3b6d1e70b4"
UP = "c9a40002-8f1b-4e6d-9a57-2f3b6d1e70b4"  # notify: fragments of frames up
DOWN = "c9a40003-8f1b-4e6d-9a57-2f3b6d1e70b4"  # write, write without response: fragments of frames down
INFO = "c9a40004-8f1b-4e6d-9a57-2f3b6d1e70b4"  # read

# Bluetooth SIG: Heart Rate Service 1.0
HEART_RATE = 0x180D
HEART_RATE_MEASUREMENT = 0x2A37
BODY_SENSOR_LOCATION = 0x2A38
CHEST = b"\x01"
_CONTACT_SUPPORTED = 0x04
_CONTACT = 0x02

VERSION = 1
INFO_FORMAT = "<BIHH"
Info = namedtuple("Info", ("version", "board", "mtu", "max_down"))


def encode_info(board: int, mtu: int, max_down: int) -> bytes:
    """Value of INFO: protocol version, board number, largest MTU and largest frame down that this board takes."""
    return struct.pack(INFO_FORMAT, VERSION, board, mtu, max_down)


def decode_info(data: bytes) -> Info:
    """Inverse of :func:`encode_info`; raises WireError with reason payload or version."""
    if len(data) != struct.calcsize(INFO_FORMAT):
        raise WireError("payload", "%d bytes of info" % len(data))
    info = Info(*struct.unpack(INFO_FORMAT, data))
    if info.version != VERSION:
        raise WireError("version", "%d" % info.version)
    return info


def advertisement() -> bytes:
    """Advertising data (Core 5.4, vol. 3, part C, 11): flags and SERVICE, and nothing that tells boards apart."""
    return b"\x02\x01\x06\x11\x07" + bytes(reversed(bytes.fromhex(SERVICE.replace("-", ""))))


def heart_rate_measurement(hr_bpm: int, contact: bool) -> bytes:
    """Heart Rate Measurement with 8-bit value (Heart Rate Service 1.0, 3.1): flags, beats a minute (at most 255)."""
    return bytes([_CONTACT_SUPPORTED | (_CONTACT if contact else 0), min(hr_bpm, 255)])
