"""What a round asks for and how long it waits."""

from dataclasses import dataclass

from qepa_uplink.messages import RoundOpen, StreamSpec

DELIVERY_MARGIN_MS = 2000  # for messages under way when a gateway's own deadline ends


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Settings of all rounds to come; a running round keeps the RoundOpen that was signed for it."""

    streams: tuple[StreamSpec, ...]
    n_max: int
    min_group: int
    cell_target: int
    period_ms: int
    ready_within_ms: int
    collect_within_ms: int
    settle_within_ms: int
    max_rounds: int
    gateways_expected: int
    patients_expected: int
    first_within_ms: int

    def opening(self, round_: int, commitment: bytes, model_version: int, streams: tuple[StreamSpec, ...]) -> RoundOpen:
        """Return the message that opens ``round_`` for ``streams``, some or all of the plan's."""
        return RoundOpen(
            round=round_,
            commitment=commitment,
            model_version=model_version,
            streams=streams,
            n_max=self.n_max,
            min_group=self.min_group,
            cell_target=self.cell_target,
            ready_within_ms=self.ready_within_ms,
            collect_within_ms=self.collect_within_ms,
            settle_within_ms=self.settle_within_ms,
        )
