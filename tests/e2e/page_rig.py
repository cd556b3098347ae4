"""A small server that says what each test needs said, for the ward page in a real Chromium."""

import json
import os
import re
import time
from copy import deepcopy
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

WEB = Path(__file__).resolve().parents[2] / "server" / "web"
SHOTS = os.environ.get("QEPA_SHOTS")  # a directory: the tests leave pictures of what they saw there
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"


def board(number: int, hr_bpm: int | None, **changes: Any) -> dict[str, Any]:
    vitals = {
        "hr_bpm": hr_bpm,
        "quality_percent": 92,
        "lead_off": False,
        "asystole": False,
        "beat_class": "N",
        "beats": 812,
        "age_ms": 300,
    }
    whole = {
        "board": f"{number:08x}",
        "patient": f"patient {number}",
        "gateway": "gw-1",
        "online": True,
        "last_seen_ms": 0,
        "epoch": 3,
        "key_source": "qkd",
        "pads": 118,
        "model_version": 7,
        "consent": True,
        "vitals": vitals | changes.pop("vitals", {}),
    }
    return whole | changes


def alarm(name: str, priority: str, kind: str = "asystole", **changes: Any) -> dict[str, Any]:
    whole = {
        "id": name,
        "board": "00000001",
        "patient": "patient 1",
        "kind": kind,
        "priority": priority,
        "active": True,
        "acknowledged": False,
        "since_ms": int(time.time() * 1000) - 4000,
        "ended_ms": None,
    }
    return whole | changes


def summed_round(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "state": "done",
        "contributors": 12,
        "patients": 12,
        "cells": [{"id": "c0", "gateways": ["gw-1", "gw-2"], "state": "summed", "reason": None}],
        "heart_rate": {
            "boards": 12,
            "mean_bpm": 77.4,
            "sd_bpm": 11.25,
            "histogram": [0, 0, 1, 5, 4, 2, 0, 0],
            "edges_bpm": [40, 50, 60, 75, 90, 110, 130],
        },
        "latency_ms": 1840,
        "model_version": 7,
    }


def void_round(number: int) -> dict[str, Any]:
    cells = [{"id": "c0", "gateways": ["gw-1"], "state": "void", "reason": "too few patients: 9 of 10"}]
    return summed_round(number) | {"state": "void", "cells": cells, "heart_rate": None, "latency_ms": None}


LINK = {
    "state": "running",
    "qber": 0.0213,
    "stored_keys": 412,
    "bits_produced": 1843200,
    "bits_consumed": 921600,
    "threat_level": "normal",
    "rekey_s": 30.0,
}
MODEL = {"kind": "model", "version": 7, "stage": "ward", "canary": "00000001", "failed": 0, "reason": ""}


def quarantine(kind: str, name: str, **changes: Any) -> dict[str, Any]:
    whole = {
        "kind": kind,
        "name": name,
        "since_ms": int(time.time() * 1000) - 600_000,
        "round": 41,
        "sentence": "adds 9.4 to the energy of sums, by 30 cells; within the clipping bound at most 1 is possible",
    }
    return whole | changes


