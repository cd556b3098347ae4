"""Hostile boards and gateways in real rounds: kept out of sums, with evidence, and out of nothing else."""

import json
import os

import pytest
from hospital_rig import Board, Rig, ward
from sqlalchemy import select

from qepa_server.config import WatchConfig
from qepa_server.errors import RefusedError
from qepa_server.robust.warden import honest_norm
from qepa_server.store.schema import audit
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import AlertReport, StreamSpec
from qepa_uplink.releases import QuarantineOrder, SignedOrder, sign_order


class HostileBoard(Board):
    """Sends an update seven times as long as an honest one can be, and honest statistics."""

    def values(self, stream, n_words, round_):
        honest = super().values(stream, n_words, round_)
        return honest if stream == 1 else [3500 if k % 2 else -3500 for k in range(n_words)]


def rig_with(folder, layout, **watch):
    """A rig whose watch decides early, because its rounds have four small cells."""
    rig = Rig(folder, layout, min_group=5, cell_target=5, gateways_expected=len(layout))
    rig.store.close()
    rig.config = rig.config.model_copy(update={"watch": WatchConfig(window=40, min_cells=8, **watch)})
    rig.start()
    rig.connect()
    return rig


def hostile_ward():
    layout = ward(1, 20)
    layout["gw-1"][6] = HostileBoard(107, "p-1-7")
    return layout


def logged(rig, event):
    with rig.store.read() as connection:
        query = select(audit.c.detail).where(audit.c.event == event).order_by(audit.c.seq)
        details = [json.loads(detail) for detail in connection.execute(query).scalars()]
    return [{name: value for name, value in detail.items() if name != "_salt"} for detail in details]


def until(rig, condition, seconds=60):
    for _ in range(2 * seconds):
        if condition():
            return
        rig.pass_time(0.5)
    raise AssertionError("it did not come about")


def ending(rig: Rig, who: str = "releaser", **changes: object) -> SignedOrder:
    """A person's order to let patient p-1-7 into sums again."""
    fields = {"kind": "patient", "name": "p-1-7", "signed_s": rig.now // 1000, "nonce": os.urandom(16)} | changes
    return sign_order(rig.identities[who], QuarantineOrder.model_validate(fields))


def contributors(rig, number):
    return {board for record in rig.hospital.ledger.sums(number) for board in record.boards}


def test_a_hostile_board_is_quarantined_from_sums_alone_and_let_in_by_a_person(tmp_path):
    rig = rig_with(tmp_path, hostile_ward())
    hospital = rig.hospital
    until(rig, lambda: hospital.quarantine.present)
    (held,) = hospital.quarantine.present
    assert (held.kind, held.name) == ("patient", "p-1-7")
    (entry,) = logged(rig, "quarantine.imposed")
    assert (entry["name"], entry["why"]) == ("p-1-7", "excess")
    assert float(entry["value"]) > float(entry["limit"])
    assert rig.state()["quarantines"][0]["name"] == "p-1-7"
    first = hospital.warden.scores[0]
    assert first.patient == "p-1-7"

    # Its gateway was told; no later sum holds it, and a sum that did would not open.
    assert {b.board: b.barred for b in rig.gateways["gw-1"].welcome.boards}[107] == (1, 2)
    after = hospital.ledger.next_number()
    until(rig, lambda: hospital.ledger.next_number() > after + 1)
    assert 107 not in contributors(rig, after + 1)

    # An emergency of that patient comes through as before.
    report = AlertReport(id="a-1", board=107, kind=1, active=True, value=0, t_ms=rig.now, received_ms=rig.now)
    hospital.alarms.accept("gw-1", report)
    assert [alarm["board"] for alarm in rig.state()["alarms"]] == ["0000006b"]

    # It lasts over a restart, and ends by a person's signature only.
    rig.crash()
    hospital = rig.hospital
    assert [held.name for held in hospital.quarantine.present] == ["p-1-7"]
    with pytest.raises(UplinkError, match="not a release"):
        hospital.end_quarantine(ending(rig, who="desk"))
    for other in ({"name": "p-1-8"}, {"kind": "gateway"}):
        with pytest.raises(RefusedError, match="is not quarantined"):
            hospital.end_quarantine(ending(rig, **other))
    signed = ending(rig, reason="fell")
    assert hospital.end_quarantine(signed).name == "p-1-7"
    (entry,) = logged(rig, "quarantine.released")
    assert entry == {"kind": "patient", "name": "p-1-7", "by": "releaser", "reason": "fell"}
    rig.crash()
    with pytest.raises(RefusedError, match="replay"):
        rig.hospital.end_quarantine(signed)
    rig.connect()
    rig.pass_time(2)
    assert rig.hospital.quarantine.present == (), "what a person judged is no evidence again"


def test_honest_boards_are_never_quarantined(tmp_path):
    rig = rig_with(tmp_path, ward(1, 20))
    rig.pass_time(20)
    assert rig.hospital.ledger.next_number() > 12
    assert rig.hospital.quarantine.present == ()


def test_where_quarantine_is_off_or_would_take_too_many_a_person_is_told_once(tmp_path):
    for name, settings, refusal in (
        ("off", {"quarantine": False}, "quarantine is off"),
        ("few", {"most": 0.04}, "too many would be quarantined"),
    ):
        rig = rig_with(tmp_path / name, hostile_ward(), **settings)
        until(rig, lambda rig=rig: logged(rig, "suspicion"))
        rig.pass_time(3)
        assert rig.hospital.quarantine.present == ()
        (entry,) = [entry for entry in logged(rig, "suspicion") if entry["why"] == "excess"]
        assert (entry["name"], entry["refusal"]) == ("p-1-7", refusal)
        rig.store.close()


def test_a_gateway_that_alters_sums_is_left_out_of_rounds(tmp_path):
    layout = ward(3, 12)
    layout["gw-2"] = layout["gw-2"][:6]
    rig = rig_with(tmp_path, layout)

    def lie(partial):
        sealed = bytearray(partial.sealed)
        sealed[5] ^= 1
        return partial.model_copy(update={"sealed": bytes(sealed)})

    rig.gateways["gw-2"].tamper = lie
    hospital = rig.hospital
    until(rig, lambda: hospital.quarantine.present)
    (held,) = hospital.quarantine.present
    assert (held.kind, held.name, held.evidence["why"]) == ("gateway", "gw-2", "breaks")
    after = hospital.ledger.next_number()
    until(rig, lambda: hospital.ledger.next_number() > after + 1)
    last = hospital.ledger.find(after + 1)
    assert "gw-2" not in last.expected
    assert {record.state for record in hospital.ledger.sums(after)} == {"summed"}


def test_the_honest_norm_is_the_tighter_of_two_clippings_in_steps_and_rounding():
    spec = StreamSpec(stream=2, n_words=64, bound=1024, q_max=512, rounding=0, noise_q8=0, clip_norm=0)
    assert honest_norm(spec, 4096) == 2048 + 4
    assert honest_norm(spec.model_copy(update={"clip_norm": 1000, "rounding": 1}), 4096) == 500 + 8
    assert honest_norm(spec.model_copy(update={"clip_norm": 5000}), 4096) == 2052
