"""Sessions, who may say what, and what a hostile broker can do."""

import pytest
from bedside_rig import Rig, identity

from qepa_gateway.health import faults
from qepa_gateway.transport import Outgoing
from qepa_uplink.envelope import sign
from qepa_uplink.messages import CareRevoke, ModelRelease, PairOffer, PairWanted, SessionUnknown, Status, Welcome
from qepa_uplink.topics import to_gateway, to_server


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=3).begin()


def to_gw1(rig, data):
    rig.deliver(Outgoing(to_gateway("gw-1"), data))
    rig.settle(2)


def test_session_numbers_rise_over_restarts(ward):
    numbers = []

    def tap(message):
        if message.topic == to_server("gw-1") and b'"session_open"' in message.payload:
            numbers.append(int(message.payload.split(b'"number":')[1].split(b",")[0]))
        return False

    ward.lose = tap
    for _ in range(3):
        ward.site.crash()
        ward.site.start()
        ward.settle(3)
    assert numbers == [2, 3, 4]


def test_a_server_that_restarts_gets_a_new_session(ward):
    ward.server.sessions.clear()
    ward.advance(3000)
    assert "gw-1" in ward.server.sessions
    assert ward.site.gateway.link.welcomed


def test_a_session_is_asked_for_until_the_server_answers(tmp_path):
    rig = Rig(tmp_path, patients=3)
    rig.lose = lambda message: message.topic == to_server("gw-1")
    rig.advance(10_000)
    rig.lose = lambda _message: False
    rig.advance(31_000)
    assert rig.site.gateway.link.welcomed


def test_a_server_that_falls_silent_is_away_until_it_speaks_again(ward):
    link, opened = ward.site.gateway.link, []

    def cut(message):
        opened.append(message.topic == to_server("gw-1") and b'"session_open"' in message.payload)
        return "server" in message.topic or message.topic == to_gateway("gw-1")

    ward.advance(200_000)
    assert (link.welcomed, link.away, faults(ward.site.gateway)) == (True, False, ())  # quiet, but it answers
    ward.server.welcome("gw-1")
    ward.settle(2)
    ward.lose = cut
    ward.advance(80_000)
    assert not link.away
    ward.advance(20_000)
    assert (link.away, faults(ward.site.gateway)) == (True, ("server",))
    assert 3 <= sum(opened) <= 10
    kept = sign(identity("server", "server"), ward.server.directory())
    link.receive(kept)
    assert link.away, "what was signed once can be said again by anybody"
    ward.lose = lambda _message: False
    ward.advance(11_000)
    assert (link.away, faults(ward.site.gateway)) == (False, ())


def test_a_lost_directory_is_asked_for(tmp_path):
    rig = Rig(tmp_path, gateways=3)
    rig.lose = lambda message: b'"directory"' in message.payload[:60]
    rig.begin()
    rig.lose = lambda _message: False
    rig.open_round(1)
    rig.start_round(1)
    assert rig.site.refused["certificate"] >= 1
    for _ in range(3):
        rig.advance(2500)
        rig.start_round(1)
    rig.advance(12_000)
    assert rig.server.open(rig.server.partials_of(1, 1)) == rig.expected(1, 1)


def test_an_unknown_session_of_another_time_changes_nothing(ward):
    link = ward.site.gateway.link
    before = link._session
    to_gw1(ward, sign(identity("server", "server"), SessionUnknown(session=bytes(16))))
    assert link._session is before
    assert link.welcomed


def test_the_heartbeat_tells_what_may_be_known(ward):
    ward.advance(2500)
    status = ward.server.status["gw-1"]
    assert isinstance(status, Status)
    assert [(board.board, board.online, board.key_source, board.pads) for board in status.boards] == [
        (1, True, "qkd", 5),
        (2, True, "qkd", 5),
        (3, True, "qkd", 5),
    ]
    ward.boards[2].on = False
    ward.now_ms += 91_000
    ward.advance(2500)
    assert not ward.server.status["gw-1"].boards[1].online


@pytest.mark.parametrize(
    ("sender", "role", "message", "reason"),
    [
        ("gw-2", "gateway", CareRevoke(consent_id=bytes(16)), "certificate"),
        ("server", "server", PairWanted(sender="gw-0", recipient="gw-1"), "role"),
        ("dock", "dock", CareRevoke(consent_id=bytes(16)), "certificate"),
        ("gw-1", "gateway", ModelRelease(version=1, round=1, release=b"x"), "role"),
        ("server", "server", ModelRelease(version=1, round=1, release=b"x"), "model"),
    ],
)
def test_nobody_speaks_for_another(ward, sender, role, message, reason):
    to_gw1(ward, sign(identity(sender, role), message))
    assert ward.site.refused == {reason: 1}


def test_garbage_is_counted(ward):
    good = sign(identity("server", "server"), CareRevoke(consent_id=bytes(16)))
    for data in (
        b"",
        b"QU\x01",
        good[:100],
        good[:-1] + b"\0",
        b"QS\x01" + bytes(10),
        b"QS\x01" + bytes(60),
        bytes(4000),
    ):
        to_gw1(ward, data)
    assert ward.site.refused == {"truncated": 4, "signature": 1, "session": 1, "magic": 1}


def test_a_repeated_sealed_message_is_refused(ward):
    data = ward.server.sessions["gw-1"].seal(Welcome(boards=()))
    to_gw1(ward, data)
    assert not ward.site.gateway.boards.served()
    to_gw1(ward, data)
    assert ward.site.refused == {"replay": 1}


def test_a_pair_key_is_not_replaced(tmp_path):
    from qepa_uplink.enrolment import pair_info
    from qepa_uplink.sealing import seal_to

    rig = Rig(tmp_path, gateways=3).begin()
    rig.run_round(1)
    me = identity("gw-3", "gateway")
    sealed = seal_to(me.subject.seal_key, bytes(32), pair_info("gw-1", "gw-3"))
    offer = PairOffer(sender="gw-1", recipient="gw-3", sealed_key=sealed)
    rig.deliver(Outgoing(to_gateway("gw-3"), sign(identity("gw-1", "gateway"), offer)))
    rig.deliver(Outgoing(to_gateway("gw-3"), sign(identity("gw-2", "gateway"), offer)))
    rig.settle(2)
    assert rig.sites["gw-3"].refused == {"pair": 2}
    rig.run_round(2)
    assert rig.server.open(rig.server.partials_of(2, 1)) == rig.expected(2, 1)
