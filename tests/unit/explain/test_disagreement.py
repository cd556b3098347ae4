"""A version that answers otherwise than the one before is noticed; patients who come, go or have their days are not."""

import numpy as np
import pytest

from qepa_server.explain.disagreement import (
    FOLLOWED_MINUTES,
    LEAST_BOARDS,
    LEAST_MINUTES,
    WATCHED_MINUTES,
    Disagreement,
)

OLD, NEW, NEWER = b"old", b"new", b"newer"


class Ward:
    """Boards whose differences are normal about a mean of their own; ``worse`` is added to all."""

    def __init__(self, boards: int = 12, source: int = 1) -> None:
        self.rng = np.random.default_rng(3)
        self.boards = range(boards)
        self.source = source
        self.at = 0
        self.of = Disagreement("board", self.rng.random)

    def minutes(self, n: int, version: int, digest: bytes, worse: float = 0.0, *, learned: bool = True) -> list[int]:
        """Let n minutes pass; which of them had an alarm."""
        raised = []
        for k in range(n):
            self.at += 60_000
            told = {
                board: (self.source, tuple(self.rng.normal(0.05 * (board % 7) + worse, 0.03, 2)))
                for board in self.boards
            }
            signal = self.of.add(self.at, version, digest, told, learned=learned)
            if signal is not None:
                assert (signal.name, signal.version) == ("board", version)
                if signal.raised:
                    raised.append(k)
        return raised


@pytest.fixture
def ward() -> Ward:
    ward = Ward()
    ward.minutes(100, 1, OLD)
    return ward


def test_a_version_that_answers_as_the_one_before_holds_after_an_hour(ward: Ward) -> None:
    assert ward.of.standing == "usual"
    assert ward.minutes(WATCHED_MINUTES - 1, 2, NEW) == []
    assert ward.of.standing == "watched"
    assert ward.minutes(1, 2, NEW) == []
    assert ward.of.standing == "usual"
    assert ward.minutes(30, 3, OLD, learned=False) == []  # is another one than what holds now: watched
    assert ward.of.standing == "watched"


@pytest.mark.parametrize("worse", [0.05, -0.05])
def test_a_version_that_answers_otherwise_is_noticed_within_minutes(ward: Ward, worse: float) -> None:
    raised = ward.minutes(40, 2, NEW, worse)
    assert 3 < raised[0] < 20
    assert raised == list(range(raised[0], 40))  # and stays so
    assert ward.of.standing == "raised"
    assert ward.minutes(WATCHED_MINUTES, 2, NEW, worse)[-1] == WATCHED_MINUTES - 1  # it never comes to hold


def test_going_back_to_what_held_ends_it(ward: Ward) -> None:
    ward.minutes(30, 2, NEW, 0.1)
    assert ward.minutes(1, 3, OLD, learned=False) == []
    assert (ward.of.standing, ward.of.signal) == ("usual", None)


def test_what_is_pushed_after_a_bad_version_is_judged_by_itself_and_what_learns_on_from_it_is_not(ward: Ward) -> None:
    raised = ward.minutes(30, 2, NEW, 0.1)
    assert raised
    assert ward.minutes(1, 3, NEWER, 0.1) == [0]
    assert ward.minutes(10, 4, b"pushed", learned=False) == []


def test_a_version_that_comes_late_in_the_hour_is_watched_long_enough(ward: Ward) -> None:
    ward.minutes(WATCHED_MINUTES - 1, 2, NEW)
    assert ward.minutes(FOLLOWED_MINUTES, 3, NEWER, 0.1)
    assert ward.of.standing == "raised"


def test_the_hour_begins_when_boards_enough_have_the_version(ward: Ward) -> None:
    ward.boards = range(2)
    assert ward.minutes(2 * WATCHED_MINUTES, 2, NEW, 0.1) == []
    assert ward.of.standing == "unknown"
    ward.boards = range(12)
    assert ward.minutes(30, 2, NEW, 0.1)


def test_patients_who_were_not_there_before_count_for_nothing(ward: Ward) -> None:
    ward.boards = range(4, 20)  # four left, eight came, and what the new ones' models say differs much
    assert ward.minutes(40, 2, NEW) == []
    assert ward.of.boards == 8
    ward.boards = range(5, 20)
    assert ward.minutes(10, 2, NEW, 0.5) == []
    assert ward.of.standing == "unknown"


def test_another_model_at_the_gateway_ends_what_is_known(ward: Ward) -> None:
    ward.source = 2
    assert ward.minutes(30, 2, NEW, 0.5) == []
    assert (ward.of.standing, ward.of.boards) == ("unknown", 0)


def test_few_boards_or_minutes_give_no_verdict() -> None:
    few = Ward(boards=LEAST_BOARDS - 1)
    few.minutes(100, 1, OLD)
    assert few.minutes(30, 2, NEW, 0.5) == []
    assert few.of.standing == "unknown"
    short = Ward()
    short.minutes(LEAST_MINUTES - 1, 1, OLD)
    assert short.minutes(30, 2, NEW, 0.5) == []


def test_nothing_stays_of_a_board_that_is_forgotten(ward: Ward) -> None:
    assert 3 in ward.of.known
    ward.of.forget(3)
    assert 3 not in ward.of.known
