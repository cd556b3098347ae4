"""Gateways countersign the head of the audit log as it grows; what they hold shows a log that was put back."""

import json
import sqlite3

import pytest
from hospital_rig import Rig, ward
from typer.testing import CliRunner

from qepa_server.audit import chain
from qepa_server.audit.witnesses import ANCHOR_KEY, EVERY_MS
from qepa_server.store.schema import settings
from qepa_tools.cli import app
from qepa_uplink.audit import MOST_LINKS, SEAL_CONTEXT, Head, extended, head_bytes
from qepa_uplink.identity import verify_signature


def verify(rig, *arguments):
    (rig.folder / "root.pub").write_bytes(rig.root.public_key)
    command = [
        "audit",
        "verify",
        str(rig.folder),
        "--root",
        str(rig.folder / "root.pub"),
        "--json",
        *map(str, arguments),
    ]
    result = CliRunner().invoke(app, command)
    return result.exit_code, json.loads(result.stdout)


def log_of(rig):
    with rig.store.read() as connection:
        return chain.head(connection)


def add(rig, entries, event="event"):
    with rig.store.write() as connection:
        for number in range(entries):
            chain.append(connection, rig.now, event, number=number)


def held(message):
    return Head(message.seq, message.hash)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 2), period_s=3600, first_within_s=3000, gateways_expected=3)
    rig.connect()
    return rig


def test_each_gateway_is_told_the_signed_head_at_once_and_then_how_it_grew(rig):
    gateway = rig.gateways["gw-1"]
    (first,) = gateway.heads
    verify_signature(rig.identities["server"].subject.sign_key, first.signature, head_bytes(held(first)), SEAL_CONTEXT)
    assert first.links == ()
    assert rig.hospital.witnesses.kept["gw-1"] == held(first)
    for _ in range(2):
        add(rig, 5)
        rig.pass_time(EVERY_MS / 1000 + 2)
        newest = gateway.heads[-1]
        before = gateway.heads[-2]
        assert newest.base_seq == before.seq
        assert held(newest) == extended(held(before), newest.links) == log_of(rig)
    assert rig.state()["audit"]["entries"] == newest.seq
    assert rig.state()["audit"]["kept"] == {"gw-1": newest.seq, "gw-2": newest.seq}
    told = len(gateway.heads)
    rig.pass_time(2 * EVERY_MS / 1000)
    assert len(gateway.heads) == told, "a log that does not grow is not told again"


def test_links_of_equal_entries_are_not_equal(rig):
    """Otherwise who gets them could guess what happened to whom."""
    with rig.store.write() as connection:
        before = chain.head(connection).seq
        chain.append(connection, 5, "alarm.began", board=1)
        row = connection.exec_driver_sql("SELECT seq, at_ms, event, detail FROM audit ORDER BY seq DESC").first()
        (link,) = chain.links(connection, before, before + 1)
    assert link != chain.link_of(row.seq, row.at_ms, row.event, '{"board":1}')


def test_a_long_way_comes_in_pieces(rig):
    gateway = rig.gateways["gw-1"]
    add(rig, 2 * MOST_LINKS + 10)
    rig.pass_time(EVERY_MS / 1000 + 2)
    pieces = [len(message.links) for message in gateway.heads[1:]]
    assert pieces[:2] == [MOST_LINKS, MOST_LINKS]
    assert len(pieces) == 3
    assert rig.hospital.witnesses.kept["gw-1"] == log_of(rig)


def test_countersigned_heads_outlive_a_restart_and_are_compared_by_the_command(rig):
    kept = dict(rig.hospital.witnesses.kept)
    rig.crash()
    assert rig.hospital.witnesses.kept == kept
    assert not rig.hospital.witnesses.contradicted
    rig.connect()
    assert rig.gateways["gw-1"].heads[-1].base_seq == kept["gw-1"].seq
    code, found = verify(rig)
    assert (code, found["countersigned_by"]) == (0, ["gw-1", "gw-2"])


