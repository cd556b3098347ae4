"""The golden vectors on the real MicroPython: the same checks as on CPython, run by the interpreter of the boards."""

import json
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors"

RUN = """
import json
with open("/wire.json") as file:
    vectors = json.load(file)
done = {}
for name, check in CHECKS.items():
    done[name] = check(vectors)
print(json.dumps(done))
"""


def test_micropython_makes_the_bytes_of_the_golden_vectors(micropython_run):
    checks, vectors = (VECTORS / "wire_checks.py").read_text(), (VECTORS / "wire.json").read_bytes()
    compared = json.loads(micropython_run(checks + RUN, {"wire.json": vectors}))
    sections = json.loads(vectors)
    assert compared.keys() == sections.keys() - {"keys"}
    for name, cases in compared.items():
        assert cases >= len(sections[name]) > 0


def test_a_wrong_vector_is_noticed_on_micropython(micropython_run):
    vectors = json.loads((VECTORS / "wire.json").read_bytes())
    case = vectors["sealed"][-1]
    last = int(case["sealed"][-1], 16) ^ 1
    case["sealed"] = case["sealed"][:-1] + f"{last:x}"
    source = (
        (VECTORS / "wire_checks.py").read_text()
        + """
import json
with open("/wire.json") as file:
    vectors = json.load(file)
try:
    check_sealed(vectors)
except AssertionError as error:
    print(str(error)[:9])
"""
    )
    assert micropython_run(source, {"wire.json": json.dumps(vectors).encode()}) == "240 words\n"


def test_noise_raises_nothing_but_wire_error_on_micropython(micropython_run):
    source = """
import os
from qepa_wire import frame, lms, model, payloads
from qepa_wire.errors import WireError

KEY = bytes(32)
DECODERS = (
    payloads.decode_hello, payloads.decode_vector, payloads.decode_ack, payloads.decode_round,
    payloads.decode_revoke, payloads.care_consent, payloads.grant_consent, model.decode_model, model.decode_release,
    lambda data: payloads.decode_care(KEY, 1, 1, data), lambda data: payloads.decode_labels(KEY, 1, 1, data),
    lambda data: payloads.decode_alert(KEY, 1, data), lambda data: payloads.decode_grant(KEY, 1, data),
    lambda data: frame.parse(data, frame.UP_TYPES), lambda data: lms.verify(data, b"", data),
    lambda data: lms.verify(bytes(3) + bytes([1]) + data, b"", bytes(8) + data),
)
refused = 0
for length in list(range(80)) + [250, 1000]:
    for decode in DECODERS:
        try:
            decode(os.urandom(length))
        except WireError:
            refused += 1
print(refused > 500)
"""
    assert micropython_run(source) == "True\n"
