"""How fast the simulated light is: `qepa link virtual --speed-test`."""

import time
from typing import Final

import numpy as np

from qepa_tools.bench.attackers import ATTACKS
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings
from qepa_tools.bench.scenario import Scenario

RATES_HZ: Final = (1e6, 1e7, 1e8)
_TICK_S: Final = 0.05


def measure(settings: BenchSettings, seconds: float = 1.0) -> list[dict[str, float | str]]:
    """Return for each attacker and pulse rate the seconds of light that a second of one core makes."""
    rows: list[dict[str, float | str]] = []
    for attack in ("none", *ATTACKS):
        for rate in RATES_HZ:
            scenario = Scenario(settings)
            scenario.plan(f"attack {attack}")
            bench = OpticalBench(settings, PulseSettings(pulse_rate_hz=rate), np.random.default_rng(1), 0, scenario)
            bench.advance(1)
            ticks, clicks = round(seconds / _TICK_S), 0
            began_s = time.process_time()
            for _ in range(ticks):
                clicks += len(bench.advance(int(rate * _TICK_S))[0])
            spent_s = time.process_time() - began_s
            rows.append(
                {
                    "attack": attack,
                    "pulse_rate_hz": rate,
                    "times_real_time": round(ticks * _TICK_S / spent_s, 2),
                    "clicks_hz": round(clicks / (ticks * _TICK_S)),
                }
            )
    return rows
