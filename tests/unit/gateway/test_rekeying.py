"""Boards change their link keys as the KME advises, and pads last from one visit to the dock to the next."""

import pytest
from bedside_rig import Rig

from qepa_gateway.domain.rekeying import LONGEST_S, RESERVED_PADS, Schedule, schedule
from qepa_gateway.key_source import link_down, parse_link_status
from qepa_gateway.rekeying import BETWEEN_DOCKS_S
from qepa_uplink.messages import LinkStatus
from qepa_wire import frame
from qepa_wire.payloads import MAX_RATCHET_STEPS, NO_REKEY


def link(rekey_s=30.0, threat_level="normal"):
    return LinkStatus(
        state="running", stored_keys=9, bits_produced=0, bits_consumed=0, rekey_s=rekey_s, threat_level=threat_level
    )


def plan(advised_s=30.0, pads=50, steps=0, starved=False):
    return schedule(advised_s, pads=pads, steps=steps, starved=starved, between_docks_s=BETWEEN_DOCKS_S)


class TestSchedule:
    def test_a_board_rekeys_as_often_as_the_kme_advises_by_steps_that_cost_no_key(self):
        assert [plan(advised).step_s for advised in (30.0, 15.0, 10.0, 112.6)] == [30, 15, 10, 113]

    @pytest.mark.parametrize("pads", [3, 8, 20, 128])
    def test_pads_last_from_dock_to_dock(self, pads):
        left, now_s = pads, 0
        while now_s < BETWEEN_DOCKS_S and (age := plan(pads=left).pad_s) != NO_REKEY:
            left, now_s = left - 1, now_s + age
        assert left >= RESERVED_PADS
        assert now_s >= BETWEEN_DOCKS_S

    def test_a_threat_makes_pads_go_faster_and_a_low_stock_slower(self):
        assert plan(10.0).pad_s == pytest.approx(plan().pad_s / 3, abs=1)
        assert plan(120.0).pad_s == 4 * plan().pad_s

    def test_no_pad_is_begun_while_the_kme_does_not_answer(self):
        # Its HELLO would wait for a key that nobody gives.
        assert plan(None) == plan(None, starved=True) == Schedule(LONGEST_S, NO_REKEY)

    def test_the_last_pads_are_left_to_boots(self):
        assert plan(pads=RESERVED_PADS).pad_s == NO_REKEY
        assert plan(pads=RESERVED_PADS + 1).pad_s < NO_REKEY

    def test_a_ratcheted_key_for_want_of_pads_gives_way_to_the_first_that_comes(self):
        assert plan(pads=1, steps=9, starved=True).pad_s == 30

    def test_steps_are_left_to_boots_too(self):
        assert plan(steps=MAX_RATCHET_STEPS - 1024).step_s == NO_REKEY

    def test_advice_out_of_all_measure_is_bounded(self):
        assert (plan(0.001).step_s, plan(86_400.0).step_s) == (5, LONGEST_S)

    def test_small_changes_are_not_told(self):
        assert Schedule(30, 100).resembles(Schedule(33, 110))
        assert not Schedule(30, 100).resembles(Schedule(15, 100))
        assert not Schedule(30, NO_REKEY).resembles(Schedule(30, 1000))


@pytest.fixture
def ward(tmp_path):
    rig = Rig(tmp_path, patients=2)
    rig.site.gateway.optical_link = link()
    return rig.begin()


def rekeys(board):
    return [payload for type_, payload in board.received if type_ == frame.REKEY]


class TestRekeying:
    def test_a_board_is_told_once_after_its_boot(self, ward):
        board = ward.boards[1]
        assert board.rekey_ages == (30, BETWEEN_DOCKS_S // 3)
        ward.advance(20_000)
        assert len(rekeys(board)) == 1
        board.boot()
        ward.settle()
        assert len(rekeys(board)) == 2

    def test_a_threat_is_told_at_once_and_its_end_too(self, ward):
        ward.site.gateway.optical_link = link(10.0, "high")
        ward.advance(2000)
        assert {board.rekey_ages[0] for board in ward.boards.values()} == {10}
        ward.site.gateway.optical_link = link()
        ward.advance(2000)
        assert {board.rekey_ages[0] for board in ward.boards.values()} == {30}

    def test_epochs_change_under_frames_and_no_frame_is_lost(self, ward):
        board = ward.boards[1]
        reports = len(ward.server.alerts)
        for step in range(4):
            ward.up(board, board.alert(active=step % 2))
            ward.up(board, board.rekey(pad=step == 2))
            ward.advance(2000)
        assert not board.outbox
        assert len(ward.server.alerts) == reports + 4
        assert ward.site.gateway.rekeying.epochs == 2 + 4
        assert not ward.site.refused

    def test_an_order_that_was_lost_is_repeated_and_one_that_is_kept_is_not(self, ward):
        board, other = ward.boards[1], ward.boards[2]
        for _ in range(6):
            ward.advance(30_000)
            ward.up(board, board.alert())  # heard, but it stays in its epoch
            ward.up(other, other.rekey(pad=False))
            ward.settle()
        assert len(rekeys(board)) == 2
        assert len(rekeys(other)) == 1

    def test_a_gateway_that_starts_again_tells_them_again(self, ward):
        board = ward.boards[1]
        ward.site.crash()
        ward.site.start()
        ward.site.gateway.optical_link = link()
        ward.settle()
        ward.advance(2000)
        assert len(rekeys(board)) == 2

    def test_a_gateway_without_a_link_leaves_boards_alone(self, tmp_path):
        rig = Rig(tmp_path, patients=2).begin()
        rig.advance(3000)
        assert not rekeys(rig.boards[1])

    def test_pads_are_not_begun_while_the_kme_is_away_and_the_source_says_so(self, ward):
        board, served = ward.boards[1], ward.site.gateway.boards.get(1)
        ward.up(board, board.rekey(pad=False))
        ward.settle()
        assert served.key_source == "qkd"  # between two pads, as planned
        assert served.key_steps == 1
        ward.site.gateway.optical_link = link_down("kme_down")
        ward.advance(2000)
        assert board.rekey_ages == (LONGEST_S, NO_REKEY)
        assert served.key_source == "ratchet"
        ward.site.gateway.optical_link = link()
        ward.advance(2000)
        assert served.key_source == "qkd"

    def test_a_board_without_pads_ratchets_until_the_dock_has_loaded_some(self, ward):
        board, served = ward.boards[1], ward.site.gateway.boards.get(1)
        board.pads_left = 0
        for _ in range(2):
            ward.up(board, board.rekey(pad=False))
            ward.advance(2000)
        assert served.key_source == "ratchet"
        assert board.rekey_ages == (30, NO_REKEY)
        board.pads_left = 8
        ward.up(board, board.rekey(pad=False))
        ward.advance(2000)
        assert board.rekey_ages == (30, 30)
        ward.up(board, board.rekey())
        ward.advance(2000)
        assert served.key_source == "qkd"
        assert board.rekey_ages == (30, BETWEEN_DOCKS_S // 6)


def test_the_kmes_advice_is_read_and_a_kme_without_any_means_the_usual():
    status = {"stored_key_count": 4, "status_extension": {"threat_level": "high", "rekey_s": 12.5}}
    assert (parse_link_status(status).threat_level, parse_link_status(status).rekey_s) == ("high", 12.5)
    assert parse_link_status({"stored_key_count": 4}).rekey_s == 30
