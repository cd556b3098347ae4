"""Make wire.json: golden vectors of the wire, by a second implementation written from PROTOCOL.md.

    python tests/vectors/make_wire_vectors.py

It imports nothing of ours, so that a mistake in qepa_wire does not make the vector that would have caught it.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import pyhsslms.pyhsslms as hsslms
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

OUT = Path(__file__).with_name("wire.json")

LINK, END, COHORT = (hashlib.sha256(name).digest() for name in (b"link", b"end", b"cohort"))
CONSENT = hashlib.sha256(b"consent").digest()[:16]
BOARD = 0x01020304


def prf(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def block(domain: int, stream: int, cell: int, round_: int, index: int) -> bytes:
    fields = ((domain, 1), (stream, 1), (cell, 2), (round_, 8), (index, 4))
    return b"".join(value.to_bytes(size, "little") for value, size in fields)


def f(key: bytes, domain: int, stream: int, cell: int, round_: int, n_bytes: int) -> bytes:
    out = b""
    for index in range(-(-n_bytes // 16)):
        aes = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305  one block
        out += aes.update(block(domain, stream, cell, round_, index))
    return out[:n_bytes]


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def checks(values: list[int], stream: int, round_: int) -> list[int]:
    a = f(prf(COHORT, b"qepa/1/cohort/check"), 2, stream, 0, round_, 16 * len(values))
    return [
        sum(int.from_bytes(a[16 * j + 8 * k : 16 * j + 8 * k + 8], "little") * m for j, m in enumerate(values)) % 2**64
        for k in (0, 1)
    ]


def seal(values: list[int], masks: list[bytes], stream: int, round_: int) -> bytes:
    n = len(values)
    out = b""
    for j, m in enumerate(values):
        word = m + sum(int.from_bytes(mask[4 * j : 4 * j + 4], "little") for mask in masks)
        out += (word % 2**32).to_bytes(4, "little")
    for k, check in enumerate(checks(values, stream, round_)):
        at = 4 * n + 8 * k
        word = check + sum(int.from_bytes(mask[at : at + 8], "little") for mask in masks)
        out += (word % 2**64).to_bytes(8, "little")
    return out


def frame(type_: int, seq: int, payload: bytes, *, board: int = BOARD, epoch: int = 7, suite: int = 1) -> bytes:
    way = b"down" if type_ & 0x40 else b"up"
    body = bytes([0x51, 1, type_, suite]) + struct.pack("<IIII", board, epoch, seq, len(payload)) + payload
    return body + prf(prf(LINK, b"qepa/1/link/mac/" + way), body)[:16]


def care_key() -> bytes:
    return prf(prf(END, b"qepa/1/end/care"), CONSENT)


def care_sealed(domain: int, seq: int, plain: bytes) -> bytes:
    body = CONSENT + xor(plain, f(prf(care_key(), b"qepa/1/care/encrypt"), domain, 3, 0, seq, len(plain)))
    return body + prf(prf(care_key(), b"qepa/1/care/mac"), struct.pack("<BII", domain, BOARD, seq) + body)[:16]


def care_plain(t_ms: int, boots: int, flags: int, beat_class: int, beats: int, model: int, measures: list) -> bytes:
    head = struct.pack("<IHBBIHBB", t_ms, boots, flags, beat_class, beats, model, len(measures), 0)
    return head + b"".join(struct.pack("<BBh", *measure) for measure in measures)


def wave_plain(
    channel: int, axes: int, fs_hz: int, boots: int, first: int, peaks: list[int], samples: list[int]
) -> bytes:
    head = struct.pack("<BBHHIBB", channel, axes, fs_hz, boots, first, len(peaks), 0)
    return head + struct.pack(f"<{len(peaks)}I", *peaks) + struct.pack(f"<{len(samples)}h", *samples)


def wave_fields(
    channel: int, axes: int, fs_hz: int, boots: int, first: int, peaks: list[int], samples: list[int]
) -> list:
    return [channel, axes, fs_hz, boots, first, peaks, struct.pack(f"<{len(samples)}h", *samples).hex()]


def grant(valid_s: int) -> bytes:
    tag = prf(prf(care_key(), b"qepa/1/care/grant"), struct.pack("<II", BOARD, valid_s) + CONSENT)[:16]
    return CONSENT + struct.pack("<I", valid_s) + tag


def derivations() -> list[dict]:
    labels = ["link/mask", "link/mac/up", "link/mac/down", "link/alert", "link/ratchet", "end/mask", "end/care"]
    labels += ["care/encrypt", "care/mac", "care/grant", "pair/mask", "cohort/check"]
    return [
        {"key": key.hex(), "label": "qepa/1/" + label, "out": prf(key, b"qepa/1/" + label.encode()).hex()}
        for key in (bytes(32), LINK)
        for label in labels
    ]


def ratchets() -> list[dict]:
    out, key = [], LINK
    for step in range(101):
        if step in (0, 1, 2, 100):
            out.append({"key": LINK.hex(), "steps": step, "out": key.hex()})
        key = prf(key, b"qepa/1/link/ratchet")
    return out


def keystreams() -> list[dict]:
    uses = [(1, 1, 0, 0, 16), (1, 2, 0, 1, 33), (1, 2, 517, 2**32 + 5, 48), (2, 1, 0, 3, 64)]
    uses += [
        (3, 3, 0, 2**32 - 1, 16),
        (4, 3, 0, 9, 7),
        (5, 4, 0, 10, 10),
        (6, 3, 0, 11, 40),
        (1, 1, 65535, 2**64 - 1, 1),
    ]
    return [
        {
            "key": LINK.hex(),
            "use": list(use[:4]),
            "blocks": b"".join(block(*use[:4], index) for index in range(-(-use[4] // 16))).hex(),
            "out": f(LINK, *use).hex(),
        }
        for use in uses
    ]


def sealed() -> list[dict]:
    top = 2**31 - 1
    pseudo = [int.from_bytes(hashlib.sha256(struct.pack("<I", i)).digest()[:3], "little") - 2**23 for i in range(240)]
    cases = [
        ("one", [1], 1, 1),
        ("lowest", [-top], 1, 2),
        ("extremes and zeros", [top, -top, 0, 0, -1, 1, top, -top] * 2, 2, 3),
        ("72 words", pseudo[:72], 1, 2**40 + 1),
        ("240 words", pseudo, 2, 2**64 - 1),
    ]
    out = []
    for name, values, stream, round_ in cases:
        size = 4 * len(values) + 16
        link = f(prf(LINK, b"qepa/1/link/mask"), 1, stream, 0, round_, size)
        end = f(prf(END, b"qepa/1/end/mask"), 1, stream, 0, round_, size)
        case = {"name": name, "values": values, "stream": stream, "round": round_}
        case["checks"] = struct.pack("<QQ", *checks(values, stream, round_)).hex()
        if len(values) <= 16:
            case["link_mask"], case["end_mask"] = link.hex(), end.hex()
        case["sealed"] = seal(values, [link, end], stream, round_).hex()
        out.append(case)
    return out


def blob(
    version: int, kind: int, features: int, hidden: int, classes: int, fraction_bits: int, words: Iterable[int]
) -> bytes:
    signed = [word.to_bytes(4, "little", signed=True) for word in words]
    head = b"QM" + bytes([1, kind]) + version.to_bytes(4, "little")
    head += bytes([features, classes, fraction_bits, hidden])
    return head + len(signed).to_bytes(2, "little") + b"".join(signed)


def models() -> list[dict]:
    shapes = [
        (1, 1, 1, 0, 2, 0, [0, -1, 2**31 - 1, -(2**31)]),
        (2**32 - 1, 1, 47, 0, 5, 24, range(-120, 120)),
        (2, 2, 17, 10, 4, 12, range(-32768, 32768, 293)),
    ]
    return [
        {"fields": [*shape[:6], list(shape[6])], "blob": blob(*shape).hex(), "release": _release(blob(*shape)).hex()}
        for shape in shapes
    ]


def _release(model: bytes) -> bytes:
    return len(model).to_bytes(2, "little") + model + b"signature"


def payloads() -> dict[str, dict]:
    """Fields and bytes of one payload of each type; seq is 0x01000000 + type for those it is part of."""
    vector = seal([5, -6], [bytes(24)], 1, 8)
    measures = [
        (1, 98, 72),
        (4, 90, 975),
        (6, 100, 3321),
        (3, 2, -32768),
        (11, 100, -12),
        (200, 255, -32768),
        (201, 7, -5),
    ]
    care = (123456, 3, 1, 255, 140, 65535, measures)
    labels = [(3, 36000, 0), (3, 36288, 2), (65535, 2**32 - 1, 4)]
    alert = (654321, 3, 2, 1, -300)
    streams = [(1, 72, 25000, 4096, 0, 0, 0), (2, 240, 65536, 1 << 20, 1, 2304, 2**32 - 1)]
    ecg = (1, 1, 360, 3, 2**32 - 361, [2**32 - 700, 2**32 - 400], [0, 1, -1, 32767, -32768, 800])
    moves = (2, 3, 104, 65535, 0, [], [3, -4, 1000, 2, -5, 998])
    hello = (bytes(range(16)), 4096, 3, 17, 12, 0x0102, 875, 6, 2)
    blocks = [bytes(range(16)), bytes(range(16, 32))]
    held = [(blocks[0], 42), (blocks[1], 2**32 - 1)]
    return {
        "hello": {
            "type": 0x01,
            "fields": [hello[0].hex(), *hello[1:]],
            "bytes": (hello[0] + struct.pack("<HHIHHHBB", *hello[1:])).hex(),
        },
        "vector": {
            "type": 0x02,
            "fields": [2**33 + 8, 1, 17, 2, vector.hex()],
            "bytes": (struct.pack("<QBBHI", 2**33 + 8, 1, 0, 2, 17) + vector).hex(),
        },
        "care": {
            "type": 0x03,
            "fields": [*care[:-1], [list(measure) for measure in measures]],
            "bytes": care_sealed(3, 0x01000003, care_plain(*care)).hex(),
        },
        "alert": {
            "type": 0x04,
            "fields": list(alert),
            "bytes": xor(
                struct.pack("<IHBBh", *alert), f(prf(LINK, b"qepa/1/link/alert"), 5, 4, 0, 0x01000004, 10)
            ).hex(),
        },
        "ack": {"type": 0x41, "fields": [0, 1, 2**32 - 1], "bytes": struct.pack("<III", 0, 1, 2**32 - 1).hex()},
        "round": {
            "type": 0x42,
            "fields": [2**33 + 8, 17, 30000, 2047, [list(stream) for stream in streams]],
            "bytes": (
                struct.pack("<QIIHB", 2**33 + 8, 17, 30000, 2047, 2)
                + b"".join(struct.pack("<BHIIBII", *stream) for stream in streams)
            ).hex(),
        },
        "model": {"type": 0x43, "fields": [], "bytes": _release(blob(1, 1, 1, 0, 2, 0, [0, -1, 5, -5])).hex()},
        "grant": {"type": 0x44, "fields": [3600], "bytes": grant(3600).hex()},
        "revoke": {"type": 0x45, "fields": [CONSENT.hex()], "bytes": CONSENT.hex()},
        "labels": {
            "type": 0x46,
            "fields": [list(label) for label in labels],
            "bytes": care_sealed(4, 0x01000046, b"".join(struct.pack("<HIB", *label) for label in labels)).hex(),
        },
        "pads": {"type": 0x05, "fields": [key_id.hex() for key_id in blocks], "bytes": b"".join(blocks).hex()},
        "held": {
            "type": 0x47,
            "fields": [[key_id.hex(), used] for key_id, used in held],
            "bytes": b"".join(key_id + struct.pack("<I", used) for key_id, used in held).hex(),
        },
        "rekey": {"type": 0x48, "fields": [30, 2**32 - 1], "bytes": struct.pack("<II", 30, 2**32 - 1).hex()},
        "wave": {
            "type": 0x07,
            "fields": wave_fields(*ecg),
            "bytes": care_sealed(6, 0x01000007, wave_plain(*ecg)).hex(),
        },
        "wave of three axes": {
            "type": 0x07,
            "fields": wave_fields(*moves),
            "bytes": care_sealed(6, 0x01000007, wave_plain(*moves)).hex(),
        },
        "wanted": {"type": 0x4B, "fields": [CONSENT.hex(), 300], "bytes": (CONSENT + struct.pack("<H", 300)).hex()},
    }


def frames() -> list[dict]:
    out = []
    for name, payload in payloads().items():
        seq = 0x01000000 + payload["type"]
        whole = frame(payload["type"], seq, bytes.fromhex(payload["bytes"]))
        out.append({"name": name, "type": payload["type"], "seq": seq, "frame": whole.hex()})
    return out


def refused_frames() -> list[dict]:
    good = frame(0x04, 5, b"payload")

    def changed(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    cases = {
        "truncated": good[:35],
        "magic": changed(0, 0x50),
        "version": changed(1, 2),
        "type": frame(0x41, 5, bytes(4)),  # down, where up is expected
        "suite": frame(0x01, 5, b"payload", suite=2),  # no HELLO under one-time pads: it names the key
        "length": good + b"\0",
        "mac": changed(len(good) - 1, good[-1] ^ 1),
    }
    return [{"reason": reason, "frame": data.hex()} for reason, data in cases.items()]


def refused_payloads() -> list[dict]:
    def stream(number: int) -> bytes:
        return struct.pack("<BHIIBII", number, 72, 1, 1, 0, 0, 0)

    hello = bytes(16) + struct.pack("<HHIHHHBB", 4097, 0, 0, 0, 0, 1000, 0, 0)
    order = struct.pack("<QIIH", 1, 1, 1, 1)
    vector = struct.pack("<QBBHI", 1, 1, 0, 1, 1) + bytes(20)
    cases = [
        ("hello", hello),
        ("hello", hello[:16] + bytes(12) + struct.pack("<HBB", 1001, 0, 0)),
        ("hello", hello[:16] + bytes(12) + struct.pack("<HBB", 1000, 7, 0)),
        ("hello", hello[:16] + bytes(12) + struct.pack("<HBB", 1000, 0, 3)),
        ("hello", hello[:16] + bytes(15)),
        ("vector", vector + b"\0"),
        ("vector", vector[:-1]),
        ("vector", vector[:9] + b"\1" + vector[10:]),
        ("vector", struct.pack("<QBBHI", 1, 1, 0, 0, 1) + bytes(16)),
        ("ack", b""),
        ("ack", bytes(5)),
        ("ack", bytes(4 * 65)),
        ("round", order + b"\0"),
        ("round", order + b"\2" + stream(1) + stream(1)),
        ("round", order + b"\5" + b"".join(stream(i) for i in range(1, 6))),
        ("round", order + b"\2" + stream(1)),
        ("revoke", bytes(15)),
        ("pads", bytes(15)),
        ("pads", bytes(32)),
        ("pads", b"".join(bytes([i]) * 16 for i in range(33))),
        ("held", bytes(19)),
        ("held", bytes(33 * 20)),
        ("rekey", bytes(8)),
        ("rekey", struct.pack("<II", 30, 0)),
        ("rekey", struct.pack("<IIB", 30, 30, 0)),
        ("wanted", bytes(17)),
        ("wanted", bytes(19)),
        *(("wave", care_sealed(6, 0x01000007, plain)) for plain in refused_waves()),
    ]
    return [{"decoder": decoder, "bytes": data.hex()} for decoder, data in cases]


def refused_waves() -> list[bytes]:
    good = wave_plain(1, 1, 360, 3, 900, [100, 200], [1, 2])
    return [
        b"",
        good[:11],
        good[:-1],
        good[:-4],  # no samples
        good[:11] + b"\1" + good[12:],  # zero
        wave_plain(0, 1, 360, 3, 0, [], [1]),
        wave_plain(3, 1, 360, 3, 0, [], [1]),
        wave_plain(1, 0, 360, 3, 0, [], [1]),
        wave_plain(1, 3, 360, 3, 0, [], [1, 2, 3]),
        wave_plain(2, 1, 104, 3, 0, [], [1]),
        wave_plain(2, 3, 104, 3, 0, [], [1, 2, 3, 4]),
        wave_plain(1, 1, 0, 3, 0, [], [1]),
        wave_plain(1, 1, 501, 3, 0, [], [1]),
        wave_plain(1, 1, 2, 3, 0, [], [1, 2, 3]),  # more than a second
        wave_plain(1, 1, 360, 3, 900, [1, 2, 3, 4, 5], [1, 2]),
        wave_plain(1, 1, 360, 3, 900, [200, 200], [1, 2]),
        wave_plain(1, 1, 360, 3, 900, [100, 902], [1, 2]),
        good[:10] + bytes([255]) + good[11:],
    ]


def quantizers() -> list[dict]:
    settings = [(1, 1, 1), (10, 5, 100), (3, 2, 7), (1000, 7, 2**28), (65536, 2**20 - 1, 2048), (25000, 4096, 10)]
    out = []
    for bound, q_max, n_max in settings:
        xs = {0, 1, 2, 3, 5, 7, bound // 2, bound - 1, bound, bound + 1, 10 * bound, 2**40, bound * 3 // 7}
        # Fraction's round is to nearest, ties to even
        pairs = [[x, round(Fraction(max(-bound, min(bound, x)) * q_max, bound))] for x in sorted(xs | {-x for x in xs})]
        out.append({"bound": bound, "q_max": q_max, "n_max": n_max, "pairs": pairs})
    return out


def tails() -> list[dict]:
    """The least T with T^2 >= 90.11 s2, where 2 exp(-T^2 / (2 s2)) <= 2^-64, for the variances s2 = noise_q8 / 256."""
    out = []
    for noise_q8 in (0, 1, 2, 3, 255, 256, 257, 2304, 25600, 123457, 2**24, 2**32 - 1):
        bound = Fraction(9011, 100) * Fraction(noise_q8, 256)
        t = 0
        step = 1 << 20
        while step:
            while (t + step - 1) ** 2 < bound:
                t += step
            step //= 2
        out.append({"noise_q8": noise_q8, "tail": t})
    return out


def terms() -> list[dict]:
    check_key = prf(COHORT, b"qepa/1/cohort/check")
    cases = [(17, 2047, (1, 72, 25000, 4096, 0, 0, 0)), (2**32 - 1, 65535, (2, 240, 65536, 1 << 20, 1, 2304, 3072))]
    return [
        {
            "model": model,
            "n_max": n_max,
            "stream": list(stream),
            "out": prf(check_key, struct.pack("<IH", model, n_max) + struct.pack("<BHIIBII", *stream)).hex(),
        }
        for model, n_max, stream in cases
    ]


def poly1305s() -> list[dict]:
    """RFC 8439: section 2.5.2, then those of appendix A.3 that try the arithmetic (1, 7 to 11), with its tags."""
    ones = "ff" * 16
    cases = [
        (
            "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
            b"Cryptographic Forum Research Group".hex(),
            "a8061dc1305136c6c22b8baf0c0127a9",
        ),
        ("00" * 32, "00" * 64, "00" * 16),
        ("02" + "00" * 31, ones, "03" + "00" * 15),
        ("02" + "00" * 15 + ones, "02" + "00" * 15, "03" + "00" * 15),
        ("01" + "00" * 31, ones + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
        ("01" + "00" * 31, ones + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
        ("02" + "00" * 31, "fd" + "ff" * 15, "fa" + "ff" * 15),
        (LINK.hex(), "", LINK.hex()[32:]),  # nothing to authenticate: the key's second half
    ]
    return [{"key": key, "message": message, "tag": tag} for key, message, tag in cases]


def one_time_frame(type_: int, seq: int, key_id: bytes, offset: int, key: bytes, body: bytes) -> bytes:
    inner = key_id + struct.pack("<I", offset) + body
    head = bytes([0x51, 1, type_, 2]) + struct.pack("<IIII", BOARD, 7, seq, len(inner) + 16)
    return frame(type_, seq, inner + Poly1305.generate_tag(key, head + inner), suite=2)


def one_time() -> list[dict]:
    block_ = hashlib.shake_256(b"block").digest(512)
    key_id = hashlib.sha256(b"block").digest()[:16]
    out = []
    alert = (654321, 3, 4, 1, 52)
    offset = 100
    pad = block_[offset + 32 : offset + 42]
    body = xor(struct.pack("<IHBBh", *alert), pad)
    case = {"type": 4, "seq": 77, "block": block_.hex(), "key_id": key_id.hex(), "offset": offset, "alert": list(alert)}
    out.append({**case, "frame": one_time_frame(4, 77, key_id, offset, block_[100:132], body).hex()})
    values, offset = [5, -6, 7], 142
    size = 4 * len(values) + 16
    end = f(prf(END, b"qepa/1/end/mask"), 1, 2, 0, 9, size)
    sealed_ = seal(values, [end, block_[offset + 32 : offset + 32 + size]], 2, 9)
    body = struct.pack("<QBBHI", 9, 2, 0, len(values), 17) + sealed_
    case = {"type": 2, "seq": 78, "block": block_.hex(), "key_id": key_id.hex(), "offset": offset, "values": values}
    out.append({**case, "frame": one_time_frame(2, 78, key_id, offset, block_[offset : offset + 32], body).hex()})
    return out


def stochastic() -> list[dict]:
    out = []
    for bound, q_max, x in [(3, 1, 1), (3, 1, -1), (1000, 7, 333), (1 << 20, 5, -12345), (7, 7, 3)]:
        exact = Fraction(x * q_max, bound)
        down = exact.numerator // exact.denominator
        rest = (x * q_max) % bound
        first_down = -(-(rest << 64) // bound)
        for bits in sorted({0, max(first_down - 1, 0), min(first_down, 2**64 - 1), 2**64 - 1}):
            word = down + (1 if bits < first_down else 0)
            out.append({"bound": bound, "q_max": q_max, "x": x, "bits": bits, "word": word})
    return out


def signatures() -> list[dict]:
    """HSS signatures by pyhsslms, its random bytes replaced by a counter so that the file can be made again."""
    drawn = 0

    def random_bytes(n: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(b"hss" + drawn.to_bytes(4, "big")).digest(n)

    hsslms.randBytes = random_bytes
    w1, w2, w4, w8 = (
        hsslms.lmots_sha256_n32_w1,
        hsslms.lmots_sha256_n32_w2,
        hsslms.lmots_sha256_n32_w4,
        hsslms.lmots_sha256_n32_w8,
    )
    out = []
    for name, types in {"W=8": [w8], "W=4 over W=8": [w4, w8], "W=2": [w2], "W=1": [w1]}.items():
        trees = [hsslms.LmsPrivateKey(lms_type=hsslms.lms_sha256_m32_h5, lmots_type=w, q=2) for w in types]
        signed = [trees[i].sign(trees[i + 1].publicKey().serialize()) for i in range(len(trees) - 1)]
        key = hsslms.HssPrivateKey(
            levels=len(trees), lms_type=hsslms.lms_sha256_m32_h5, lmots_type=types[-1], prvs=trees, sigs=signed
        )
        message = b"qepa/1/model" + name.encode()
        case = {"name": name, "public": key.publicKey().serialize().hex(), "message": message.hex()}
        out.append({**case, "signature": key.sign(message).hex()})
    return out


def vectors() -> dict:
    return {
        "keys": {
            "link": LINK.hex(),
            "end": END.hex(),
            "cohort": COHORT.hex(),
            "consent": CONSENT.hex(),
            "board": BOARD,
            "epoch": 7,
            "care": care_key().hex(),
        },
        "derive": derivations(),
        "ratchet": ratchets(),
        "keystream": keystreams(),
        "sealed": sealed(),
        "payloads": payloads(),
        "frames": frames(),
        "refused_frames": refused_frames(),
        "refused_payloads": refused_payloads(),
        "models": models(),
        "quantizer": quantizers(),
        "tails": tails(),
        "terms": terms(),
        "poly1305": poly1305s(),
        "one_time": one_time(),
        "stochastic": stochastic(),
        "signatures": signatures(),
    }


def text() -> str:
    """The content of wire.json: one line for each case."""
    sections = []
    for name, section in vectors().items():
        if isinstance(section, list):
            lines = ",\n".join("  " + json.dumps(case) for case in section)
            sections.append(f'"{name}": [\n{lines}\n]')
        else:
            lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in section.items())
            sections.append(f'"{name}": {{\n{lines}\n}}')
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    OUT.write_text(text())
