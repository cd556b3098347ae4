"""A release reaches one board, then the ward; what the first board does not bear, the others never get."""

from dataclasses import replace

import pytest
from bedside_rig import Rig
from hypothesis import given
from hypothesis import strategies as st

from qepa_gateway.domain.rollout import Rollout, Stage, Terms, View, advance, resume
from qepa_gateway.health import faults
from qepa_gateway.rollout import StagedRollout

TERMS = Terms(confirm_within_ms=100, soak_ms=20, again_after_ms=50, most_failures=2)
BOARD = View(online=True, version=1, boots=5, heard_ms=0, speaks=True)
NEW = replace(BOARD, version=2)
CRASHED = replace(BOARD, boots=6, crashed=True)


def follow(terms, *moments, state=None):
    """State after each of (time, boards)."""
    state = state or Rollout(2)
    for now_ms, boards in moments:
        state = advance(state, boards, now_ms, terms)
    return state


class TestDomain:
    def test_one_board_then_the_ward(self):
        boards = {1: BOARD, 2: BOARD}
        state = follow(TERMS, (0, boards))
        assert [state.may_have(board) for board in (1, 2)] == [True, False]
        state = follow(TERMS, (10, boards | {1: NEW}), (20, boards | {1: replace(NEW, heard_ms=20)}), state=state)
        assert state.stage is Stage.CANARY
        state = follow(TERMS, (30, boards | {1: replace(NEW, heard_ms=20)}), state=state)
        assert state.stage is Stage.WARD
        assert state.may_have(2)

    def test_a_canary_is_another_board_for_another_release(self):
        boards = dict.fromkeys((3, 4, 9), BOARD)
        assert [follow(TERMS, (0, boards), state=Rollout(version)).canary for version in (2, 3, 4)] == [9, 3, 4]

    @pytest.mark.parametrize(
        ("moments", "why"),
        [
            ([(101, {1: BOARD, 2: BOARD})], "it does not confirm"),
            ([(10, {1: CRASHED, 2: BOARD})], "it crashes before"),
            ([(10, {1: NEW, 2: BOARD}), (15, {1: replace(CRASHED, version=2), 2: BOARD})], "it crashes after"),
            ([(10, {1: NEW, 2: BOARD}), (15, {1: BOARD, 2: BOARD})], "it goes back by itself"),
            ([(10, {1: NEW, 2: BOARD}), (111, {1: NEW, 2: BOARD})], "it goes silent"),
        ],
    )
    def test_a_failure_holds_the_release_back_and_another_board_tries_it_later(self, moments, why):
        state = follow(TERMS, (0, {1: BOARD, 2: replace(BOARD, online=False)}), *moments)
        at_ms = moments[-1][0]
        assert (state.failed, state.canary) == ((1,), None), why
        assert not any(state.may_have(board) for board in (1, 2))
        boards = {1: BOARD, 2: BOARD}
        assert follow(TERMS, (at_ms + 49, boards), state=state).canary is None
        state = follow(TERMS, (at_ms + 51, boards), state=state)
        assert state.canary == 2
        state = follow(TERMS, (at_ms + 200, boards), state=state)
        assert state.stage is Stage.WITHDRAWN
        assert not state.may_have(2)

    def test_a_board_that_need_not_speak_is_not_silent(self):
        quiet = {1: replace(BOARD, speaks=False)}
        state = follow(TERMS, (0, quiet), (10, {1: replace(NEW, speaks=False)}), (31, {1: replace(NEW, speaks=False)}))
        assert state.stage is Stage.WARD

    def test_firmware_is_confirmed_after_a_restart_and_not_while_it_is_on_trial(self):
        terms = replace(TERMS, reboots=True)
        # It starts again by itself; what is on trial does not count yet.
        state = follow(terms, (0, {1: BOARD}), (10, {1: CRASHED}), (20, {1: replace(CRASHED, version=2)}))
        assert state.confirmed_ms == 20
        rolled_back = replace(BOARD, boots=9)
        assert follow(terms, (30, {1: rolled_back}), state=state).failed == (1,)

    def test_power_that_went_and_came_back_is_no_failure(self):
        away = replace(BOARD, boots=6)
        state = follow(TERMS, (0, {1: BOARD}), (10, {1: away}), (20, {1: replace(NEW, boots=6)}))
        state = follow(
            TERMS, (30, {1: replace(NEW, boots=7)}), (40, {1: replace(NEW, boots=7, heard_ms=40)}), state=state
        )
        assert state.stage is Stage.WARD

    def test_what_a_canary_did_while_the_gateway_was_down_is_not_held_against_it(self):
        state = resume(follow(TERMS, (0, {1: BOARD})), 5000)
        assert follow(TERMS, (5000, {1: CRASHED}), (5050, {1: CRASHED}), state=state).canary == 1
        assert follow(TERMS, (5000, {1: CRASHED}), (5101, {1: CRASHED}), state=state).failed == (1,)

    def test_where_it_is_so_set_all_get_it_at_once(self):
        assert follow(replace(TERMS, staged=False), (0, {})).may_have(7)

    def test_a_board_that_is_moved_away_is_no_failure(self):
        state = follow(TERMS, (0, {1: BOARD}), (10, {}))
        assert (state.canary, state.failed) == (None, ())

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 80),
                st.dictionaries(
                    st.integers(1, 4),
                    st.builds(
                        View,
                        st.booleans(),
                        st.integers(1, 2),
                        st.integers(0, 2),
                        st.integers(0, 99),
                        st.booleans(),
                        st.booleans(),
                    ),
                ),
            ),
            max_size=40,
        )
    )
    def test_the_ward_gets_nothing_that_no_board_has_confirmed(self, moments):
        state, now_ms, confirmed = Rollout(2), 0, False
        for after_ms, boards in moments:
            now_ms += after_ms
            after = advance(state, boards, now_ms, TERMS)
            confirmed = confirmed or (state.canary in boards and boards[state.canary].version >= 2)
            assert after.stage is not Stage.WARD or confirmed
            assert len(after.failed) <= TERMS.most_failures
            assert (after.stage is Stage.WITHDRAWN) == (len(after.failed) == TERMS.most_failures)
            assert after.failed[: len(state.failed)] == state.failed
            state = after


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=4).begin()


