"""The board's hot paths on the interpreters that stand in for it: native kernels against bytecode, limits beside.

The limits are those this project has set itself: on i386 with native kernels 150 us to encrypt an update of 240 words
end to end and 1 ms for a second of ECG, on WebAssembly 4 ms and 20 ms.
"""

from typing import Any

from ..board_budget.interpreters import I386_BYTECODE, I386_NATIVE, WASM
from ..board_budget.stages import measure
from ..errors import ToolError

_ROWS = {
    "encrypt_update": "encrypt an update of 240 words",
    "ecg_second": "a second of ECG, 256 Hz",
    "keystream": "keystream of an update",
    "masks": "two masks",
    "check": "check values",
    "mac": "frame and MAC",
    "fragments": "fragments, MTU 247",
    "filter": "ECG filter, a second",
    "r_peak": "R peaks, a second",
    "features_of_a_beat": "features of a beat",
    "learn": "learn from 36 beats",
}
LIMITS_US = {"encrypt_update": (150, 4000), "ecg_second": (1000, 20000)}  # i386 native, WebAssembly


def run() -> dict[str, Any]:
    """Rows: name, native_us, bytecode_us, wasm_us, bytecode_over_native; limit_us, wasm_limit_us where there is one."""
    native, bytecode, wasm = measure((I386_NATIVE, I386_BYTECODE, WASM))
    if native.kernels != "native":
        raise ToolError("the native kernels did not load on the i386 port: nothing to compare")
    rows = []
    for key, name in _ROWS.items():
        limit, wasm_limit = LIMITS_US.get(key, ("", ""))
        rows.append(
            {
                "name": name,
                "native_us": native.us[key],
                "bytecode_us": bytecode.us[key],
                "wasm_us": wasm.us[key],
                "bytecode_over_native": bytecode.us[key] / native.us[key],
                "limit_us": limit,
                "wasm_limit_us": wasm_limit,
            }
        )
    return {
        "benchmark": "board",
        "what": "a board's work on MicroPython's i386 port and on WebAssembly (no ESP32)",
        "rows": rows,
    }
