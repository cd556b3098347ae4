"""Rounds end to end between boards, gateways and server, without sockets."""

import itertools
import random
from collections import Counter

import pytest
from bedside_rig import STREAMS, Rig

from qepa_gateway.domain.rounds import Phase
from qepa_gateway.errors import GatewayError
from qepa_gateway.transport import Outgoing
from qepa_uplink.envelope import parse, peek, sign
from qepa_uplink.messages import CellVoid, Count, Partial, RoundStart
from qepa_uplink.topics import to_gateway
from qepa_wire import frame


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path).begin()


@pytest.fixture
def three(tmp_path):
    return Rig(tmp_path, gateways=3).begin()


def test_one_gateway_sums_twelve_patients_exactly(ward):
    ward.run_round(1)
    for stream, n_words in STREAMS:
        (partial,) = ward.server.partials_of(1, stream)
        assert partial.contributors == tuple(range(1, 13))
        assert (partial.patients, partial.n_words) == (12, n_words)
        assert ward.server.open([partial]) == ward.expected(1, stream)
    assert not ward.site.refused
    assert not any(board.outbox for board in ward.boards.values())
    assert len(ward.site.gateway.link.outbox) == 0


def test_three_gateways_open_only_together(three):
    three.run_round(1)
    for stream, _ in STREAMS:
        partials = three.server.partials_of(1, stream)
        assert [len(each.contributors) for each in partials] == [4, 4, 4]
        assert three.server.open(partials) == three.expected(1, stream)
        for size in (1, 2):
            assert not any(three.server.opens(list(some)) for some in itertools.combinations(partials, size))
    assert not any(site.refused for site in three.sites.values())


def test_rounds_follow_each_other(three):
    for number in (1, 2, 3):
        three.run_round(number)
        assert three.server.open(three.server.partials_of(number, 2)) == three.expected(number, 2)


def test_a_patient_with_two_boards_counts_once(tmp_path):
    rig = Rig(tmp_path, patients=24)
    for number, board in rig.boards.items():
        board.patient = f"p-{(number + 1) // 2}"
    rig.begin()
    rig.run_round(1)
    (partial,) = rig.server.partials_of(1, 1)
    assert (len(partial.contributors), partial.patients) == (24, 12)
    assert rig.server.open([partial]) == rig.expected(1, 1)


def test_a_silent_board_is_not_in_the_list(ward):
    ward.boards[7].deaf_to_rounds = True
    ward.run_round(1)
    assert not ward.server.partials_of(1, 1)  # still waiting for it
    ward.advance(8000)
    (partial,) = ward.server.partials_of(1, 1)
    assert 7 not in partial.contributors
    assert ward.server.open([partial]) == ward.expected(1, 1)


def test_a_board_is_not_asked_for_streams_that_it_is_barred_from(ward):
    ward.server.barred = {3: (1,), 4: (1, 2)}
    ward.server.welcome("gw-1")
    ward.run_round(1)
    (statistics,), (update,) = ward.server.partials_of(1, 1), ward.server.partials_of(1, 2)
    assert set(range(1, 13)) - set(statistics.contributors) == {3, 4}
    assert set(range(1, 13)) - set(update.contributors) == {4}
    assert peek(parse(ward.server.readies[1]["gw-1"])).patients == 11
    assert ward.server.open([statistics]) == ward.expected(1, 1)
    ward.server.barred = {}
    ward.server.welcome("gw-1")
    ward.run_round(2)
    assert len(ward.server.partials_of(2, 1)[0].contributors) == 12


def test_a_late_vector_is_acknowledged_counted_and_not_used(ward):
    late = ward.boards[7]
    late.deaf_to_rounds = True
    ward.run_round(1)
    ward.advance(8000)
    late.vector(1, 1, 16)
    ward.settle()
    assert not late.outbox
    assert ward.site.refused == {"late": 1}
    assert 7 not in ward.server.partials_of(1, 1)[0].contributors


def test_too_few_patients_void_the_cell(ward):
    for number in (1, 2, 3):
        ward.boards[number].deaf_to_rounds = True
    ward.run_round(1)
    ward.advance(8000)
    void = ward.server.decided[1, 1, 1, "gw-1"]
    assert isinstance(void, CellVoid)
    assert void.reason == "min_group: 9 patients, 10 needed"


def test_too_few_patients_over_three_gateways_void_the_cell_everywhere(three):
    for number in (1, 5, 9):
        three.boards[number].deaf_to_rounds = True
    three.run_round(1)
    three.advance(16_000)
    decided = [message for (_, _, stream, _), message in three.server.decided.items() if stream == 1]
    assert len(decided) == 3
    assert all(isinstance(each, CellVoid) and "9 patients" in each.reason for each in decided)


