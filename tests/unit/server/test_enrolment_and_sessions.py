"""Who may enrol, who may speak, and what a replay is worth."""

import os
from dataclasses import replace

import pytest
from hospital_rig import Board, Rig, certified, ward

from qepa_server.errors import RefusedError
from qepa_uplink.envelope import sign
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Root
from qepa_uplink.messages import Status
from qepa_uplink.session import offer


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path, ward(2, 3))


def board_of(rig):
    return next(iter(rig.gateways["gw-1"].boards.values()))


def test_a_reply_brings_the_cohort_key_and_the_model_root(rig):
    keys = {b.cohort_key for g in rig.gateways.values() for b in g.boards.values()}
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert rig.gateways["gw-1"].model_root == rig.hospital.registry.model_root


def test_end_keys_are_not_readable_on_disk(rig):
    rig.store.close()
    stored = b"".join(p.read_bytes() for p in rig.folder.iterdir() if p.name != "kek")
    for gateway in rig.gateways.values():
        for board in gateway.boards.values():
            assert board.end_key not in stored
            assert board.cohort_key not in stored


@pytest.mark.parametrize("wrong", ["desk", "gw-1", "server"])
def test_only_a_dock_enrols(rig, wrong):
    with pytest.raises(UplinkError, match="not a dock"):
        rig.hospital.enrolment.enrol(rig.request(board_of(rig), "gw-1", signer=wrong))


def test_a_foreign_root_or_a_bent_request_is_refused(rig, tmp_path):
    board = board_of(rig)
    foreign = Root.open(tmp_path / "foreign").issue("dock", "dock")
    rig.identities = {**rig.identities, "dock": foreign}
    with pytest.raises(UplinkError, match="signature"):
        rig.hospital.enrolment.enrol(rig.request(board, "gw-1"))
    rig.identities = certified()[1]
    signed = rig.request(board, "gw-1")
    with pytest.raises(UplinkError, match="signature"):
        rig.hospital.enrolment.enrol(signed.model_copy(update={"body": signed.body.replace(b"gw-1", b"gw-2")}))


def test_an_end_key_sealed_for_another_board_does_not_open(rig):
    board = board_of(rig)
    other = rig.request(board, "gw-1")
    dock = rig.identities["dock"]
    from qepa_uplink.enrolment import ENROLMENT_CONTEXT

    body = other.body.replace(b'"gateway":"gw-1"', b'"gateway":"gw-2"')
    moved = other.model_copy(update={"body": body, "signature": dock.sign(body, ENROLMENT_CONTEXT)})
    with pytest.raises(UplinkError, match="seal"):
        rig.hospital.enrolment.enrol(moved)


def test_a_patient_has_boards_at_one_gateway_only(rig):
    """All boards of a patient are in one cell."""
    number = max(b for g in rig.gateways.values() for b in g.boards) + 1
    second = Board(number, board_of(rig).patient)
    with pytest.raises(RefusedError, match="patient"):
        rig.hospital.enrolment.enrol(rig.request(second, "gw-2"))
    rig.hospital.enrolment.enrol(rig.request(second, "gw-1"))


def test_re_enrolment_needs_a_new_request_and_an_old_one_never_comes_back(rig):
    board = board_of(rig)
    first_key = board.end_key
    board.end_key = os.urandom(32)
    old = rig.request(board, "gw-1")
    rig.take_reply(board, "gw-1", rig.hospital.enrolment.enrol(old))
    rig.take_reply(board, "gw-1", rig.hospital.enrolment.enrol(old))  # lost reply, asked again
    assert rig.hospital.register[board.number].end_key == board.end_key
    board.end_key = os.urandom(32)
    rig.enrol(board, "gw-2")
    with pytest.raises(RefusedError, match="replay"):
        rig.hospital.enrolment.enrol(old)
    board.end_key = first_key
    with pytest.raises(RefusedError, match="enrolled before"):
        rig.hospital.enrolment.enrol(rig.request(board, "gw-1"))
    rig.crash()
    assert rig.hospital.register[board.number].gateway == "gw-2"
    assert len(rig.hospital.register) == 6


