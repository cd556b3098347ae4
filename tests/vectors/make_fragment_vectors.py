"""Writes fragments.json from PROTOCOL.md, section 14, without the code it checks."""

import json
from pathlib import Path

OUT = Path(__file__).with_name("fragments.json")
SERVICE = "c9a40001-8f1b-4e6d-9a57-2f3b6d1e70b4"


def fragments(frame: bytes, mtu: int, number: int) -> list[str]:
    """Hexadecimal fragments, the first of them with ``number``."""
    room = mtu - 3 - 1
    parts = [frame[at : at + room] for at in range(0, len(frame), room)]
    out = []
    for index, part in enumerate(parts):
        first, last = index == 0, index == len(parts) - 1
        out.append(f"{first << 7 | last << 6 | (number + index) % 64:02x}" + part.hex())
    return out


def case(size: int, mtu: int, after: int = 0) -> dict[str, object]:
    frame = bytes(n * 7 % 256 for n in range(size))
    return {"mtu": mtu, "after": after, "frame": frame.hex(), "fragments": fragments(frame, mtu, 1 + after)}


def text() -> str:
    board, mtu, max_down = 0x0102A3B4, 247, 8192
    info = bytes([1]) + board.to_bytes(4, "little") + mtu.to_bytes(2, "little") + max_down.to_bytes(2, "little")
    vectors = {
        "fragments": [case(1, 23), case(19, 23), case(20, 23), case(38, 23, 62), case(100, 50), case(487, 247, 63)],
        "info": {"fields": [board, mtu, max_down], "bytes": info.hex()},
        "advertisement": "0201061107" + bytes.fromhex(SERVICE.replace("-", ""))[::-1].hex(),
    }
    return json.dumps(vectors, indent=1) + "\n"


if __name__ == "__main__":
    OUT.write_text(text())