def test_a_gateway_that_falls_silent_voids_its_cells(three):
    three.open_round(1)
    three.sites["gw-2"].crash()
    three.start_round(1)
    three.advance(16_000)
    for name in ("gw-1", "gw-3"):
        void = three.server.decided[1, 1, 1, name]
        assert isinstance(void, CellVoid)
        assert "gw-2" in void.reason


def test_offline_patients_are_not_promised(tmp_path):
    rig = Rig(tmp_path)
    rig.boards[12].boot = lambda **_: b""  # never switched on
    rig.begin()
    rig.open_round(1)
    assert rig.site.gateway.rounds._active[1].state.n_patients == 11


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"min_group": 9}, "min_group"),
        ({"n_max": 3_000_000 // 100, "q": 1}, "quantizer"),
        ({"cell_target": 9}, "cells"),
    ],
)
def test_an_unsafe_opening_is_refused(ward, changes, reason):
    if changes.pop("q", None):
        streams = ward.server.round_open(1).streams
        changes["streams"] = tuple(each.model_copy(update={"q_max": 1 << 20}) for each in streams)
    ward.open_round(1, **changes)
    assert ward.site.refused == {reason: 1}
    assert not ward.server.readies


def test_a_round_is_opened_once(ward):
    ward.open_round(5)
    ready = ward.server.readies[5]["gw-1"]
    ward.open_round(5)  # repeated: the same Ready comes again
    assert ward.server.readies[5]["gw-1"] == ready
    ward.open_round(5, collect_within_ms=1)
    ward.open_round(4)
    assert ward.site.refused == {"equivocation": 1, "round_old": 1}


def test_a_second_start_is_refused(three):
    three.run_round(1)
    start = three.server.round_start(1)
    three.server.send("gw-1", start)
    three.settle(2)
    three.advance(20_000)  # the round is closed
    three.server.send("gw-1", start)
    three.settle(2)
    assert not three.sites["gw-1"].refused
    three.open_round(2)
    good = three.server.round_start(2)
    three.server.send("gw-1", good)
    three.server.send("gw-1", RoundStart(round=2, server_nonce=good.server_nonce, readies=good.readies[:2]))
    three.settle(2)
    assert three.sites["gw-1"].refused == {"equivocation": 1}


def test_a_start_must_fit_the_commitment_and_hold_the_own_ready(three):
    three.open_round(1)
    good = three.server.round_start(1)
    bad = [
        good.model_copy(update={"server_nonce": bytes(32)}),
        good.model_copy(update={"readies": good.readies[1:]}),
        good.model_copy(update={"readies": (*good.readies, good.readies[1])}),
        good.model_copy(update={"readies": (*good.readies[:2], good.readies[2][:-1] + b"x")}),
    ]
    for message in bad:
        three.server.send("gw-1", message)
    three.settle(2)
    assert three.sites["gw-1"].refused == {"commitment": 1, "ready": 2, "signature": 1}
    three.start_round(1)
    three.advance(4000)
    assert three.server.open(three.server.partials_of(1, 1)) == three.expected(1, 1)


def test_an_uncertified_gateway_cannot_be_slipped_into_a_start(three):
    from bedside_rig import Root, identity
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    from qepa_uplink.messages import Directory, Ready

    stranger = Root(MLDSA65PrivateKey.generate()).issue("gw-9", "gateway")
    three.open_round(1)
    good = three.server.round_start(1)
    commitment = three.server.round_open(1).commitment
    fake = sign(stranger, Ready(round=1, gateway="gw-9", nonce=bytes(32), commitment=commitment, patients=40))
    three.server.send("gw-1", Directory(certificates=(stranger.certificate,)))
    three.server.send("gw-1", good.model_copy(update={"readies": (*good.readies, fake)}))
    three.settle(2)
    assert three.sites["gw-1"].refused == {"signature": 1, "certificate": 1}
    assert identity("gw-1", "gateway").name == "gw-1"


def test_a_second_count_is_refused(three):
    from bedside_rig import identity

    three.boards[1].deaf_to_rounds = True  # gw-1 waits, so that the counts of the others come first
    three.open_round(1)
    three.start_round(1)
    peer = identity("gw-2", "gateway")
    lie = Count(round=1, cell=1, stream=1, gateway="gw-2", patients=30, boards=30, contributors_digest=bytes(32))
    three.deliver(Outgoing(to_gateway("gw-1"), sign(peer, lie)))
    forged = lie.model_copy(update={"gateway": "gw-3"})
    three.deliver(Outgoing(to_gateway("gw-1"), sign(peer, forged)))
    three.settle(2)
    assert three.sites["gw-1"].refused == {"equivocation": 1, "count": 1}


