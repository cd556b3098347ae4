"""The ward's terminal table says what the server decided."""

from io import StringIO

import pytest
from rich.console import Console

from qepa_tools.ward.screen import ward_view

STATISTICS = {
    "purpose": "statistics",
    "noise": False,
    "budget_epsilon": None,
    "delta": 1e-6,
    "worst": {"spent_epsilon": None, "left": None},
    "median": {"spent_epsilon": 0.0, "left": None},
}
LEARNING = {
    "purpose": "learning",
    "noise": True,
    "budget_epsilon": 8.0,
    "delta": 1e-6,
    "worst": {"spent_epsilon": 7.412, "left": 0.0839},
    "median": {"spent_epsilon": 4.1, "left": 0.71},
}
LINK = {
    "state": "running",
    "qber": 0.021,
    "stored_keys": 1412,
    "bits_produced": 5,
    "bits_consumed": 3,
    "threat_level": "elevated",
    "rekey_s": 15.0,
}
GATEWAY = {
    "name": "gw-1",
    "online": True,
    "link": LINK,
    "refused": {},
    "spool": 0,
    "rollouts": [{"kind": "model", "version": 7, "stage": "canary", "canary": "0000000a", "failed": 0, "reason": ""}],
}
HELD = {"kind": "patient", "name": "p-1-7", "round": 41, "sentence": "adds 9.4 to the energy of sums"}


def shown(width=200, **changes):
    state = {
        "alarms": [],
        "boards": [],
        "gateways": [GATEWAY],
        "rounds": [],
        "round": None,
        "privacy": [STATISTICS, LEARNING],
        "not_asked_for": [],
        "quarantines": [],
        "audit": {"entries": 120, "kept": {"gw-1": 118, "gw-2": 110}, "contradicted": {}, "refused": {}},
    }
    console = Console(width=width, record=True, file=StringIO())
    console.print(ward_view(state | changes, "pace", "simulated"))
    return " ".join(console.export_text().replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        "statistics none: sums are exact no limit set no bound epsilon 0",
        "learning in each sum epsilon 8 at delta 1e-06 epsilon 7.412, 8.3% left epsilon 4.1, 71.0% left",
        "elevated 15 s",
        "v7 one board first (0000000a)",
        "audit log: 120 entries, 2 gateways countersigned 110 or more",
    ],
)
def test_budgets_links_roll_outs_and_the_audit_log_are_shown(words):
    assert words in shown()


def test_what_needs_a_person_is_said():
    text = shown(
        not_asked_for=["learning: 4 patients have budget and have not withdrawn, min_group is 10"],
        quarantines=[HELD],
        audit={
            "entries": 9,
            "kept": {},
            "contradicted": {"gw-1": 118},
            "refused": {"gw-1": "x", "gw-2": "it went back"},
        },
    )
    assert "not asked for: learning: 4 patients" in text
    assert "quarantined: patient p-1-7 since round 41: adds 9.4" in text
    assert "gw-1 countersigned entry 118 of another log than this" in text
    assert "gw-2 refuses it: it went back" in text
    assert "gw-1 refuses" not in text


BOARD = {
    "board": "0000002a",
    "patient": "patient-101",
    "gateway": "gw-1",
    "online": True,
    "consent": True,
    "vitals": {
        "hr_bpm": 77,
        "quality_percent": 92,
        "lead_off": False,
        "asystole": False,
        "beat_class": "N",
        "beats": 81_234,
        "age_ms": 300,
    },
    "key_source": "ratchet",
    "pads": 118,
    "model_version": 7,
}


def test_a_screen_of_80_columns_says_who_is_who_and_cuts_no_figure():
    seen = shown(80, boards=[BOARD])
    for whole in ("0000002a", "patient-101", "77/min", "92%", "81234", "ratchet", "1,412"):
        assert whole in seen
    assert "…" not in seen
