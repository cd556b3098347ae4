"""Pulse, respiration, motion, temperature and glucose: the same words on every interpreter, no heap while sampling."""

import builtins
import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qepa_tools.recordings.bidmc import load_bidmc
from qepa_tools.recordings.places import find_data

SECONDS = 42
FS_HZ = 125

# Prints what is measured each second, then the bytes allocated by all pushes together (0 where nobody counts).
PROGRAM = """
import gc
from array import array
from qepa_board.signals.glucose import Glucose
from qepa_board.signals.motion import Motion
from qepa_board.signals.oximetry import Oximeter
from qepa_board.signals.ppg import PULSES
from qepa_board.signals.respiration import DerivedRespiration, ThoracicRespiration
from qepa_board.signals.temperature import SkinTemperature

FS_HZ = 125
signals = []
for name in ("red", "infrared", "resp", "ax", "ay", "az"):
    with open("/" + name + ".bin", "rb") as file:
        signals.append(array("i", file.read()))
blocks = [array("i", bytes(4 * FS_HZ)) for _ in signals]
one = array("i", (0,))
clock = [0]
oximeter = Oximeter(FS_HZ)
thorax = ThoracicRespiration(FS_HZ)
derived = DerivedRespiration(FS_HZ)
motion = Motion(FS_HZ)
skin = SkinTemperature()
glucose = Glucose(lambda: clock[0])
allocated = seen = 0
count = getattr(gc, "mem_alloc", lambda: 0)
gc.disable()
for second in range(len(signals[0]) // FS_HZ):
    clock[0] = 300 * second
    for signal, block in zip(signals, blocks):
        for k in range(FS_HZ):
            block[k] = signal[second * FS_HZ + k]
    if second == 36:
        for part in (oximeter, thorax, derived, motion, skin):
            part.gap(7)
    before = count()
    motion.push(blocks[3], blocks[4], blocks[5], FS_HZ)
    oximeter.moving = motion.moving
    oximeter.push(blocks[0], blocks[1], FS_HZ)
    thorax.push(blocks[2], FS_HZ)
    one[0] = 3300 + second % 5
    skin.push(one, 1)
    while seen < oximeter.pulses:
        k = seen % PULSES
        derived.beat(oximeter.pulse_at[k], oximeter.pulse_height[k], oximeter.pulse_level[k])
        seen += 1
    allocated += count() - before
    one[0] = 100 + (second * second) % 37 - 3 * (second % 11)
    glucose.push(one, None, 1)
    out = []
    for part in (oximeter, thorax, derived, motion, skin, glucose):
        part.measures(out)
    print(out, thorax.apnoea(), glucose.conditions)
    gc.collect()
print(allocated)
"""


def _synthetic() -> dict[str, np.ndarray]:
    """Pulse of 72 a minute moved by 15 breaths a minute, red at R = 0.8, walking in the last ten seconds."""
    t_s = np.arange(SECONDS * FS_HZ) / FS_HZ
    rng = np.random.default_rng(3)
    breath = np.sin(2 * math.pi * t_s / 4)
    phase = (1.2 * t_s) % 1
    wave = (np.exp(-(((phase - 0.15) / 0.08) ** 2)) + 0.4 * np.exp(-(((phase - 0.45) / 0.12) ** 2))) * (
        1 + 0.1 * breath
    )
    walk = (t_s >= SECONDS - 10) * 350 * np.maximum(0, np.sin(2 * math.pi * 1.8 * t_s))
    return {
        "red": 80_000 * (1 - 0.8 * 0.02 * wave) + 100 * breath + rng.normal(0, 8, len(t_s)),
        "infrared": 120_000 * (1 - 0.02 * wave) + 150 * breath + rng.normal(0, 8, len(t_s)),
        "resp": 2_000_000 + 40_000 * breath + rng.normal(0, 500, len(t_s)),
        "ax": rng.normal(0, 4, len(t_s)),
        "ay": 990 + walk + rng.normal(0, 4, len(t_s)),
        "az": 120 + rng.normal(0, 4, len(t_s)),
    }


def _recorded() -> dict[str, np.ndarray]:
    data = find_data()
    if data is None or not (data.parent / "bidmc" / "bidmc_05_Signals.csv.gz").is_file():
        pytest.skip("record 05 of the BIDMC set is not here")
    record = load_bidmc(data.parent / "bidmc", 5)
    return _synthetic() | {
        "red": record.red_counts(0.6)[: SECONDS * FS_HZ],
        "infrared": record.infrared_counts()[: SECONDS * FS_HZ],
        "resp": record.impedance_counts()[: SECONDS * FS_HZ],
    }


def _extreme() -> dict[str, np.ndarray]:
    """Whatever a driver may deliver: rails, steps and full-scale noise."""
    rng = np.random.default_rng(4)
    n = SECONDS * FS_HZ
    square = (np.arange(n) // 90) % 2
    return {
        "red": rng.integers(0, 1 << 18, n) * square,
        "infrared": square * ((1 << 18) - 1),
        "resp": rng.integers(-(1 << 23), 1 << 23, n) * (1 - square) + square * ((1 << 23) - 1),
        "ax": rng.integers(-16000, 16001, n),
        "ay": 32000 * square - 16000,
        "az": 16000 - 32000 * square,
    }


def _on_cpython(files: dict[str, bytes], tmp_path: Path) -> list[str]:
    for name, content in files.items():
        (tmp_path / name.lstrip("/")).write_bytes(content)
    lines: list[str] = []
    opened = builtins.open

    def open_here(name: str, *mode: str) -> Any:
        return opened(tmp_path / name.lstrip("/"), *mode)

    def print_here(*values: object) -> None:
        lines.append(" ".join(map(str, values)))

    gc.freeze()  # the program collects every second, which is not to walk through all that other tests have left
    try:
        exec(compile(PROGRAM, "program", "exec"), {"open": open_here, "print": print_here})  # noqa: S102
    finally:
        gc.unfreeze()
        gc.enable()
    return lines


@pytest.mark.parametrize("signals", [_synthetic, _recorded, _extreme], ids=["synthetic", "recorded", "extreme"])
def test_same_measures_and_no_heap(
    signals: Callable[[], dict[str, np.ndarray]], micropython_run: Callable[..., str], tmp_path: Path
) -> None:
    files = {f"/{name}.bin": np.rint(values).astype(np.int32).tobytes() for name, values in signals().items()}
    expected = _on_cpython(files, tmp_path)
    printed = micropython_run(PROGRAM, files).splitlines()
    assert printed[:-1] == expected[:-1]
    assert len(printed) == SECONDS + 1
    assert printed[-1] == "0"