def versions(rig):
    return [board.model for board in rig.boards.values()]


class TestModels:
    def test_the_ward_waits_for_the_first_board(self, ward):
        ward.server.broadcast(ward.server.release(4))
        ward.settle(4)
        assert sorted(versions(ward)) == [0, 0, 0, 4]
        told = ward.site.gateway.status().model
        assert (told.version, told.stage) == (4, "canary")
        ward.advance(4000)
        assert versions(ward) == [4] * 4
        assert ward.server.status["gw-1"].model.stage == "ward"

    def test_a_model_that_boards_do_not_take_is_withdrawn_and_the_next_one_starts_anew(self, ward):
        for board in ward.boards.values():
            board.take_model = lambda _release: None
        ward.server.broadcast(ward.server.release(4))
        for minute in range(40):  # three boards of more than three minutes each, ten minutes in between
            for board in ward.boards.values():
                ward.up(board, board.alert(active=minute % 2))
            ward.advance(60_000, every_ms=60_000)
        gateway = ward.site.gateway
        assert gateway.models.rollout.withdrawn
        assert "rollout" in faults(gateway)
        assert versions(ward) == [0] * 4
        for board in ward.boards.values():
            del board.take_model
        ward.server.broadcast(ward.server.release(5))
        ward.advance(4000)
        assert versions(ward) == [5] * 4
        assert not faults(gateway)

    def test_a_restart_goes_on_where_it_was(self, ward):
        ward.server.broadcast(ward.server.release(4))
        ward.pump()
        ward.pump()
        before = ward.site.gateway.models.rollout.state
        assert before.stage is Stage.CANARY
        ward.site.crash()
        ward.site.start()
        after = ward.site.gateway.models.rollout.state
        assert (after.version, after.stage, after.canary) == (before.version, before.stage, before.canary)
        for board in ward.boards.values():  # the power failed for all
            ward.up(board, board.boot())
        ward.settle()
        ward.advance(4000)
        assert versions(ward) == [4] * 4

    def test_a_release_from_before_roll_outs_were_staged_is_for_all(self, ward):
        staged = StagedRollout(
            "other",
            ward.site.spool,
            ward.site.gateway.boards,
            lambda: 0,
            TERMS,
            version_of=lambda _: 0,
            speaks=lambda _: 0,
        )
        assert staged.may_have(ward.site.gateway.boards.get(1))
        assert not staged.tick()