def test_a_log_cut_off_at_a_signature_shows_at_the_start_and_to_the_command(rig):
    add(rig, 3)
    rig.pass_time(EVERY_MS / 1000 + 2)
    with sqlite3.connect(rig.folder / "server.db") as database:
        last = database.execute("SELECT max(seq) FROM audit_seals WHERE seq < (SELECT max(seq) FROM audit)").fetchone()
        database.execute("DELETE FROM audit_seals WHERE seq > ?", last)
        database.execute("DELETE FROM audit WHERE seq > ?", last)
    rig.crash()
    assert set(rig.state()["audit"]["contradicted"]) == {"gw-1", "gw-2"}
    code, found = verify(rig)
    assert code == 1
    assert "cut off" in found["reason"]


def test_a_log_put_back_from_a_copy_shows_by_what_gateways_hold(rig):
    rig.store.close()
    copy = (rig.folder / "server.db").read_bytes()
    rig.start()
    rig.connect()
    add(rig, 3)
    rig.pass_time(EVERY_MS / 1000 + 2)
    ahead = rig.hospital.witnesses.kept["gw-1"]
    rig.store.close()
    (rig.folder / "server.db").write_bytes(copy)
    rig.start()
    assert not rig.state()["audit"]["contradicted"], "the copy alone looks whole"
    for gateway in rig.gateways.values():
        gateway.number += 10
    rig.connect()
    rig.gateways["gw-1"].keeps(ahead)
    rig.pump()
    assert rig.hospital.refused["audit"] == 1
    assert rig.state()["audit"]["contradicted"] == {"gw-1": ahead.seq}
    with rig.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM audit WHERE event='audit.contradicted'").scalar() == 1


def test_a_head_that_is_not_countersigned_by_that_gateway_is_not_kept(rig):
    from qepa_uplink.audit import countersign
    from qepa_uplink.messages import AuditKept

    before = rig.hospital.witnesses.kept["gw-1"]
    add(rig, 1)
    head = log_of(rig)
    forged = AuditKept(seq=head.seq, hash=head.hash, signature=countersign(head, rig.identities["gw-2"]))
    rig.gateways["gw-1"].seal(forged)
    rig.pump()
    assert rig.hospital.witnesses.kept["gw-1"] == before
    assert rig.hospital.refused["signature"] == 1


def test_a_forged_anchor_in_the_database_is_found_by_the_command(rig):
    with rig.store.write() as connection:
        where = settings.c.key == ANCHOR_KEY + "gw-1"
        text = connection.execute(settings.select().where(where)).first().value
        record = json.loads(text)
        record["head"] = str(Head(1, bytes(32)))
        connection.execute(settings.update().where(where).values(value=json.dumps(record).encode()))
    code, found = verify(rig)
    assert code == 1
    assert "countersignature" in found["reason"]


def test_entries_from_before_salts_hold_and_are_not_told(rig):
    old = chain.entry_hash(bytes(32), 1, 5, "event", '{"number":1}')
    assert old != chain.entry_hash(bytes(32), 1, 5, "event", '{"_salt":"00","number":1}')
    with rig.store.write() as connection:
        head = chain.head(connection)
        digest = chain.entry_hash(head.hash, head.seq + 1, 5, "event", "{}")
        row = (head.seq + 1, 5, "event", "{}", digest)
        connection.exec_driver_sql("INSERT INTO audit (seq, at_ms, event, detail, hash) VALUES (?, ?, ?, ?, ?)", row)
        assert chain.links(connection, head.seq, head.seq + 1) is None
        assert chain.verify(connection) == head.seq + 1


def test_a_gateway_that_holds_another_log_each_second_does_not_fill_this_one(rig):
    gateway, true = rig.gateways["gw-1"], log_of(rig)
    for number in range(20):
        gateway.keeps(Head(1, bytes([number]) * 32))
        gateway.keeps(true)
    rig.pump()
    assert rig.hospital.refused["audit"] == 20
    with rig.store.read() as connection:
        noted = "SELECT count(*) FROM audit WHERE event='audit.contradicted'"
        assert connection.exec_driver_sql(noted).scalar() == 1
