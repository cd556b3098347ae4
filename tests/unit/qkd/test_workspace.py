"""Workspaces: memory goes from one block to the next, never to two at a time."""

import numpy as np
import pytest

from qepa_qkd import workspace
from qepa_qkd.cascade import CascadeReference
from qepa_qkd.parity_questions import Opening
from qepa_qkd.workspace import MOST_ELEMENTS, Workspace, borrow, borrowed


class User:
    """Anything that lives and ends."""


@pytest.fixture(autouse=True)
def no_idle_workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_idle", [])


def test_users_alive_share_nothing_and_leave_their_memory_to_the_next() -> None:
    first, second = User(), User()
    mine, theirs = borrow(first), borrow(second)
    assert mine is not theirs
    del first
    with borrowed() as again:
        assert again is mine
        with borrowed() as other:
            assert other not in (mine, theirs)


def test_an_array_is_the_same_memory_until_it_is_too_small() -> None:
    memory = Workspace()
    array = memory.array("a", 100, np.int32)
    assert np.shares_memory(array, memory.array("a", 60, np.int32))
    assert not np.shares_memory(array, memory.array("b", 60, np.int32))
    assert len(memory.array("a", 101, np.int32)) == 101


def test_large_arrays_are_not_kept() -> None:
    memory = Workspace()
    array = memory.array("a", MOST_ELEMENTS + 1, np.uint8)
    assert not np.shares_memory(array, memory.array("a", MOST_ELEMENTS + 1, np.uint8))


def test_what_an_earlier_block_left_in_memory_changes_nothing() -> None:
    bits = np.random.default_rng(1).integers(0, 2, 3_000, dtype=np.uint8)
    fresh = CascadeReference(bits, b"s", 0.02).answer(Opening(0))
    CascadeReference(1 - bits[:2_000], b"other", 0.1).answer(Opening(0))
    assert np.array_equal(CascadeReference(bits, b"s", 0.02).answer(Opening(0)), fresh)
