"""Native kernels, their bytecode and CPython make the same words; what does not load is replaced quietly."""

import ast
import functools
import json
import shutil
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import qepa_kernels
from qepa_board.signals.dsp import EcgFilter
from qepa_kernels import RING, bytecode
from qepa_tools.firmware_build.kernels import TARGETS, KernelBuildError, build_kernels

Case = tuple[str, list[Any]]
SOURCES = Path(qepa_kernels.__file__).parent

# A buffer is written as [type code, words]; a kernel did what it returned and left in its buffers, rings aside.
RUN = """
from array import array

def run(kernels, name, arguments):
    built = [
        a if isinstance(a, int) else bytearray(a[1]) if a[0] == "B" else array(a[0], a[1]) for a in arguments
    ]
    result = getattr(kernels, name)(*built)
    return [result] + [list(b) for b in built if not isinstance(b, int) and len(b) < 2048]
"""

PROGRAM = (
    RUN
    + """
import json
import qepa_kernels
from qepa_kernels import bytecode
with open("/cases.json") as file:
    cases = json.load(file)
for name, arguments in cases:
    did = run(qepa_kernels, name, arguments)
    same = did == run(bytecode, name, arguments)
    print(json.dumps([qepa_kernels.IMPLEMENTATION, same, did]))
"""
)

here: dict[str, Any] = {}
exec(RUN, here)  # noqa: S102  the same function on all interpreters

EDGES = (0, 1, -1, 2**30 - 1, 2**30, -(2**30), 2**31 - 1, -(2**31), -(2**31) + 1)
words = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1))
samples = st.one_of(st.sampled_from((0, 1, -1, 2047, -2048, 32767, -32768)), st.integers(-32768, 32767))


