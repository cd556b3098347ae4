"""A step is one transaction: frames of boards and messages of others are durable together, then things leave."""

import pytest
from bedside_rig import Rig

from qepa_gateway.errors import SpoolError


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=3).begin()


def counted(spool) -> list[str]:
    """Begins and ends of transactions from now on."""
    said: list[str] = []
    execute = spool.execute

    def note(sql, arguments=()):
        if sql.startswith(("BEGIN", "COMMIT")):
            said.append(sql.split()[0])
        return execute(sql, arguments)

    spool.execute = note
    return said


def bring_news(ward) -> None:
    """A frame of each board and a Welcome wait for the next step."""
    for board in ward.boards.values():
        ward.up(board, board.alert())
    ward.server.welcome("gw-1")
    queue, ward.queue = ward.queue, []
    for message in queue:
        ward._hand_over(message)


def test_frames_and_messages_share_a_commit(ward):
    said = counted(ward.site.spool)
    bring_news(ward)
    ward.site.gateway.step()
    assert said == ["BEGIN", "COMMIT"]
    assert len(ward.site.gateway.drain()) >= len(ward.boards)


def test_a_step_that_could_not_be_stored_ends_the_gateway_before_anything_is_drained(ward):
    spool, gateway = ward.site.spool, ward.site.gateway
    gateway.drain()
    bring_news(ward)
    execute = spool.execute

    def full(sql, arguments=()):
        if sql == "COMMIT":
            raise SpoolError("disk full")
        return execute(sql, arguments)

    spool.execute = full
    with pytest.raises(SpoolError, match="disk full"):
        gateway.step()
