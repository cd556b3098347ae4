"""Rehearses, then makes a block: `python rehearsed_link.py METHOD DIRECTORY`. Prints what was still loaded as JSON."""

import importlib
import json
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import SETTINGS, MemoryLink
from numba.core.dispatcher import Dispatcher

import qepa_qkd
from qepa_qkd.rehearsal import rehearse
from qepa_qkd.serial_protocol import Detections, FrameDecoder, FrameEncoder, StateQuery
from qepa_tools.bench.physics import BenchSettings

LDPC_MODULE = "qepa_qkd.ldpc_code"


def kernels() -> dict[str, Dispatcher]:
    """All compiled functions of the package, by their names."""
    found = {}
    for module in pkgutil.walk_packages(qepa_qkd.__path__, "qepa_qkd."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Dispatcher) and value.targetoptions.get("inline") != "always":
                found[f"{value.py_func.__module__}.{value.__name__}"] = value
    return found


def signatures() -> dict[str, list[str]]:
    """What each was compiled or loaded for."""
    return {name: sorted(map(str, kernel.signatures)) for name, kernel in kernels().items()}


def called_by_kernels() -> set[str]:
    """Kernels that others contain."""
    known = kernels()
    outer = [kernel.py_func for kernel in known.values()]
    return {
        name
        for name, kernel in known.items()
        if any(f.__globals__.get(called) is kernel for f in outer for called in f.__code__.co_names)
    }


def make_block(method: str, directory: Path) -> str | None:
    """All that Alice and Bob do to a block, and frames of their controllers. Returns why there was no key."""
    link = MemoryLink(directory, BenchSettings(), settings=replace(SETTINGS, reconciliation=method))
    slots, detectors = link.optics.advance(20_000)
    encoder, decoder = FrameEncoder(), FrameDecoder()
    for message in (Detections(1, 0, 20_000, 0, slots, detectors), StateQuery(1, 0, np.unique(slots)[:1000])):
        list(decoder.feed(encoder.encode(message)))
    link.run_block()
    link.close()
    (outcome,) = link.alice.outcomes
    return outcome.reason


def main(method: str, directory: Path) -> None:
    """Print names of kernels that the rehearsal left out, and those that the block had to have for other types."""
    rehearse(method)
    before, inner = signatures(), called_by_kernels()
    idle = [name for name, types in before.items() if not types and name not in inner]
    left_out = [name for name in idle if method == "ldpc" or LDPC_MODULE not in name]
    reason = make_block(method, directory)
    after = signatures()
    later = {name: types for name, types in after.items() if types != before[name]}
    print(json.dumps({"kernels": len(before), "left_out": left_out, "later": later, "reason": reason}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
