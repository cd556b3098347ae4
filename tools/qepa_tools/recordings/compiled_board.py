"""The board's own code over compiled kernels: the same words, more than a hundred times as fast.

Nothing is written twice. The kernels are those of qepa_kernels/bytecode.py, compiled by numba as they stand (their
contract is 32-bit words, numba's integers have 64); the board's modules are loaded a second time on top of them, as
they would be on top of native code. The board's modules that others import stay as they are.
"""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import qepa_board.signals.ecg  # what it imports from elsewhere is loaded before its kernels are exchanged
import qepa_kernels
from qepa_jit import kernels as jit
from qepa_kernels import bytecode

COMPILED = (  # a kernel stands behind those that it calls
    "isqrt",
    "ecg_filter",
    "scan_peaks",
    "ring_span",
    "ring_steepest",
    "ring_peak",
    "qrs_window",
    "correlate",
    "qrs_shape",
    "qrs_adapt",
)

_PACKAGE = "qepa_tools.recordings._compiled_qepa_board"
_loading = threading.Lock()


def compiled_pipeline(fs_hz: int, mains_hz: int) -> Any:
    """Return an EcgPipeline of the board's code over compiled kernels; the first one takes seconds to compile."""
    with _loading:
        pipeline = _modules()
    return pipeline.EcgPipeline(fs_hz, mains_hz=mains_hz)


def compiled_kernels() -> ModuleType:
    """Return a module with the interface of qepa_kernels in which the kernels of the ECG are compiled."""
    names = dict(vars(bytecode))
    for name in COMPILED:
        names[name] = _compiled(names[name], names)
    module = ModuleType("qepa_kernels")
    for name, value in vars(qepa_kernels).items():
        if not name.startswith("_"):
            setattr(module, name, names.get(name, value))
    module.IMPLEMENTATION = "compiled"  # type: ignore[attr-defined]
    return module


def _compiled(kernel: Callable[..., Any], names: dict[str, Any]) -> Any:
    """Compile a copy that sees compiled kernels under the names it calls."""
    assert isinstance(kernel, FunctionType)  # noqa: S101  bytecode.py holds plain functions
    return jit.kernel(FunctionType(kernel.__code__, names, kernel.__name__, kernel.__defaults__))


@cache
def _modules() -> ModuleType:
    """Load qepa_board under another name, on compiled kernels; returns its signals.ecg."""
    origin = Path(qepa_board.__file__)
    spec = importlib.util.spec_from_file_location(_PACKAGE, origin, submodule_search_locations=[str(origin.parent)])
    assert spec is not None  # noqa: S101  the file is there: it was imported
    assert spec.loader is not None  # noqa: S101
    kernels = sys.modules["qepa_kernels"]
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    sys.modules["qepa_kernels"] = compiled_kernels()
    try:
        spec.loader.exec_module(sys.modules[_PACKAGE])
        return importlib.import_module(_PACKAGE + ".signals.ecg")
    finally:
        sys.modules["qepa_kernels"] = kernels