def privacy(purpose: str, worst: dict[str, Any], median: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole = {
        "purpose": purpose,
        "noise": True,
        "budget_epsilon": 8.0,
        "delta": 1e-6,
        "period_ms": 30 * 86_400_000,
        "patients": 12,
        "worst": worst,
        "median": median,
    }
    return whole | changes


EXACT = privacy(
    "statistics", *[{"spent_epsilon": None, "left": None}] * 2, noise=False, budget_epsilon=None, period_ms=0
)
LEARNING = privacy("learning", {"spent_epsilon": 7.412, "left": 0.0839}, {"spent_epsilon": 4.1, "left": 0.71})


class Ward:
    """The fake server's state, and what the page asked of it. Threads only replace whole values."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {
            "simulated": True,
            "data_source": "MIT-BIH Arrhythmia Database",
            "model": {"version": 7, "rounds_trained": 7, "state": "released", "origin": "federated", "reason": ""},
            "round": {"number": 9, "phase": "collect", "since_ms": 0},
            "disagreement": {
                "standing": "unknown",
                "boards": 2,
                "version": None,
                "score": None,
                "limit": 1e5,
                "since_ms": None,
            },
            "rounds": [summed_round(8), void_round(7)],
            "boards": [board(1, 72), board(2, 88)],
            "gateways": [
                {
                    "name": "gw-1",
                    "online": True,
                    "last_seen_ms": 0,
                    "link": LINK,
                    "refused": {"replay": 3, "mac": 1},
                    "spool": 0,
                    "rollouts": [MODEL],
                }
            ],
            "alarms": [],
            "quarantines": [],
            "not_asked_for": [],
            "privacy": [EXACT, LEARNING],
            "audit": {"entries": 1204, "kept": {"gw-1": 1190}, "contradicted": {}, "refused": {}},
            "refused": {"signature": 2},
        }
        self.silent = False  # keeps connections open and says nothing
        self.refusing = False  # answers 503
        self.without_events = False  # as behind a proxy that knows no server-sent events
        self.stuck_ms: int | None = None  # repeats one old moment, as a cache would
        self.ecg: list[str] | None = []  # events so far; None: no consent
        self.ecg_goes_on = True
        self.ecg_asked: list[str] = []
        self.beats: dict[str, str] = {}  # what is answered about the newest explained beat, by board
        self.beats_asked: list[str] = []
        self.acknowledged: list[str] = []

    def body(self) -> str:
        return json.dumps({"now_ms": self.stuck_ms or int(time.time() * 1000)} | self.state)

    def change(self, **changes: Any) -> None:
        self.state = deepcopy(self.state) | changes


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, directory=str(WEB), **kwargs)

    @property
    def ward(self) -> Ward:
        return self.server.ward  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def do_GET(self) -> None:
        if not self.path.startswith("/api/"):
            super().do_GET()
        elif self.ward.refusing or (self.ward.without_events and self.path == "/api/events"):
            self.answer(503, b"")
        elif self.path == "/api/events":
            self.stream()
        elif re.fullmatch(r"/api/boards/[0-9a-f]{8}/ecg", self.path):
            self.ward.ecg_asked.append(self.path.split("/")[3])
            self.stream_ecg()
        elif found := re.fullmatch(r"/api/boards/([0-9a-f]{8})/beat", self.path):
            self.ward.beats_asked.append(found[1])
            beat = self.ward.beats.get(found[1])
            self.answer(404 if beat is None else 200, (beat or "{}").encode())
        else:
            while self.ward.silent:
                time.sleep(0.1)
            self.answer(200, self.ward.body().encode())

    def do_POST(self) -> None:
        found = re.fullmatch(r"/api/alarms/([^/]+)/acknowledge", self.path)
        if not found or self.ward.refusing:
            self.answer(503, b"")
            return
        self.ward.acknowledged.append(found[1])
        name = unquote(found[1])
        alarms = self.ward.state["alarms"]
        self.ward.change(alarms=[one | ({"acknowledged": True} if one["id"] == name else {}) for one in alarms])
        self.answer(200, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream_ecg(self) -> None:
        if self.ward.ecg is None:
            self.answer(404, b"{}")
            return
        self.begin_stream()
        sent = 0
        try:
            while not self.ward.refusing:
                if sent == len(self.ward.ecg) > 0 and self.ward.ecg_goes_on:  # a sample now and then, so that it lives
                    last = json.loads(self.ward.ecg[-1])
                    first = last["first"] + len(last["samples"])
                    self.ward.ecg.append(json.dumps(last | {"first": first, "samples": [0], "peaks": []}))
                for record in self.ward.ecg[sent:]:
                    self.wfile.write(f"data: {record}\n\n".encode())
                sent = len(self.ward.ecg)
                self.wfile.write(b":\n\n")
                time.sleep(0.2)
        except OSError:
            return  # nobody looks any more

    def stream(self) -> None:
        self.begin_stream()
        try:
            while not self.ward.refusing:
                if not self.ward.silent:
                    self.wfile.write(f"data: {self.ward.body()}\n\n".encode())
                time.sleep(0.2)
        except OSError:
            return  # the page has gone

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True


def shoot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def hr(page: Any, number: int) -> Any:
    return page.get_by_test_id(f"hr-{number:08x}")
