"""What the bedside page shows. A value older than five seconds is no value: null with its age."""

from typing import Any

from qepa_uplink.beat_reasons import reasons_in_words
from qepa_uplink.readings import found_readings, readings, value_of
from qepa_wire.measures import HEART_RATE
from qepa_wire.payloads import CARE_ASYSTOLE, CARE_LEAD_OFF, MODES, NO_BEAT_CLASS, RESET_CAUSES, WAVE_ECG

from ..boards import Board
from ..care import Vitals
from ..core import Gateway
from ..health import REASONS

STALE_MS = 5000
FINDINGS_STALE_MS = 15_000
EXPLAINED_STALE_MS = 300_000
BEAT_CLASSES = "NSVF"


def bedside_state(gateway: Gateway, now_ms: int, faults: tuple[str, ...] = ()) -> dict[str, Any]:
    """JSON of the whole bedside; ``faults`` are reasons of health.py."""
    link = gateway.optical_link
    left = gateway.one_time.left()
    return {
        "now_ms": now_ms,
        "gateway": gateway.name,
        "session": not gateway.link.away,
        "model_version": gateway.models.version,
        "rounds": {str(number): phase for number, phase in gateway.rounds.phases().items()},
        "boards": [_board(gateway, board, now_ms, left.get(board.number, 0)) for board in gateway.boards.served()],
        "link": None if link is None else link.model_dump(),
        "degraded": {reason: REASONS.get(reason, reason) for reason in faults},
        "refused": gateway.refusals.snapshot(),
        "spool": len(gateway.link.outbox),
    }


def _board(gateway: Gateway, board: Board, now_ms: int, pad_bytes: int) -> dict[str, Any]:
    vitals = gateway.care.vitals(board.number)
    return {
        "board": f"{board.number:08x}",
        "patient": board.row.patient,
        "online": board.is_online(now_ms),
        "last_seen_ms": board.row.last_seen_ms,
        "boots": board.row.boots,
        "epoch": board.ring.highest,
        "key_source": board.key_source,
        "key_steps": board.key_steps,
        "pads": board.row.pads,
        "pad_bytes": pad_bytes,
        "reset_cause": RESET_CAUSES[board.row.reset_cause],
        "mode": MODES[board.row.mode],
        "model_version": board.row.model,
        "consent": gateway.care.has_consent(board.number),
        "vitals": None if vitals is None else _vitals(vitals, now_ms),
        "findings": _findings(gateway, board.number, now_ms),
        "explained": _explained(gateway, board.number, now_ms),
        "alerts": [{"kind": alert.kind, "since_ms": alert.since_ms} for alert in gateway.alerts.of(board.number)],
    }


def _findings(gateway: Gateway, board: int, now_ms: int) -> list[dict[str, Any]]:
    found = None if gateway.inference is None else gateway.inference.found(board)
    if found is None:
        return []
    age_ms = max(0, now_ms - found.at_ms)
    return [
        {
            "model": each.model,
            "version": each.version,
            "source": f"model {each.model} v{each.version}",
            "readings": found_readings(each.readings, fresh=age_ms <= FINDINGS_STALE_MS),
            "age_ms": age_ms,
        }
        for each in found.findings
    ]


def _explained(gateway: Gateway, board: int, now_ms: int) -> dict[str, Any] | None:
    """The newest beat called S, V or F, and why; class and words are null when it is old or the ECG is gone."""
    beat = None if gateway.inference is None else gateway.inference.explained(board)
    if beat is None:
        return None
    age_ms = max(0, now_ms - beat.received_ms)
    fresh = age_ms <= EXPLAINED_STALE_MS and gateway.waves.window(board, WAVE_ECG, 1) is not None
    words = reasons_in_words(beat.answer, beat.probabilities, beat.shares, beat.numbers)
    return {
        "beat": beat.answer if fresh else None,
        "words": words if fresh else None,
        "source": f"model {beat.model} v{beat.version}",
        "age_ms": age_ms,
    }


def _vitals(vitals: Vitals, now_ms: int) -> dict[str, Any]:
    care, age_ms = vitals.care, max(0, now_ms - vitals.received_ms)
    fresh = age_ms <= STALE_MS
    hr_bpm, quality = value_of(care.measures, HEART_RATE) if fresh else (None, None)
    known_class = fresh and care.beat_class != NO_BEAT_CLASS and care.beat_class < len(BEAT_CLASSES)
    return {
        "hr_bpm": hr_bpm,
        "quality_percent": quality,
        "measures": readings(care.measures, fresh=fresh),
        "lead_off": bool(care.flags & CARE_LEAD_OFF) if fresh else None,
        "asystole": bool(care.flags & CARE_ASYSTOLE) if fresh else None,
        "beat_class": BEAT_CLASSES[care.beat_class] if known_class else None,
        "beats": care.beats,
        "boots": care.boots,
        "t_ms": care.t_ms,
        "age_ms": age_ms,
    }