def test_counts_and_offers_that_the_broker_loses_are_said_again(three):
    dropped = Counter()

    def lose(message):
        if message.topic != to_gateway("gw-2") or message.payload[:2] != b"QU":
            return False
        parsed = parse(message.payload)
        if parsed.sender == "server":
            return False
        kind = (parsed.sender, peek(parsed).type)
        dropped[kind] += 1
        return dropped[kind] <= 2

    three.lose = lose
    three.run_round(1)
    three.advance(6000)
    assert {kind for _, kind in dropped} == {"pair_offer", "count", "pair_wanted"}
    assert three.server.open(three.server.partials_of(1, 2)) == three.expected(1, 2)


def test_vectors_that_were_not_asked_for_are_refused(ward):
    ward.boards[1].deaf_to_rounds = True
    ward.open_round(1)
    ward.start_round(1)
    board = ward.boards[1]
    board.vector(1, 1, 17)
    board.vector(1, 2, 72, model=3)
    board.vector(9, 1, 16)
    ward.settle()
    assert ward.site.refused == {"words": 1, "model": 1, "round": 1}
    board.vector(1, 1, 16)
    board.vector(1, 1, 16)
    ward.settle()
    assert ward.site.refused["vector"] == 1
    assert not board.outbox  # all of them acknowledged: the board must not send them for ever


def test_an_unacknowledged_partial_is_sent_again_with_the_same_bytes(ward):
    ward.server.acknowledge = False
    ward.run_round(1)
    ward.site.crash()
    ward.site.start()
    ward.server.acknowledge = True
    ward.advance(6000)
    assert [len(sent) for sent in ward.server.submitted_bytes.values()] == [1, 1]
    assert len(ward.site.gateway.link.outbox) == 0


def test_a_release_reaches_boards_that_have_an_older_model(ward):
    ward.server.broadcast(ward.server.release(3))
    ward.advance(4000)
    assert {board.model for board in ward.boards.values()} == {3}
    ward.server.broadcast(ward.server.release(2))
    ward.settle(2)
    assert ward.site.refused == {"model": 1}
    ward.boards[4].model = 0
    ward.boards[4].boot()
    ward.settle(4)
    assert ward.boards[4].model == 3
    ward.run_round(1, model_version=3)
    assert ward.server.open(ward.server.partials_of(1, 2)) == ward.expected(1, 2)


def test_orders_are_repeated_while_vectors_are_missing(ward):
    ward.boards[5].deaf_to_rounds = True
    ward.run_round(1)
    ward.boards[5].deaf_to_rounds = False
    ward.advance(4000)
    (partial,) = ward.server.partials_of(1, 1)
    assert 5 in partial.contributors
    assert [type_ for type_, _ in ward.boards[5].received].count(frame.ROUND) >= 2
    assert isinstance(partial, Partial)


def test_a_large_gateway_has_several_cells_and_each_patient_is_in_one(tmp_path):
    rig = Rig(tmp_path, patients=30).begin()
    rig.run_round(1)
    for stream, _ in STREAMS:
        partials = rig.server.partials_of(1, stream)
        assert len(partials) == 2
        assert sorted(board for each in partials for board in each.contributors) == sorted(rig.boards)
        for each in partials:
            assert each.patients >= 10
            assert rig.server.open([each]) == rig.expected(1, stream, list(each.contributors))


@pytest.mark.parametrize("seed", range(4))
def test_a_broker_that_loses_repeats_and_shuffles_makes_no_wrong_sum(tmp_path, seed):
    rng = random.Random(seed)
    rig = Rig(tmp_path, gateways=3)
    rig.lose = lambda _message: rng.random() < 0.2
    pump = rig.pump

    def shuffled():
        rig.queue += [message for message in rig.queue if rng.random() < 0.1]
        rng.shuffle(rig.queue)
        pump()

    rig.pump = shuffled
    for _ in range(20):
        rig.advance(3000)
        if all(len(site.gateway.boards.served()) == 4 for site in rig.sites.values()):
            break
    for board in rig.boards.values():
        board.boot()
    rig.advance(8000)
    opened = 0
    for number in (1, 2, 3):
        while len(rig.server.readies.get(number, {})) < 3:
            rig.open_round(number)
        start = rig.server.round_start(number)
        for _ in range(6):
            rig.server.broadcast(start)
            rig.settle(2)
        rig.advance(20_000)
        for stream, _ in STREAMS:
            partials = rig.server.partials_of(number, stream)
            if len(partials) == 3:
                opened += 1
                boards = [board for each in partials for board in each.contributors]
                assert len(boards) == len(set(boards)) >= 10
                assert rig.server.open(partials) == rig.expected(number, stream, boards)
    assert opened >= 3
    assert all(len(sent) == 1 for sent in rig.server.submitted_bytes.values())


def test_a_share_takes_no_step_that_the_table_does_not_have(ward):
    ward.boards[1].deaf_to_rounds = True
    ward.run_round(1)
    share = ward.site.gateway.rounds._active[1].state.shares[1, 1]
    with pytest.raises(GatewayError, match="from collecting to submitted"):
        share.move(Phase.SUBMITTED)
