"""Metrics for Prometheus, all under ``qepa_``: no patient, no board, no vital sign."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qepa_wire.payloads import MODES, RESET_CAUSES

from ..ble.transport import Report
from ..core import Gateway
from ..health import REASONS

_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)
_SAFE = MODES.index("safe")
_THREATS = ("normal", "elevated", "high")


def prometheus_text(
    gateway: Gateway,
    now_ms: int,
    *,
    faults: Collection[str] = (),
    recoveries: Mapping[str, int] | None = None,
    ble: Report | None = None,
) -> str:
    """Return the exposition of all metrics; ``faults`` are reasons of health.py, ``recoveries`` counts by step."""
    registry = CollectorRegistry()
    registry.register(_Gateway(gateway, now_ms, faults, recoveries or {}, ble))
    return generate_latest(registry).decode()


class _Gateway(Collector):
    def __init__(
        self,
        gateway: Gateway,
        now_ms: int,
        faults: Collection[str],
        recoveries: Mapping[str, int],
        ble: Report | None,
    ) -> None:
        self._gateway, self._now_ms, self._faults, self._recoveries = gateway, now_ms, faults, recoveries
        self._ble = ble

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._frames()
        yield from self._boards()
        yield from self._link()
        yield from self._health()
        if self._ble is not None:
            yield from self._bluetooth(self._ble)

    def _frames(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield CounterMetricFamily("qepa_frames", "Frames received from boards.", gateway.intake.frames)
        yield CounterMetricFamily("qepa_frames_authentic", "Of these, taken.", gateway.intake.authentic)
        yield CounterMetricFamily("qepa_one_time_frames", "Frames opened with one-time pads.", gateway.one_time.frames)
        yield CounterMetricFamily("qepa_epochs", "Link keys that boards began.", gateway.rekeying.epochs)
        yield _labelled(
            CounterMetricFamily("qepa_refused", "What was refused, by reason.", labels=["reason"]),
            gateway.refusals.snapshot(),
        )
        yield GaugeMetricFamily(
            "qepa_spool_messages", "Messages the server has not acknowledged.", len(gateway.link.outbox)
        )
        yield CounterMetricFamily(
            "qepa_spool_dropped", "Messages dropped because too many waited.", gateway.link.outbox.dropped
        )

    def _boards(self) -> Iterator[Metric]:
        gateway, boards = self._gateway, self._gateway.boards.served()
        online = sum(board.is_online(self._now_ms) for board in boards)
        safe = sum(board.row.mode == _SAFE for board in boards)
        yield GaugeMetricFamily("qepa_boards_adopted", "Boards adopted by the server.", len(boards))
        yield GaugeMetricFamily("qepa_boards_online", "Boards heard lately.", online)
        yield GaugeMetricFamily("qepa_boards_safe_mode", "Boards in safe mode.", safe)
        yield _labelled(
            GaugeMetricFamily("qepa_boards_reset", "Boards by the cause of their last reset.", labels=["cause"]),
            Counter(RESET_CAUSES[board.row.reset_cause] for board in boards),
        )
        yield _labelled(
            GaugeMetricFamily("qepa_boards_key", "Boards by where their link key comes from.", labels=["source"]),
            Counter(board.key_source for board in boards),
        )
        yield GaugeMetricFamily("qepa_pads", "Unused pads that boards hold.", sum(board.row.pads for board in boards))
        yield GaugeMetricFamily("qepa_one_time_bytes", "One-time bytes left.", sum(gateway.one_time.left().values()))
        yield GaugeMetricFamily("qepa_model_version", "Version of the last model release.", gateway.models.version)

    def _link(self) -> Iterator[Metric]:
        link = self._gateway.optical_link
        if link is None:
            return
        yield GaugeMetricFamily("qepa_link_stored_keys", "Keys in stock at the KME.", link.stored_keys)
        yield GaugeMetricFamily("qepa_link_threat", "0 normal, 1 elevated, 2 high.", _THREATS.index(link.threat_level))
        if link.qber is not None:
            yield GaugeMetricFamily("qepa_link_qber", "Quantum bit error rate.", link.qber)
        if link.rekey_s is not None:
            yield GaugeMetricFamily("qepa_link_rekey_seconds", "Advised time between two link keys.", link.rekey_s)

    def _health(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("qepa_session", "Whether the server answers.", int(not self._gateway.link.away))
        yield _labelled(
            GaugeMetricFamily("qepa_degraded", "Whether a reason to be degraded holds.", labels=["reason"]),
            {reason: int(reason in self._faults) for reason in REASONS},
        )
        yield _labelled(
            CounterMetricFamily("qepa_recoveries", "Steps taken because no board was heard.", labels=["step"]),
            self._recoveries,
        )

    def _bluetooth(self, ble: Report) -> Iterator[Metric]:
        yield GaugeMetricFamily("qepa_ble_devices", "Devices known that advertise the service.", ble.devices)
        yield GaugeMetricFamily("qepa_ble_connections", "Bluetooth connections that stand.", ble.connections)
        yield CounterMetricFamily("qepa_ble_connects", "Bluetooth connections made.", ble.connects)
        yield CounterMetricFamily("qepa_ble_power_cycles", "Times the adapter was to be reset.", ble.power_cycles)
        yield _labelled(
            CounterMetricFamily("qepa_ble_ends", "Connections and attempts that ended, by reason.", labels=["reason"]),
            ble.ends,
        )


def _labelled(family: _Family, values: Mapping[str, int]) -> _Family:
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family
