"""Why a gateway's model called a beat so: under the same consent as findings, in memory only, for minutes."""

import asyncio

import httpx
import numpy as np
import pytest
from hospital_rig import Rig, ward

from qepa_server.api.app import create_app
from qepa_server.care.explained import STALE_MS
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import NUMBERS
from qepa_uplink.messages import LEAD_LENGTH, LEAD_STEPS, ExplainedBeat

CONSENT = bytes(range(16))
SHARES = dict(zip(PLAYERS, (20, 480, 110, 0, 250, 60, -10), strict=True))


def explained(rig, board, *, age_ms=0, numbers=(), shares=SHARES, **changes):
    given = {"height": 400, "breadth": 250, "unlike_r": 620, "pre_to_usual": -1000} | dict(numbers)
    whole = {
        "board": board.number,
        "consent_id": CONSENT,
        "boots": 1,
        "t_ms": 5000,
        "received_ms": rig.now - age_ms,
        "model": "ecg-beats",
        "version": 3,
        "answer": "V",
        "probabilities": (55, 10, 930, 5),
        "shares": tuple(dict(shares).values()),
        "numbers": tuple(given.get(name, 0) for name in NUMBERS),
        "beat": np.arange(-64, 64, dtype=np.int8).tobytes(),
        "usual": bytes(LEAD_LENGTH),
    }
    return ExplainedBeat(**whole | changes)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    rig.hospital.consents.accept(rig.consent(board_of(rig), CONSENT))
    rig.pump()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def send(rig, message, gateway="gw-1"):
    rig.gateways[gateway].seal(message)
    rig.pump()


def in_state(rig, board):
    return next(b for b in rig.state()["boards"] if b["board"] == f"{board.number:08x}")["explained"]


async def asked(rig, path):
    app = create_app(rig.hospital, host="localhost", stopping=asyncio.Event())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get(f"/api/boards/{path}/beat")
        return answer.status_code, answer.json()


def test_the_state_says_that_there_is_one_for_five_minutes(rig):
    board = board_of(rig)
    assert in_state(rig, board) is None
    send(rig, explained(rig, board, age_ms=2000))
    assert in_state(rig, board) == {
        "number": 1,
        "beat": "V",
        "model": "ecg-beats",
        "version": 3,
        "source": "gateway model ecg-beats v3",
        "age_ms": 2000,
    }
    rig.now += STALE_MS - 2000
    assert in_state(rig, board)["age_ms"] == STALE_MS
    rig.now += 1
    assert in_state(rig, board) is None


async def test_the_whole_gives_reasons_that_add_up_and_both_beats(rig):
    board = board_of(rig)
    send(rig, explained(rig, board))
    status, whole = await asked(rig, f"{board.number:08x}")
    assert status == 200
    assert (whole["board"], whole["answer"], whole["number"]) == (f"{board.number:08x}", "V", 1)
    assert whole["probabilities"] == {"N": 0.055, "S": 0.01, "V": 0.93, "F": 0.005}
    assert [(r["name"], r["points"], r["edges_ms"]) for r in whole["reasons"][:3]] == [
        ("QRS", 48.0, [-80, 120]),
        ("RR before", 25.0, None),
        ("T", 11.0, [120, 400]),
    ]
    assert "40 % taller" in whole["reasons"][0]["words"]
    assert whole["reasons"][1]["words"] == "came 25 % early by the usual interval"
    assert {r["name"] for r in whole["reasons"]} == set(PLAYERS)
    assert whole["lead_points"] == 87.5
    assert whole["start_points"] + sum(r["points"] for r in whole["reasons"]) == pytest.approx(87.5)
    assert (whole["fs_hz"], whole["first_ms"], whole["age_ms"]) == (125, -448, 0)
    assert whole["beat"] == [round(n / LEAD_STEPS, 3) for n in range(-64, 64)]
    assert whole["usual"] == [0] * LEAD_LENGTH


async def test_it_goes_with_the_consent_that_it_came_under(rig):
    board = board_of(rig)
    send(rig, explained(rig, board))
    rig.hospital.consents.accept(rig.consent(board, bytes(16)))
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    assert in_state(rig, board) is None
    assert (await asked(rig, f"{board.number:08x}"))[0] == 404
    send(rig, explained(rig, board))
    assert rig.hospital.refused["consent"] == 1
    assert in_state(rig, board) is None


def test_nothing_is_taken_without_a_consent_or_from_another_gateway(rig):
    board, other = board_of(rig), board_of(rig, "gw-2")
    send(rig, explained(rig, board), gateway="gw-2")
    send(rig, explained(rig, other), gateway="gw-2")  # the consent is not for it
    send(rig, explained(rig, board).model_copy(update={"board": 9999}))
    send(rig, explained(rig, board, consent_id=bytes(16)))
    assert in_state(rig, board) is None
    assert in_state(rig, other) is None
    assert rig.hospital.refused.total() == 4
    assert rig.hospital.refused["payload"] == 0


def test_the_newest_is_shown_and_what_comes_late_or_twice_is_not(rig):
    board = board_of(rig)
    send(rig, explained(rig, board))
    rig.now += 1000
    send(rig, explained(rig, board))  # the same beat with a new time
    send(rig, explained(rig, board, t_ms=1000, age_ms=4000))
    assert rig.hospital.refused["replay"] == 2
    send(rig, explained(rig, board, t_ms=6000, answer="S", probabilities=(0, 800, 200, 0)))
    assert (in_state(rig, board)["number"], in_state(rig, board)["beat"]) == (2, "S")


IMPOSSIBLE = [
    {"probabilities": (55, 10, 800, 5)},  # not 1 in all
    {"probabilities": (555, 10, 630, 5)},
    {"probabilities": (-100, 100, 1000, 0)},
    {"probabilities": (1500, -500, 0, 0), "answer": "S"},
    {"answer": "F"},  # not the likeliest
    {"probabilities": (600, 10, 385, 5)},  # N is
    {"shares": SHARES | {"QRS": 1600}},  # the usual beat would lead by less than -1
    {"shares": SHARES | {"QRS": -1000}},
    {"model": "glucose-30"},
    {"numbers": {"unlike_q": -1}},
    {"numbers": {"unequal": 1001}},
    {"numbers": {"breadth": -1}},
]


def test_what_cannot_be_is_refused(rig):
    board = board_of(rig)
    for count, changes in enumerate(IMPOSSIBLE, 1):
        send(rig, explained(rig, board, **changes))
        assert rig.hospital.refused == {"payload": count}, changes
    assert in_state(rig, board) is None


def test_shares_as_far_apart_as_two_beats_can_be_are_taken(rig):
    board, even = board_of(rig), {"probabilities": (0, 0, 500, 500)}
    for t_ms, share in enumerate((1500, -500)):  # the usual beat: N for certain, V for certain
        send(rig, explained(rig, board, shares=dict.fromkeys(PLAYERS, 0) | {"QRS": share}, t_ms=t_ms, **even))
    assert in_state(rig, board)["number"] == 2


@pytest.mark.parametrize(("path", "status"), [("0000ffff", 422), ("x", 422), ("{gw-2}", 404), ("{gw-1}", 404)])
async def test_where_there_is_none_it_is_said_in_words(rig, path, status):
    number = f"{board_of(rig, path[1:-1]).number:08x}" if path.startswith("{") else path
    found, body = await asked(rig, number)
    assert found == status
    if path == "{gw-1}":
        assert body == {"error": "beat", "detail": f"no beat of {number} was explained lately"}
        assert not rig.hospital.refused
