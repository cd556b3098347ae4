"""The state that screens show, assembled in one place."""

import dataclasses
import json

from qepa_wire.discrete_gaussian import Q8
from qepa_wire.keystream import STREAM_STATISTICS
from qepa_wire.statistics import HR_EDGES_BPM

from ..hospital import Hospital
from ..rounds.ledger import COLLECT, DONE, READY, SUMMED, VOID, RoundRecord, SumRecord, verdicts_by_cell
from ..rounds.running import opening_of
from ..rounds.statistics import heart_rate
from .models import model_view
from .trust import PrivacyView, audit, quarantines, rollouts

SHOWN_ROUNDS = 20
Json = dict[str, object]
_ROUND_STATES = {READY: "running", COLLECT: "running", DONE: "done", VOID: "void"}


class StateView:
    """Reads the hospital; keeps what settled rounds look like, which no longer changes."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._settled: dict[int, Json] = {}
        self._privacy = PrivacyView(hospital)

    def state(self) -> Json:
        """The whole state, as the ward page and the terminal table read it."""
        hospital = self._hospital
        now_ms = hospital.clock_ms()
        return {
            "now_ms": now_ms,
            "simulated": hospital.config.ward.simulated,
            "data_source": hospital.config.ward.data_source,
            "model": model_view(hospital.registry.newest),
            "disagreement": hospital.beat_minutes.shown(),
            "round": self._round(now_ms),
            "finished": hospital.rounds.finished,
            "not_asked_for": list(hospital.rounds.refusals),
            "rounds": self._rounds(),
            "boards": self._boards(now_ms),
            "gateways": self._gateways(now_ms),
            "alarms": self._alarms(),
            "quarantines": quarantines(hospital),
            "privacy": self._privacy.shown(now_ms),
            "audit": audit(hospital),
            "refused": dict(sorted(hospital.refused.items())),
        }

    def text(self) -> str:
        """The state as JSON."""
        return json.dumps(self.state(), separators=(",", ":"))

    def consents(self, patient: str) -> list[Json]:
        """All that a patient ever signed, and whether it holds now."""
        hospital = self._hospital
        now_ms = hospital.clock_ms()
        return [
            {
                "consent_id": each.consent_id.hex(),
                "purpose": each.purpose,
                "boards": [f"{number:08x}" for number in sorted(each.gateways)],
                "not_before_s": each.not_before_s,
                "not_after_s": each.not_after_s,
                "withdrawn_ms": each.withdrawn_ms,
                "in_force": each.in_force(now_ms),
            }
            for each in hospital.consents.signed_by(patient)
        ]

    def round_detail(self, number: int) -> Json | None:
        """Everything that was opened in one round, cell by cell."""
        record = self._hospital.ledger.find(number)
        if record is None:
            return None
        sums = self._hospital.ledger.sums(number)
        return {
            "number": number,
            "state": _ROUND_STATES[record.state],
            "reason": record.reason,
            "latency_ms": record.latency_ms,
            "model_version": record.model_version,
            "cells": [
                {
                    "cell": verdict.cell,
                    "stream": verdict.stream,
                    "state": verdict.state,
                    "reason": verdict.reason,
                    "gateways": list(verdict.gateways),
                    "contributors": list(verdict.boards),
                    "patients": verdict.patients,
                    "sum": None if verdict.total is None else list(verdict.total),
                }
                for verdict in sums
            ],
        }

    def model(self) -> Json:
        """The current model."""
        model = self._hospital.registry.current
        return {
            "version": model.version,
            "features": model.features,
            "hidden": model.hidden,
            "classes": model.classes,
            "fraction_bits": model.fraction_bits,
            "words": list(model.words),
        }

    def _round(self, now_ms: int) -> Json | None:
        running = self._hospital.rounds.running
        if running is None:
            last = self._hospital.ledger.last()
            if last is None:
                return None
            return {"number": last.number, "phase": "idle", "since_ms": last.settled_ms}
        since_ms = running.started_ms if running.start_envelope is not None else running.opened_ms
        return {"number": running.number, "phase": running.phase(now_ms), "since_ms": since_ms}

    def _rounds(self) -> list[Json]:
        shown: list[Json] = []
        for record in self._hospital.ledger.newest(SHOWN_ROUNDS):
            view = self._settled.get(record.number) or self._round_view(record)
            if record.settled_ms is not None:
                self._settled[record.number] = view
            shown.append(view)
        self._settled = {n: v for n, v in self._settled.items() if any(v is view for view in shown)}
        return shown

    def _round_view(self, record: RoundRecord) -> Json:
        sums = self._hospital.ledger.sums(record.number)
        opened = [verdict for verdict in sums if verdict.state == SUMMED]
        boards = {board for verdict in opened for board in verdict.boards}
        patients: dict[int, int] = {}
        for verdict in opened:
            patients[verdict.cell] = max(patients.get(verdict.cell, 0), verdict.patients)
        return {
            "number": record.number,
            "state": _ROUND_STATES[record.state],
            "reason": record.reason,
            "contributors": len(boards),
            "patients": sum(patients.values()),
            "cells": self._cells(record, sums),
            "heart_rate": self._heart_rate(record, opened),
            "latency_ms": record.latency_ms,
            "model_version": record.model_version,
        }

    @staticmethod
    def _heart_rate(record: RoundRecord, opened: list[SumRecord]) -> Json | None:
        found = [verdict for verdict in opened if verdict.stream == STREAM_STATISTICS]
        asked = [spec for spec in opening_of(record).streams if spec.stream == STREAM_STATISTICS]
        if not found or not asked:
            return None
        totals = [verdict.total for verdict in found if verdict.total is not None]
        noise = asked[0].noise_q8 / Q8 * sum(len(verdict.boards) for verdict in found) if asked[0].noise_q8 else None
        rate = heart_rate(totals, noise)
        if rate is None:
            return None
        percentiles = {f"p{share:.0%}"[:-1]: rate.percentile(share) for share in (0.1, 0.5, 0.9)}
        return dataclasses.asdict(rate) | {"percentiles_bpm": percentiles, "edges_bpm": list(HR_EDGES_BPM)}

    def _cells(self, record: RoundRecord, sums: list[SumRecord]) -> list[Json]:
        verdicts = verdicts_by_cell(sums)
        running = self._hospital.rounds.running
        gateways = {cell: list(found[0].gateways) for cell, found in verdicts.items()}
        streams = 0
        if running is not None and running.number == record.number:
            gateways |= {cell.id: list(cell.gateways) for cell in running.cells}
            streams = len(running.opening.streams)
        return [
            self._cell(number, names, verdicts.get(number, []), streams) for number, names in sorted(gateways.items())
        ]

    @staticmethod
    def _cell(number: int, gateways: list[str], verdicts: list[SumRecord], streams: int) -> Json:
        reasons = sorted({verdict.reason for verdict in verdicts if verdict.state == VOID})
        state = "void" if reasons else "open" if len(verdicts) < streams else "summed"
        return {"id": number, "gateways": gateways, "state": state, "reason": "; ".join(reasons)}

    def _boards(self, now_ms: int) -> list[Json]:
        hospital = self._hospital
        shown: list[Json] = []
        for number, board in sorted(hospital.register.items()):
            explained = hospital.explained.newest(number, now_ms)
            heartbeat = hospital.presence.last(board.gateway)
            reported = {} if heartbeat is None else {item.board: item for item in heartbeat.status.boards}
            status = reported.get(number)
            shown.append(
                {
                    "board": f"{number:08x}",
                    "patient": board.patient,
                    "gateway": board.gateway,
                    "online": status is not None and status.online and hospital.presence.online(board.gateway, now_ms),
                    "last_seen_ms": None if status is None else status.last_seen_ms,
                    "epoch": 0 if status is None else status.epoch,
                    "key_source": "none" if status is None else status.key_source,
                    "pads": 0 if status is None else status.pads,
                    "pad_bytes": 0 if status is None else status.pad_bytes,
                    "mode": "normal" if status is None else status.mode,
                    "reset_cause": "unknown" if status is None else status.reset_cause,
                    "model_version": 0 if status is None else status.model_version,
                    "consent": hospital.consents.watched(number, now_ms),
                    "vitals": hospital.vitals.shown(number, now_ms),
                    "findings": hospital.findings.shown(number, now_ms),
                    "explained": None if explained is None else explained.shown(now_ms),
                }
            )
        return shown

    def _gateways(self, now_ms: int) -> list[Json]:
        hospital = self._hospital
        shown: list[Json] = []
        for name in hospital.hub.names:
            heartbeat = hospital.presence.last(name)
            status = None if heartbeat is None else heartbeat.status
            link = None if status is None else status.link
            shown.append(
                {
                    "name": name,
                    "online": name in hospital.hub.connected and hospital.presence.online(name, now_ms),
                    "last_seen_ms": None if heartbeat is None else heartbeat.received_ms,
                    "link": None if link is None else link.model_dump(),
                    "refused": {} if status is None else dict(sorted(status.refused.items())),
                    "spool": 0 if status is None else status.spool,
                    "rollouts": rollouts(status),
                }
            )
        return shown

    def _alarms(self) -> list[Json]:
        return [
            {
                "id": alarm.id,
                "board": f"{alarm.board:08x}",
                "patient": alarm.patient,
                "kind": alarm.kind,
                "priority": alarm.priority,
                "active": alarm.ended_ms is None,
                "acknowledged": alarm.acknowledged,
                "since_ms": alarm.since_ms,
                "ended_ms": alarm.ended_ms,
            }
            for alarm in self._hospital.alarms.newest()
        ]
