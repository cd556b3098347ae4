"""What the flasher reads from a gateway's bedside: authenticated or not, decrypted or not, never a value."""

from typing import Any

import httpx
import pytest

from qepa_tools.board.bedside import Bedside, Seen
from qepa_tools.board.first_sample import Running
from qepa_tools.errors import ToolError

BOARD, STARTED_MS = 0x2A, 10_000


def state(now_ms: int = 20_000, **board: Any) -> dict[str, Any]:
    known = {
        "board": f"{BOARD:08x}",
        "last_seen_ms": 15_000,
        "boots": 5,
        "key_source": "qkd",
        "consent": False,
        "vitals": None,
    }
    return {"now_ms": now_ms, "gateway": "gw-1", "boards": [known | board]}


def vitals(**changes: Any) -> dict[str, Any]:
    measures = [{"name": "heart_rate", "value": 71}, {"name": "spo2", "value": None, "reason": "settling"}]
    return {"boots": 5, "age_ms": 900, "measures": measures} | changes


def bedside(*answers: Any) -> Bedside:
    """A bedside that gives these answers, then the last of them for ever; its clock is that number of answers."""
    asked = 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        found = answers[min(asked, len(answers) - 1)]
        asked += 1
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://bedside")
    return Bedside(http, clock=lambda: asked)


def test_a_frame_from_before_the_start_authenticates_nothing() -> None:
    assert bedside(state(last_seen_ms=STARTED_MS)).seen(BOARD, STARTED_MS) == Seen("gw-1")
    assert bedside(state()).seen(0x2B, STARTED_MS) == Seen("gw-1"), "another board's frame does not either"


def test_without_a_consent_authenticated_is_all() -> None:
    seen = bedside(state()).await_sample(BOARD, STARTED_MS, until=9)
    assert seen == Seen("gw-1", True, "qkd", False, ())
    assert seen.is_all
    assert "nobody may decrypt" in seen.summary


def test_with_a_consent_a_decrypted_sample_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    silent, heard = state(last_seen_ms=0), state(consent=True)
    seen = bedside(silent, heard, heard, state(consent=True, vitals=vitals())).await_sample(BOARD, STARTED_MS, until=9)
    assert seen == Seen("gw-1", True, "qkd", True, ("heart_rate", "spo2"))
    assert "heart_rate, spo2" in seen.summary
    assert "71" not in seen.summary
    late = bedside(silent).await_sample(BOARD, STARTED_MS, until=3)
    assert not late.authenticated
    assert "not heard" in late.summary


@pytest.mark.parametrize(
    "old", [vitals(boots=4), vitals(age_ms=5001), vitals(age_ms=10_000)], ids=["boot", "stale", "before"]
)
def test_a_sample_of_an_earlier_start_is_not_the_first_of_this(old: dict[str, Any]) -> None:
    assert bedside(state(consent=True, vitals=old)).seen(BOARD, STARTED_MS).opened == ()


@pytest.mark.parametrize(
    "answer", [httpx.Response(401), httpx.Response(200, text="<html>"), httpx.Response(200, json={"ok": True})]
)
def test_what_is_no_bedside_is_one_sentence(answer: httpx.Response) -> None:
    with pytest.raises(ToolError, match=r"does not answer|no gateway's bedside"):
        bedside(answer).now_ms()


def test_the_summary_says_how_far_it_came() -> None:
    running = Running(True, [("running", 640)], True, True, acknowledged=3, seen=Seen("gw-1", True, "qkd"))
    assert "authenticated 3 frames" in running.summary
    assert "gw-1 has authenticated it (key: qkd)" in running.summary
    assert running.record["seen"]["authenticated"]
    assert "does not answer" in Running(True, [], True, True, seen="the bedside does not answer").summary
