"""Counters in Prometheus' text format 0.0.4: no patient, no board, no vital sign."""

from collections import Counter

from qepa_wire.payloads import MODES, RESET_CAUSES

from ..core import Gateway

_SAFE = MODES.index("safe")


def prometheus_text(gateway: Gateway, now_ms: int) -> str:
    """Return the exposition of all metrics."""
    boards = gateway.boards.served()
    lines = [
        *_metric("qepa_frames_total", "counter", "Frames received from boards.", gateway.intake.frames),
        *_metric("qepa_one_time_frames_total", "counter", "Frames opened with one-time pads.", gateway.one_time.frames),
        *_metric("qepa_one_time_bytes", "gauge", "One-time bytes left.", sum(gateway.one_time.left().values())),
        *_metric("qepa_boards_adopted", "gauge", "Boards adopted by the server.", len(boards)),
        *_metric(
            "qepa_boards_online", "gauge", "Boards heard lately.", sum(board.is_online(now_ms) for board in boards)
        ),
        *_metric(
            "qepa_boards_safe_mode", "gauge", "Boards in safe mode.", sum(board.row.mode == _SAFE for board in boards)
        ),
        *_metric("qepa_spool_messages", "gauge", "Messages the server has not acknowledged.", len(gateway.link.outbox)),
        *_metric("qepa_session", "gauge", "Whether the server answers.", int(gateway.link.welcomed)),
        *_metric("qepa_model_version", "gauge", "Version of the last model release.", gateway.models.version),
    ]
    link = gateway.optical_link
    if link is not None:
        lines += _metric("qepa_link_stored_keys", "gauge", "Keys in stock at the KME.", link.stored_keys)
        if link.qber is not None:
            lines += _metric("qepa_link_qber", "gauge", "Quantum bit error rate.", link.qber)
    lines += ["# HELP qepa_boards_reset Boards by the cause of their last reset.", "# TYPE qepa_boards_reset gauge"]
    causes = Counter(RESET_CAUSES[board.row.reset_cause] for board in boards)
    lines += [f'qepa_boards_reset{{cause="{cause}"}} {count}' for cause, count in sorted(causes.items())]
    lines += ["# HELP qepa_refused_total What was refused, by reason.", "# TYPE qepa_refused_total counter"]
    lines += [
        f'qepa_refused_total{{reason="{reason}"}} {count}' for reason, count in gateway.refusals.snapshot().items()
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, value: float) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]