def some(values: st.SearchStrategy[int], n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(values, min_size=n, max_size=n)


def bytes_of(draw: Any, n_words: int) -> list[Any]:
    """Words, the edges among them, as the bytes of a vector."""
    return ["B", list(array("i", draw(some(words, n_words))).tobytes())]


@st.composite
def vectors(draw: Any) -> Case:
    n = draw(st.integers(1, 40))
    values = ["i", draw(some(words, n))]
    blocks = draw(st.sampled_from((n, 255, 256, 300)))
    cases: dict[str, Callable[[], list[Any]]] = {
        "add32": lambda: [bytes_of(draw, n + 2), bytes_of(draw, n), n],
        "add64": lambda: [bytes_of(draw, n + 4), bytes_of(draw, n + 4), n, 2],
        "check_sums": lambda: [bytes_of(draw, 4 * n), values, n, bytes_of(draw, 5), draw(st.integers(0, 1))],
        "fill_counters": lambda: [["B", [7] * (16 * blocks + 4)], bytes_of(draw, 3), blocks],
        "xor": lambda: [bytes_of(draw, n), bytes_of(draw, n), draw(st.integers(1, 4 * n))],
        "pack32": lambda: [bytes_of(draw, n + 3), draw(st.integers(0, 3)), values, n],
    }
    name = draw(st.sampled_from(sorted(cases)))
    return name, cases[name]()


@st.composite
def layers(draw: Any) -> Case:
    n = draw(st.integers(1, 40))
    name = draw(st.sampled_from(("dot32", "descend", "isqrt")))
    values = ["i", draw(some(words, n))]
    if name == "dot32":
        first = draw(st.integers(0, n - 1))
        return name, [values, first, ["h", draw(some(samples, n))], n - first]
    if name == "descend":
        units, first = draw(st.integers(0, 4)), draw(st.integers(0, 3))
        small, inputs = st.integers(-32767, 32767), st.integers(-1024, 1024)
        errors = draw(some(st.one_of(st.just(0), st.integers(-(2**20), 2**20 - 1)), units))
        layer = [["i", draw(some(small, first + units * (n + 1)))], first, ["i", errors], units]
        return name, [*layer, ["h", draw(some(inputs, n))], n, draw(st.sampled_from((32767, 1000)))]
    root = draw(st.integers(0, 46340))
    squares = (root * root, max(0, root * root - 1), 2**31 - 1)
    return name, [draw(st.one_of(st.sampled_from(squares), st.integers(0, 2**31 - 1)))]


ECG_KERNELS = ("ring_span", "ring_steepest", "ring_peak", "scan_peaks", "correlate", "qrs_shape", "qrs_adapt")


@st.composite
def ecg(draw: Any) -> Case:
    name = draw(st.sampled_from(ECG_KERNELS))
    n = draw(st.integers(8, 50))
    ring = ["h", [*draw(some(samples, n)), *([0] * (RING - 2 * n)), *draw(some(samples, n))]]
    first = draw(st.one_of(st.integers(-n, 0), st.sampled_from((2**30 - n // 2, 2**31 - 100))))
    if name.startswith("ring"):
        return name, [ring, first, n, *([draw(st.integers(2, 6))] if name == "ring_steepest" else [])]
    if name == "scan_peaks":
        top, last, before = draw(st.tuples(*[st.integers(0, 9)] * 3))
        state = [top, last, -before, 5, draw(st.integers(0, 2 * n)), 0]
        return name, [["i", draw(some(st.integers(0, 9), n))], draw(st.integers(0, n)), n, ["i", state]]
    lags = draw(st.integers(1, 9))
    points = n - lags + 1 if n - lags >= 4 else n
    lags = n - points + 1
    x = ["i", draw(some(st.integers(-4095, 4095), n))]
    shape = ["i", draw(some(st.integers(-2100, 2100), points))]
    if name == "correlate":
        return name, [x, shape, points, ["i", draw(some(st.integers(1, 30000), lags))], lags]
    lag = draw(st.integers(0, lags - 1))
    if name == "qrs_shape":
        return name, [x, lag, points, ["i", [0] * 4]]
    part = x[1][lag : lag + points]
    mean = sum(part) // points
    norm = max(1, bytecode.isqrt(sum((v - mean) ** 2 for v in part)))
    return name, [x, lag, points, norm, shape, draw(st.integers(0, 1))]


@st.composite
def windows(draw: Any) -> Case:
    """qrs_window with the 41 points of QrsTemplates, of which no sum of squares reaches 2**30."""
    points, lags = 41, draw(st.integers(1, 9))
    ring = ["h", [*draw(some(samples, 80)), *([0] * (RING - 80))]]
    offsets = ["h", sorted(draw(some(st.integers(-20, 100), points + lags - 1)))]
    span = points + lags - 1
    return "qrs_window", [ring, draw(st.integers(-5, 20)), offsets, ["i", [0] * span], points, ["i", [0] * lags], lags]


ANY = st.one_of(vectors(), layers(), ecg(), windows())
no_haste = settings(deadline=None, suppress_health_check=list(HealthCheck))


def agree(run: Callable[..., str], implementation: str, drawn: list[Case]) -> None:
    """What the interpreter's kernels did, and its bytecode, is what CPython's did."""
    printed = run(PROGRAM, {"cases.json": json.dumps(drawn).encode()}).splitlines()
    for (name, arguments), line in zip(drawn, printed, strict=True):
        assert json.loads(line) == [implementation, True, here["run"](bytecode, name, arguments)], name


@pytest.mark.parametrize("cases", [vectors(), layers(), ecg(), windows()], ids=("vectors", "filters", "ecg", "qrs"))
def test_native_code_bytecode_and_cpython_agree(
    cases: st.SearchStrategy[Case], native_kernels: Path, unix_run: Callable[..., str]
) -> None:
    run = functools.partial(unix_run, heap_bytes=16 << 20, packages=(native_kernels,))

    @settings(no_haste, max_examples=40)
    @given(st.lists(cases, min_size=1, max_size=24))
    def everywhere(drawn: list[Case]) -> None:
        agree(run, "native", drawn)

    everywhere()


def test_the_fallback_agrees_with_cpython_on_the_browser_port(wasm_run: Callable[..., str]) -> None:
    @settings(no_haste, max_examples=4, phases=(Phase.explicit, Phase.generate))
    @given(st.lists(ANY, min_size=20, max_size=24))
    def everywhere(drawn: list[Case]) -> None:
        agree(wasm_run, "bytecode", drawn)

    everywhere()


FILTER = (
    RUN
    + """
import json
from qepa_kernels import bytecode, native
with open("/filter.json") as file:
    state, counts = json.load(file)
counts = array("h", counts)
for kernels in (native, bytecode):
    clean, band = array("h", bytes(4096)), array("h", bytes(4096))
    kept = array("i", state)
    envelope = array("i", bytes(4 * 64))
    heights = []
    for start in range(0, len(counts), 64):
        n = min(64, len(counts) - start)
        kernels.ecg_filter(counts, start, n, envelope, clean, band, kept)
        heights += list(envelope[:n])
    print(json.dumps([heights, list(clean), list(band), list(kept)]))
"""
)


@pytest.mark.parametrize(("fs_hz", "mains_hz"), [(200, 50), (256, 50), (360, 60), (500, 60)])
def test_the_ecg_filter_agrees_whatever_comes_in(
    fs_hz: int, mains_hz: int, native_kernels: Path, unix_run: Callable[..., str]
) -> None:
    """Full-scale noise, square waves at the rails and beyond them: no word overflows."""

    @settings(no_haste, max_examples=4)
    @given(st.lists(st.tuples(samples, st.integers(1, 300)), min_size=1, max_size=30), some(samples, 100))
    def same(steps: list[tuple[int, int]], noise: list[int]) -> None:
        counts = [value for value, length in steps for _ in range(length)] + noise
        state = list(EcgFilter(fs_hz, mains_hz).state)
        printed = unix_run(
            FILTER,
            {"filter.json": json.dumps([state, counts]).encode()},
            heap_bytes=16 << 20,
            packages=(native_kernels,),
        )
        native, fallback = (json.loads(line) for line in printed.splitlines())
        assert native == fallback

    same()


def test_both_lists_of_the_package_are_those_of_the_native_kernels() -> None:
    tree = ast.parse((SOURCES / "__init__.py").read_text())
    native, fallback = (
        [alias.name for alias in node.names] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    )
    kernels = ast.parse((SOURCES / "viper.py").read_text()).body
    assert native == fallback
    assert set(native) == {node.name for node in kernels if isinstance(node, ast.FunctionDef)}


WHICH = "import qepa_kernels\nprint(qepa_kernels.IMPLEMENTATION)\nqepa_kernels.xor(bytearray(4), bytes(4), 4)"


@pytest.mark.parametrize("found", ["nothing", "another processor's", "another version's", "an older list"])
def test_what_does_not_load_is_replaced_by_bytecode(found: str, tmp_path: Path, unix_run: Callable[..., str]) -> None:
    package = tmp_path / "qepa_kernels"
    package.mkdir()
    for name in ("__init__.py", "bytecode.py"):
        shutil.copy(SOURCES / name, package)
    if found == "another processor's":
        build_kernels("xtensawin", package)
    elif found == "another version's":
        (package / "native.mpy").write_bytes(b"M\x05\x02\x1f" + bytes(50))
    elif found == "an older list":
        (package / "native.py").write_text("def add32(a, b, n):\n    pass\n")
    assert unix_run(WHICH, packages=(package,)) == "bytecode\n"


def test_the_browser_port_runs_bytecode_beside_native_code(native_kernels: Path, wasm_run: Callable[..., str]) -> None:
    native = (native_kernels / "native.mpy").read_bytes()
    source = "import sys\nsys.path.insert(0, '/')\n" + WHICH
    files = {f"qepa_kernels/{name}": (SOURCES / name).read_bytes() for name in ("__init__.py", "bytecode.py")}
    assert wasm_run(source, files | {"qepa_kernels/native.mpy": native}) == "bytecode\n"


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_build_for_every_processor(target: str, tmp_path: Path) -> None:
    built = build_kernels(target, tmp_path)
    assert built.name == "native.mpy"
    magic, version, flags = built.read_bytes()[:3]
    assert (magic, version, flags >> 2 != 0) == (ord("M"), 6, True)


def test_an_unknown_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelBuildError, match="there are for xtensawin"):
        build_kernels("z80", tmp_path)
