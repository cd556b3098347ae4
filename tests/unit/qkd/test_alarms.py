"""Alarms: silent on a link as it should be, raised by what they are for, cleared when it is gone, no key meanwhile."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qepa_qkd.alarms import (
    CLEAR_WINDOWS,
    CLICK_KINDS,
    STEADY_WINDOWS,
    WINDOW_DETECTIONS,
    AlarmLimits,
    Alarms,
    ClickMonitor,
    judge_block,
    kind_of,
    sentence_of,
)
from qepa_qkd.decoy import BlockCounts, SourceSettings
from qepa_qkd.link_status import LONGEST_REKEY_S, REKEY_S, REMEMBERED_S, LinkStatus
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings
from qepa_tools.bench.scenario import Scenario

from .conftest import SETTINGS, MemoryLink

SOURCE = SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
STEP = 100_000


class Watched:
    """A bench whose clicks are watched."""

    def __init__(self, **settings: object) -> None:
        self.scenario = Scenario(BenchSettings(**settings))  # type: ignore[arg-type]
        rng = np.random.default_rng(3)
        self.optics = OpticalBench(self.scenario.settings, PulseSettings(), rng, scenario=self.scenario)
        self.monitor = ClickMonitor(SOURCE, AlarmLimits())
        self.alarms = Alarms(lambda: 0.0)

    def watch(self, steps: int) -> set[str]:
        """Let light pass; return the kinds of alarm that stood meanwhile."""
        seen: set[str] = set()
        for _ in range(steps):
            slots, detectors = self.optics.advance(STEP)
            self.alarms.update(self.monitor.observe(STEP, slots, detectors), CLEAR_WINDOWS)
            seen |= set(self.alarms.active)
        return seen


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pointing_sigma": 0.3},
        {"detector_balance": (1.0, 0.95, 1.0, 0.97)},
        {"channel_transmittance": 1.0, "receiver_transmittance": 1.0, "detector_efficiency": 1.0},
        {"background_hz": 50_000.0},
        {"receiver_key_basis_probability": 0.5},
    ],
    ids=str,
)
def test_honest_light_raises_no_alarm(settings: dict[str, object]) -> None:
    bench = Watched(**settings)
    assert bench.watch(100) == set()
    assert bench.alarms.raised == 0


@pytest.mark.parametrize(
    ("event", "settings", "kind"),
    [
        ("attack blinding", {}, "blinding"),
        ("attack blinding", {"receiver_key_basis_probability": 0.5}, "blinding"),
        ("attack time-shift early=0.9", {"mismatch_ps": 800.0, "efficiency_window_ps": 700.0}, "mismatch"),
        ("set channel_transmittance=0.3", {}, "rate"),
        ("set background_hz=2e6", {}, "rate"),
    ],
)
def test_what_an_alarm_is_for_raises_it_and_its_end_clears_it(
    event: str, settings: dict[str, object], kind: str
) -> None:
    bench = Watched(**settings)
    bench.watch(20)
    usual = bench.scenario.settings
    bench.scenario.plan(event)
    assert kind in bench.watch(20)
    assert kind in bench.alarms.active
    bench.scenario.plan("attack none")
    bench.scenario.settings = usual
    bench.scenario.version += 1
    bench.watch(20)
    assert not bench.alarms.active


def test_a_new_rate_that_stays_becomes_the_rate() -> None:
    bench = Watched()
    bench.watch(10)
    bench.scenario.plan("set channel_transmittance=0.3")
    assert bench.watch(30) == {"rate"}
    bench.watch(4 * STEADY_WINDOWS)
    assert not bench.alarms.active


def clicks(counts: tuple[int, int, int, int], pulses: int) -> tuple[int, np.ndarray, np.ndarray]:
    detectors = np.repeat(np.arange(4, dtype=np.uint8), counts)
    slots = np.arange(len(detectors)) * (pulses // len(detectors))
    return pulses, slots, detectors


def test_more_detections_than_photons_are_saturation() -> None:
    # One pulse in 4.9 of the default source holds a photon: 1 - sum p exp(-mu) = 0.2121.
    verdicts = ClickMonitor(SOURCE, AlarmLimits()).observe(*clicks((2000, 2000, 1000, 1000), 24_000))
    assert verdicts["saturation"] is not None
    verdicts = ClickMonitor(SOURCE, AlarmLimits()).observe(*clicks((2000, 2000, 1000, 1000), 28_400))
    assert verdicts["saturation"] is None


def test_a_detector_ahead_of_its_partner_is_told_in_numbers() -> None:
    verdicts = ClickMonitor(SOURCE, AlarmLimits()).observe(*clicks((1500, 1500, 1300, 900), 100_000))
    assert verdicts["mismatch"] == "the two detectors of the test basis count 1300 to 900"


def test_few_detections_are_judged_when_a_block_ends() -> None:
    monitor = ClickMonitor(SOURCE, AlarmLimits())
    assert monitor.observe(*clicks((600, 100, 200, 200), 1_000_000)) == {}
    assert monitor.flush()["mismatch"] is not None
    assert monitor.flush() == {}


def test_counts_that_miss_something_are_not_judged() -> None:
    monitor = ClickMonitor(SOURCE, AlarmLimits())
    monitor.observe(*clicks((600, 100, 200, 200), 1_000_000))
    monitor.forget()
    assert monitor.flush() == {}


BITS = np.tile(np.array([0, 1], np.uint8), 5000)


def honest_counts(transmittance: float, noise: float, pulses: int = 20_000_000) -> BlockCounts:
    seen = tuple(
        round(pulses * p * (1 - np.exp(-mu * transmittance) + noise))
        for mu, p in zip(SOURCE.intensities, SOURCE.probabilities, strict=True)
    )
    return BlockCounts(tuple(n // 2 for n in seen), tuple(n // 10 for n in seen), (0, 0, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("transmittance", "noise"), [(1.0, 0.0), (0.2, 1e-4), (0.001, 1e-5), (0.01, 1e-3)])
def test_blocks_of_honest_light_raise_no_alarm(transmittance: float, noise: float) -> None:
    verdicts = judge_block(honest_counts(transmittance, noise), SOURCE, BITS, AlarmLimits())
    assert set(verdicts.values()) == {None}


def test_decoys_that_are_missing_are_splitting() -> None:
    counts = honest_counts(0.2, 1e-4)
    fewer = replace(counts, n_x=(counts.n_x[0], counts.n_x[1] // 2, counts.n_x[2]))
    assert judge_block(fewer, SOURCE, BITS, AlarmLimits())["splitting"] is not None


def test_counts_that_do_not_depend_on_the_intensity_are_an_alarm() -> None:
    same = BlockCounts((40_000, 30_000, 28_000), (4_000, 3_000, 3_000), (0, 0, 0))
    assert judge_block(same, SOURCE, BITS, AlarmLimits())["intensity"] is not None


def test_key_bits_with_more_ones_are_biased() -> None:
    bits = np.zeros(10_000, np.uint8)
    bits[:5200] = 1
    assert judge_block(honest_counts(0.2, 0), SOURCE, bits, AlarmLimits())["bias"] is None
    bits[:5400] = 1
    assert judge_block(honest_counts(0.2, 0), SOURCE, bits, AlarmLimits())["bias"] == "5400 ones among 10000 key bits"


def test_a_false_alarm_is_as_rare_as_documented() -> None:
    # 20,000 windows of fair detectors, whose limit is chance alone (5 sigma): 6e-7 a test, two tests a window.
    rng = np.random.default_rng(1)
    alarms = 0
    monitor = ClickMonitor(SOURCE, replace(AlarmLimits(), mismatch=1e-9))
    for _ in range(5000):
        counts = tuple(int(n) for n in rng.multinomial(WINDOW_DETECTIONS, [0.35, 0.35, 0.15, 0.15]))
        alarms += monitor.observe(*clicks(counts, 100_000))["mismatch"] is not None  # type: ignore[arg-type]
    assert alarms == 0


def test_reasons_name_their_alarm() -> None:
    for reason, kind in (
        ("QBER 12.0 % is over the threshold of 8.0 %", "QBER"),
        ("blinding alarm: 3 coincidences", "blinding"),
        ("too little authentication key", None),
        ("the run ended before the block was full", None),
        (None, None),
    ):
        assert kind_of(reason) == kind
    assert sentence_of("blinding alarm: 3 coincidences") == "3 coincidences"


def test_a_block_with_an_alarm_in_its_time_gives_no_key_and_names_no_basis(
    make_link: Callable[..., MemoryLink],
) -> None:
    link = make_link()
    asked: list[bool] = []

    def alarm(full: bool) -> str | None:
        asked.append(full)
        return "blinding alarm: for one moment" if len(asked) == 3 else None

    link.bob._alarm = alarm
    link.run_block()
    for outcomes in (link.alice.outcomes, link.bob.outcomes):
        assert [(o.reason, o.sifted_bits, o.key_bits) for o in outcomes] == [("blinding alarm: for one moment", 0, 0)]
    assert asked.count(True) == 1
    link.alice.outcomes.clear()
    link.bob.outcomes.clear()
    link.run_block()
    assert link.alice.outcomes[0].key_bits == link.bob.outcomes[0].key_bits > 0


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_a_bias_that_one_end_sees_ends_the_block_at_both(make_link: Callable[..., MemoryLink], role: str) -> None:
    link = make_link()
    end = link.alice if role == "alice" else link.bob
    end._environment = replace(end._environment, alarm_limits=AlarmLimits(splitting=1.5))
    link.run_block()
    assert kind_of(link.alice.outcomes[0].reason) == kind_of(link.bob.outcomes[0].reason) == "splitting"
    assert link.vaults["bob"].keys.stock_bits() == link.vaults["alice"].keys.stock_bits() == 0


def test_threat_and_stock_give_the_time_between_rekeyings() -> None:
    now = [1000.0]
    status = LinkStatus(now_s=lambda: now[0])
    assert status.threat_level() == "normal"
    assert status.rekey_interval_s(600, 1000) == REKEY_S["normal"] == 30
    assert status.rekey_interval_s(250, 1000) == 60
    assert status.rekey_interval_s(0, 1000) == LONGEST_REKEY_S
    status.alarms.update({"blinding": "seen"})
    assert (status.threat_level(), status.rekey_interval_s(1000, 1000)) == ("high", 10)
    status.alarms.update({"blinding": None})
    assert (status.threat_level(), status.rekey_interval_s(1000, 1000)) == ("elevated", 15)
    now[0] += REMEMBERED_S
    assert status.threat_level() == "normal"
    status.alarms.update({"rate": "it fell"})
    assert status.threat_level() == "elevated"


def test_click_alarms_are_those_that_bob_judges() -> None:
    bench = Watched()
    slots, detectors = bench.optics.advance(500_000)
    assert set(bench.monitor.observe(500_000, slots, detectors)) == set(CLICK_KINDS)
    assert SETTINGS.source == SOURCE
