"""Runs stages_on_board.py on the interpreters and returns what each stage took."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..recordings.recording import counts_from_adc
from ..recordings.synthetic import synthetic_recording
from .interpreters import interpreters

PROGRAM = Path(__file__).with_name("stages_on_board.py")
FS_HZ = 256
SECONDS = 60
_HEAP_BYTES = 4 << 20  # so that no collection falls into a measurement
_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of one interpreter by their names in stages_on_board.py: microseconds, but for counts and sizes."""

    interpreter: str
    kernels: str
    us: dict[str, float]


def measure(names: Iterable[str]) -> list[Measured]:
    """Measure on the interpreters ``names``, one after the other, with a synthetic ECG."""
    recording = synthetic_recording(7, 1, SECONDS, fs_hz=FS_HZ)
    files = {"ecg.bin": counts_from_adc(recording.samples).astype("<i2").tobytes()}
    measured = []
    program = PROGRAM.read_text()
    with interpreters(keep=re.findall(r"\w+", program)) as firmware:
        for name in names:
            printed = firmware.run(name, program, files, heap_bytes=_HEAP_BYTES, timeout_s=_TIMEOUT_S)
            figures = json.loads(printed)
            kernels = figures.pop("implementation")
            measured.append(Measured(interpreter=name, kernels=kernels, us=figures))
    return measured
