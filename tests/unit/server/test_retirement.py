"""A board that is lost or broken leaves the register: who may say so, what ends with it, and that it stays ended."""

import os

import pytest
from hospital_rig import Rig, ward
from sqlalchemy import select

from qepa_server.audit import chain
from qepa_server.errors import RefusedError
from qepa_server.store.schema import audit, boards
from qepa_uplink.enrolment import (
    RETIREMENT_CONTEXT,
    RETIREMENT_REPLY_CONTEXT,
    RetirementReply,
    RetirementRequest,
    SignedReply,
    SignedRetirement,
)
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import verify_signature
from qepa_uplink.messages import AlertReport, Status
from qepa_wire.payloads import ALERT_ASYSTOLE
from qepa_wire.primitives import sha256


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path, ward(2, 6), min_group=5, cell_target=6)


def board_of(rig):
    return next(iter(rig.gateways["gw-1"].boards.values()))


def request(rig, board, *, gateway="gw-1", patient=None, signer="dock") -> SignedRetirement:
    asked = RetirementRequest(
        board=board.number, patient=patient or board.patient, gateway=gateway, nonce=os.urandom(16)
    )
    return SignedRetirement.of(asked, rig.identities[signer], RETIREMENT_CONTEXT)


def confirm(rig, signed: SignedRetirement, reply: SignedReply) -> RetirementReply:
    verify_signature(rig.identities["server"].subject.sign_key, reply.signature, reply.body, RETIREMENT_REPLY_CONTEXT)
    told = RetirementReply.model_validate_json(reply.body)
    assert told.request_digest == sha256(signed.body)
    return told


def events(rig):
    with rig.store.read() as connection:
        chain.verify(connection)
        return [row.event for row in connection.execute(audit.select().order_by(audit.c.seq))]


def test_a_retired_board_is_gone_from_register_gateway_and_screens_and_stays_gone(rig):
    rig.connect()
    board, signed = board_of(rig), request(rig, board_of(rig))
    assert confirm(rig, signed, rig.hospital.retirement.retire(signed)).board == board.number
    rig.pump()
    assert board.number not in {each.board for each in rig.gateways["gw-1"].welcome.boards}
    assert f"{board.number:08x}" not in {each["board"] for each in rig.state()["boards"]}
    rig.crash()
    assert board.number not in rig.hospital.register
    assert len(rig.hospital.register) == 11
    assert events(rig).count("board.retired") == 1


def test_its_end_key_is_no_longer_in_the_database(rig):
    board = board_of(rig)
    with rig.store.read() as connection:
        (sealed,) = connection.execute(select(boards.c.end_key).where(boards.c.board == board.number)).scalars()
    rig.hospital.retirement.retire(request(rig, board))
    with rig.store.read() as connection:
        assert sealed not in set(connection.execute(select(boards.c.end_key)).scalars())


def test_the_same_wish_again_is_granted_again_and_changes_nothing(rig):
    board, signed = board_of(rig), request(rig, board_of(rig))
    rig.hospital.retirement.retire(signed)
    confirm(rig, signed, rig.hospital.retirement.retire(signed))  # its answer was lost
    other = request(rig, board)
    confirm(rig, other, rig.hospital.retirement.retire(other))  # the dock was cut off before it had the answer
    assert events(rig).count("board.retired") == 1


def test_an_old_request_does_not_end_a_board_that_was_enrolled_again(rig):
    board, signed = board_of(rig), request(rig, board_of(rig))
    rig.hospital.retirement.retire(signed)
    with pytest.raises(RefusedError, match="enrolled before"):
        rig.enrol(board, "gw-1")  # with the key it had
    board.end_key = os.urandom(32)
    rig.enrol(board, "gw-1")
    with pytest.raises(RefusedError, match="replay"):
        rig.hospital.retirement.retire(signed)
    assert board.number in rig.hospital.register
    rig.hospital.retirement.retire(request(rig, board))
    assert board.number not in rig.hospital.register


@pytest.mark.parametrize("wrong", ["desk", "gw-1", "server"])
def test_only_a_dock_retires(rig, wrong):
    with pytest.raises(UplinkError, match="not a dock"):
        rig.hospital.retirement.retire(request(rig, board_of(rig), signer=wrong))
    assert board_of(rig).number in rig.hospital.register


