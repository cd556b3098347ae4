"""Who may do what with which stream, for which purpose, and when: the whole table."""

from dataclasses import replace
from itertools import product

import pytest

from qepa_server.policy import PURPOSES, BoardFacts, ConsentFacts, Stream, decide

NOW_S = 1_800_000_000
BOARD = BoardFacts(7, "p-1", "gw-1")
CARE = ConsentFacts("care", "p-1", NOW_S - 60, NOW_S + 60, withdrawn=False, gateways={7: "gw-1"})
LEARNING = replace(CARE, purpose="learning")


def verdict(stream, purpose, board=BOARD, consents=(), now_s=NOW_S, **rest):
    return decide(stream, purpose, board, consents, 1000 * now_s, **rest).reason


@pytest.mark.parametrize(
    ("consents", "board", "now_s", "reason"),
    [
        ([CARE], BOARD, NOW_S, ""),
        ([], BOARD, NOW_S, "consent"),
        ([CARE], None, NOW_S, "board"),
        ([CARE], replace(BOARD, quarantined=True), NOW_S, ""),
        ([CARE], replace(BOARD, board=8), NOW_S, "consent"),
        ([CARE], replace(BOARD, patient="p-2"), NOW_S, "consent"),
        ([CARE], replace(BOARD, gateway="gw-2"), NOW_S, "consent"),  # it moved: care needs a new consent
        ([CARE], BOARD, NOW_S - 61, "consent"),
        ([CARE], BOARD, NOW_S - 60, ""),
        ([CARE], BOARD, NOW_S + 59, ""),
        ([CARE], BOARD, NOW_S + 60, "consent"),
        ([replace(CARE, withdrawn=True)], BOARD, NOW_S, "consent"),
        ([replace(CARE, withdrawn=True), CARE], BOARD, NOW_S, ""),
        ([LEARNING], BOARD, NOW_S, "consent"),
    ],
)
def test_care(consents, board, now_s, reason):
    assert verdict(Stream.CARE, "care", board, consents, now_s) == reason


@pytest.mark.parametrize(
    ("consents", "board", "now_s", "required", "reason"),
    [
        ([], BOARD, NOW_S, False, ""),
        ([], BOARD, NOW_S, True, "consent"),
        ([LEARNING], BOARD, NOW_S, True, ""),
        ([LEARNING], BOARD, NOW_S + 60, False, "consent"),  # it ran out
        ([replace(LEARNING, withdrawn=True)], BOARD, NOW_S, False, "consent"),
        ([replace(LEARNING, withdrawn=True), LEARNING], BOARD, NOW_S, False, ""),
        ([replace(LEARNING, gateways={8: "gw-1"})], BOARD, NOW_S, False, "consent"),
        ([LEARNING], replace(BOARD, gateway="gw-2"), NOW_S, False, ""),  # a sum is no different elsewhere
        ([replace(LEARNING, patient="p-2")], BOARD, NOW_S, True, "consent"),
        ([CARE], BOARD, NOW_S, True, "consent"),
        ([replace(LEARNING, purpose="statistics", withdrawn=True)], BOARD, NOW_S, False, ""),
        ([], replace(BOARD, quarantined=True), NOW_S, False, "quarantine"),
        ([LEARNING], replace(BOARD, quarantined=True), NOW_S, True, "quarantine"),
        ([], None, NOW_S, False, "board"),
    ],
)
def test_sums(consents, board, now_s, required, reason):
    assert verdict(Stream.AGGREGATE, "learning", board, consents, now_s, consent_required=required) == reason


@pytest.mark.parametrize("quarantined", [False, True])
@pytest.mark.parametrize("consents", [[], [replace(CARE, withdrawn=True)], [replace(LEARNING, withdrawn=True)]])
@pytest.mark.parametrize("required", [False, True])
def test_an_emergency_is_never_held_back(quarantined, consents, required):
    board = replace(BOARD, quarantined=quarantined)
    assert verdict(Stream.ALERT, "emergency", board, consents, consent_required=required) == ""
    assert verdict(Stream.ALERT, "emergency", None) == "board"


def test_a_stream_serves_its_own_purposes_only():
    for stream, purpose in product(Stream, [*frozenset().union(*PURPOSES.values()), "research", ""]):
        allowed = verdict(stream, purpose, consents=[CARE]) != "purpose"
        assert allowed == (purpose in PURPOSES[stream])


@pytest.mark.parametrize(("stream", "purpose"), [(s, p) for s in Stream for p in sorted(PURPOSES[s])])
def test_another_gateway_than_the_boards_has_no_say(stream, purpose):
    assert verdict(stream, purpose, consents=[CARE], gateway="gw-2") == "gateway"
    assert verdict(stream, purpose, consents=[CARE], gateway="gw-1") == ""