def test_a_change_of_boards_reaches_the_gateways(rig):
    rig.connect()
    board = board_of(rig)
    board.end_key = os.urandom(32)
    rig.enrol(board, "gw-2")
    rig.pump()
    assert board.number not in {b.board for b in rig.gateways["gw-1"].welcome.boards}
    assert board.number in {b.board for b in rig.gateways["gw-2"].welcome.boards}


def test_sessions_bring_welcome_directory_and_model(rig):
    rig.connect()
    rig.hospital.tick()
    rig.pump()
    for gateway in rig.gateways.values():
        assert len(gateway.welcome.boards) == 3
        assert len(gateway.directory.certificates) == 2
        assert gateway.model_version == 1
    assert [g["online"] for g in rig.state()["gateways"]] == [True, True]


def test_a_replayed_session_opening_changes_nothing(rig):
    rig.connect()
    gateway = rig.gateways["gw-1"]
    first = gateway.opened
    session = gateway.session
    rig.to_server.append(("gw-1", first))
    rig.pump()
    assert gateway.session is session  # greeted again in the same session
    gateway.connect()
    rig.pump()
    rig.to_server.append(("gw-1", first))
    rig.pump()
    assert rig.hospital.refused["replay"] == 1
    gateway.status()
    rig.pump()
    assert sum(rig.hospital.refused.values()) == 1


def test_after_a_restart_the_same_opening_is_not_taken_twice(rig):
    rig.connect()
    gateway = rig.gateways["gw-1"]
    before = gateway.number
    rig.crash()
    rig.to_server.append(("gw-1", gateway.opened))
    rig.pump()
    assert gateway.number == before + 1  # told so by SessionUnknown, it opened a new one
    assert "gw-1" in rig.hospital.hub.connected


def test_an_unknown_session_is_answered_once_a_second_at_most(rig):
    rig.connect()
    rig.crash()
    gateway = rig.gateways["gw-1"]
    before = gateway.number
    status = Status(now_ms=1, boards=(), link=None, refused={}, spool=0)
    stale = gateway.session
    for _ in range(5):
        rig.hospital.receive("gw-1", stale.seal(status))
    assert len(rig.to_gateways) == 1
    rig.pump()
    assert gateway.number == before + 1


@pytest.mark.parametrize("role", ["dock", "desk", "server"])
def test_other_roles_open_no_session(rig, role):
    identity = rig.identities[role]
    message, _ = offer(identity, "server", rig.identities["server"].subject.seal_key, 1)
    rig.hospital.receive(identity.name, sign(identity, message))
    assert rig.hospital.refused["certificate"] == 1
    assert not rig.hospital.hub.connected


def test_a_certified_gateway_cannot_open_a_session_as_another(rig):
    other = rig.gateways["gw-2"].identity
    message, _ = offer(other, "server", rig.identities["server"].subject.seal_key, 1)
    as_gw1 = replace(other, subject=rig.identities["gw-1"].subject)  # its own key and certificate, the other's name
    rig.hospital.receive("gw-1", sign(as_gw1, message))
    assert rig.hospital.refused["certificate"] == 1
    assert not rig.hospital.hub.connected


def test_a_gateway_speaks_on_its_own_topic_only(rig):
    rig.connect()
    gateway = rig.gateways["gw-2"]
    gateway.number += 1
    message, _ = offer(gateway.identity, "server", rig.identities["server"].subject.seal_key, gateway.number)
    rig.hospital.receive("gw-1", sign(gateway.identity, message))
    assert rig.hospital.refused["sender"] == 1
    rig.hospital.receive("gw-1", gateway.session.seal(Status(now_ms=1, boards=(), link=None, refused={}, spool=0)))
    assert rig.hospital.refused["session"] == 1