@pytest.mark.parametrize("wrong", [{"gateway": "gw-2"}, {"patient": "p-1-2"}])
def test_another_patients_or_gateways_board_is_not_retired_by_mistake(rig, wrong):
    with pytest.raises(RefusedError, match="is not of"):
        rig.hospital.retirement.retire(request(rig, board_of(rig), **wrong))
    assert board_of(rig).number in rig.hospital.register


def test_a_bent_request_and_a_board_that_never_was_are_refused(rig):
    board = board_of(rig)
    signed = request(rig, board)
    bent = signed.model_copy(update={"body": signed.body.replace(b'"gw-1"', b'"gw-2"')})
    with pytest.raises(UplinkError, match="signature"):
        rig.hospital.retirement.retire(bent)
    enrolment = rig.request(board, "gw-1")
    with pytest.raises(UplinkError, match="signature"):  # what was signed to enrol does not retire
        rig.hospital.retirement.retire(signed.model_copy(update={"signature": enrolment.signature}))
    board.number = 0xDEAD
    with pytest.raises(RefusedError, match="never enrolled"):
        rig.hospital.retirement.retire(request(rig, board))


def test_its_consent_covers_nothing_any_more_and_its_alarms_are_over(rig):
    rig.connect()
    board, gateway, now = board_of(rig), rig.gateways["gw-1"], rig.now
    rig.hospital.consents.accept(rig.consent(board, b"c" * 16))
    report = AlertReport(
        id="a1", board=board.number, kind=ALERT_ASYSTOLE, active=True, value=0, t_ms=1, received_ms=now
    )
    gateway.seal(report)
    rig.pump()
    assert [alarm["active"] for alarm in rig.state()["alarms"]] == [True]
    rig.hospital.retirement.retire(request(rig, board))
    assert [alarm["active"] for alarm in rig.state()["alarms"]] == [False]
    assert not rig.hospital.consents.watched(board.number, now)
    assert list(rig.hospital.consents.grants("gw-1", now)) == []
    gateway.seal(report.model_copy(update={"id": "a2"}))
    rig.pump()
    assert rig.hospital.refused["board"] == 1
    assert [alarm["active"] for alarm in rig.state()["alarms"]] == [False]
    assert "a2" in gateway.acked, "or the gateway would repeat it for ever"


def test_the_next_round_is_summed_without_it(rig):
    rig.connect()
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.retirement.retire(request(rig, board))
    rig.pump()
    gateway.boards = {each.board: gateway.boards[each.board] for each in gateway.welcome.boards}
    rig.pass_time(8)
    (cell, *others) = rig.hospital_cells(1, 1)
    assert {number for each in (cell, *others) for number in each["contributors"]} == set(rig.hospital.register)
    assert cell["sum"] is not None


def test_a_sum_that_holds_a_board_retired_meanwhile_is_not_opened(rig):
    rig.connect()
    board, gateway = board_of(rig), rig.gateways["gw-1"]

    def retire(partial):
        if board.number in partial.contributors:
            rig.hospital.retirement.retire(request(rig, board))
        return partial

    gateway.tamper = retire
    rig.pass_time(8)
    cells = [cell for cell in rig.hospital_cells(1, 1) if "gw-1" in cell["gateways"]]
    assert any("not enrolled" in cell["reason"] for cell in cells)
    assert all(cell["sum"] is None or board.number not in cell["contributors"] for cell in cells)


def test_a_gateway_that_missed_the_news_is_told_again(rig):
    rig.connect()
    board, gateway = board_of(rig), rig.gateways["gw-1"]
    rig.hospital.retirement.retire(request(rig, board))
    rig.to_gateways.clear()  # lost on the way
    rig.pump()
    assert board.number in {each.board for each in gateway.welcome.boards}
    rig.pass_time(15)
    assert board.number not in {each.board for each in gateway.welcome.boards}
    served = tuple(each for each in rig.hospital.presence.last("gw-1").status.boards if each.board != board.number)
    gateway.status = lambda: gateway.send(
        gateway.session.seal(Status(now_ms=rig.now, boards=served, link=None, refused={}, spool=0))
    )
    rig.pump()
    gateway.welcome = None
    rig.pass_time(30)
    assert gateway.welcome is None, "it serves what it should: no need to say it again"
