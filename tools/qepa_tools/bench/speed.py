"""How fast the simulated light is: `qepa link virtual --speed-test`."""

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from qepa_tools.bench.attackers import ATTACKS
from qepa_tools.bench.controllers import HOST_SILENCE_LIMIT_S, Bench, Receiver
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings
from qepa_tools.bench.scenario import Scenario

RATES_HZ: Final = (1e6, 1e7, 1e8)
_TICK_S: Final = 0.05


def measure(settings: BenchSettings, seconds: float = 1.0) -> list[dict[str, float | str]]:
    """Return for each attacker and pulse rate the seconds of light that a second of one core makes.

    `times_real_time` is that of the physics alone; `framed_times_real_time` that of the whole bench, whose clicks leave
    as frames for the serial line. Raises ValueError if `seconds` of light are more than a controller runs without host.
    """
    if seconds >= HOST_SILENCE_LIMIT_S:
        raise ValueError(f"a run without a host lasts less than {HOST_SILENCE_LIMIT_S:.0f} s")
    ticks = round(seconds / _TICK_S)
    return [_row(settings, attack, rate, ticks) for attack in ("none", *ATTACKS) for rate in RATES_HZ]


def _row(settings: BenchSettings, attack: str, rate_hz: float, ticks: int) -> dict[str, float | str]:
    optics = OpticalBench(
        settings, PulseSettings(pulse_rate_hz=rate_hz), np.random.default_rng(1), 0, _scenario(settings, attack)
    )
    bench = _running(Bench(settings, 1, _scenario(settings, attack)), rate_hz)

    def framed(tick: int) -> None:
        bench.advance(tick * _TICK_S)
        bench.receiver.outgoing.clear()

    optics.advance(1)
    light_s = ticks * _TICK_S
    physics_s = _spent_s(ticks, lambda _: optics.advance(int(rate_hz * _TICK_S)))
    framed_s = _spent_s(ticks, framed)
    return {
        "attack": attack,
        "pulse_rate_hz": rate_hz,
        "times_real_time": round(light_s / physics_s, 2),
        "framed_times_real_time": round(light_s / framed_s, 2),
        "clicks_hz": round(sum(optics.tally[detector] for detector in "HVDA") / light_s),
    }


def _scenario(settings: BenchSettings, attack: str) -> Scenario:
    scenario = Scenario(settings)
    scenario.plan(f"attack {attack}")
    return scenario


def _running(bench: Bench, rate_hz: float) -> Bench:
    """Start a run at time 0 as a host would. Raises ValueError if a controller refuses."""
    bench.receiver = receiver = Receiver(bench)
    for controller, line in (
        (bench.transmitter, f"SET pulse_rate_hz={rate_hz:.0f}"),
        (receiver, "START run=00000001"),
        (bench.transmitter, "START run=00000001"),
    ):
        if (answer := controller.answer(line.encode(), 0.0)) != "OK":
            raise ValueError(f"{line}: {answer}")
    bench.advance(1 / rate_hz)
    return bench


def _spent_s(ticks: int, work: Callable[[int], object]) -> float:
    """Return the processor time of `work` at ticks 1 to `ticks`."""
    began_s = time.process_time()
    for tick in range(1, ticks + 1):
        work(tick)
    return time.process_time() - began_s
