"""Updates are the words of the documented equations on both interpreters, hardly touch the heap and are fast enough."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qepa_server.training.initial import initial_model

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "board"))
import learning_reference as reference

FEATURES, CLASSES, HIDDEN = 17, 4, (0, 1, 10)
NORM_LIMITS = (4096, 700, 0)

# Prints the delta and a prediction for each case.
PROGRAM = """
import json
from array import array
from qepa_kernels import IMPLEMENTATION
from qepa_board.learning.learn import Learner
from qepa_board.learning.network import ModelShape, predict

with open("/cases.json") as file:
    cases = json.load(file)
print(IMPLEMENTATION)
for case in cases:
    shape = ModelShape(hidden=case["hidden"])
    words = array("i", case["words"])
    delta = array("i", bytes(4 * shape.words))
    rows = array("h", [v for x in case["beats"] for v in x])
    beats = [memoryview(rows)[17 * k : 17 * k + 17] for k in range(len(case["beats"]))]  # as of the ring of beats
    used = Learner(shape).local_update(words, beats, case["labels"], delta, case["norm_limit"])
    print(json.dumps([used, list(delta), [predict(shape, words, x, array("i", bytes(16))) for x in beats]]))
"""

# Bytes of heap and time that an update takes on the beats of half a minute and those rehearsed.
UPDATE = """
import gc, time
from array import array
from qepa_kernels import IMPLEMENTATION
from qepa_board.learning.learn import Learner
from qepa_board.learning.network import ModelShape

for hidden in (0, 10):
    shape = ModelShape(hidden=hidden)
    learner = Learner(shape)
    words = array("i", [(k * 7919) % 4001 - 2000 for k in range(shape.words)])
    delta = array("i", bytes(4 * shape.words))
    beats = [array("h", [(b * 31 + j * 977) % 1201 - 600 for j in range(17)]) for b in range(64)]
    labels = [b % 4 for b in range(64)]
    learner.local_update(words, beats, labels, delta, 1 << 14)
    gc.collect()
    gc.disable()
    fastest = 1 << 29
    before = gc.mem_alloc()
    for _ in range(3):
        began = time.ticks_us()
        learner.local_update(words, beats, labels, delta, 1 << 14)
        fastest = min(fastest, time.ticks_diff(time.ticks_us(), began))
    print(IMPLEMENTATION, hidden, gc.mem_alloc() - before, fastest)
    gc.enable()
"""


@pytest.fixture(params=["wasm", "i386", "i386 native"])
def run(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Each interpreter, and native kernels where they can run."""
    if request.param == "wasm":
        wasm: Callable[..., str] = request.getfixturevalue("wasm_run")
        return wasm
    unix: Callable[..., str] = request.getfixturevalue("unix_run")
    if request.param == "i386":
        return unix
    packages = (*request.getfixturevalue("packages"), request.getfixturevalue("native_kernels"))
    return functools.partial(unix, packages=packages)


@pytest.fixture
def packages() -> tuple[Path, ...]:
    firmware = Path(__file__).parents[2] / "firmware"
    return (firmware / "qepa_wire", firmware / "qepa_board")


def cases() -> list[dict[str, object]]:
    """Untrained, usual and extreme models; few and many beats, also of no class."""
    out: list[dict[str, object]] = []
    for seed, (hidden, spread, n) in enumerate(
        [(h, spread, n) for h in HIDDEN for spread, n in ((0, 12), (1500, 20), (32767, 6))]
    ):
        rng = np.random.default_rng(seed)
        start = initial_model(features=FEATURES, hidden=hidden, classes=CLASSES, fraction_bits=12).words
        words = np.clip(np.array(start) + rng.normal(0, spread or 1e-9, len(start)), -32767, 32767).astype(int)
        beats = np.clip(rng.normal(0, 300, (n, FEATURES)), -1024, 1024).astype(int)
        out.append(
            {
                "hidden": hidden,
                "words": words.tolist(),
                "beats": beats.tolist(),
                "labels": rng.integers(-1, CLASSES + 1, n).tolist(),
                "norm_limit": NORM_LIMITS[seed % 3],
            }
        )
    return out


def test_updates_are_to_the_word_those_of_the_equations(
    run: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    drawn = cases()
    implementation, *lines = run(PROGRAM, {"/cases.json": json.dumps(drawn).encode()}).splitlines()
    assert implementation == ("native" if "native" in request.node.name else "bytecode")
    for case, line in zip(drawn, lines, strict=True):
        shape = (FEATURES, int(str(case["hidden"])), CLASSES)
        words, beats = np.array(case["words"]), [np.array(x) for x in case["beats"]]  # type: ignore[attr-defined]
        used, delta, classes = json.loads(line)
        expected = reference.local_delta(words, beats, case["labels"], shape, case["norm_limit"])
        assert delta == expected.tolist()
        assert classes == [int(np.argmax(reference.forward(words, x, shape)[1])) for x in beats]
        assert used == sum(0 <= label < CLASSES for label in case["labels"])  # type: ignore[attr-defined]


def test_an_update_takes_little_time_and_no_heap_for_its_beats(run: Callable[..., str]) -> None:
    for line in run(UPDATE).splitlines():
        implementation, hidden, allocated, us = line.split()
        print(f"{implementation}, {hidden} hidden units, 64 beats: {int(us) / 1000:.1f} ms an update")
        assert int(allocated) <= 3 * 64
        assert int(us) < 2_000_000
