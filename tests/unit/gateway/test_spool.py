"""The spool: all or nothing, secrets encrypted, damage named in one sentence, crashes at every write."""

import os
import sqlite3
import stat

import pytest
from bedside_rig import Rig

from qepa_gateway.errors import ConfigError, CorruptError, SpoolError
from qepa_gateway.spool.database import Spool
from qepa_gateway.spool.migrations import MIGRATIONS
from qepa_gateway.spool.outbox import Outbox
from qepa_gateway.spool.vault import Vault


@pytest.fixture
def spool(tmp_path):
    spool = Spool.open(tmp_path / "state")
    yield spool
    spool.close()


def test_it_is_durable_and_private(spool, tmp_path):
    assert spool.row("PRAGMA journal_mode") == ("wal",)
    assert spool.row("PRAGMA synchronous") == (2,)
    for name in ("spool.db", "kek"):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600


def test_a_transaction_is_all_or_nothing(spool):
    def fail():
        with spool.transaction():
            spool.set("a", 1)
            with spool.transaction():
                spool.set("b", 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert spool.get("a") is None
    assert spool.get("b") is None


def test_a_failed_migration_leaves_the_schema_before(spool):
    with pytest.raises(SpoolError):
        spool.migrate((*MIGRATIONS, "CREATE TABLE later (x); INSERT INTO nowhere VALUES (1)"))
    assert spool.row("PRAGMA user_version") == (len(MIGRATIONS),)
    assert spool.row("SELECT name FROM sqlite_master WHERE name='later'") is None
    spool.migrate((*MIGRATIONS, "CREATE TABLE later (x)"))
    assert spool.row("PRAGMA user_version") == (len(MIGRATIONS) + 1,)


def test_a_spool_of_a_later_program_is_refused(tmp_path):
    spool = Spool.open(tmp_path)
    spool.execute("PRAGMA user_version=99")
    spool.close()
    with pytest.raises(SpoolError, match="schema 99"):
        Spool.open(tmp_path)


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda d: (d / "kek").write_bytes(os.urandom(32)), CorruptError, "does not open"),
        (lambda d: (d / "kek").unlink(), ConfigError, "cannot read the key-encryption key"),
        (lambda d: (d / "kek").write_bytes(b"short"), ConfigError, "5 bytes"),
        (lambda d: (d / "kek").chmod(0o644), ConfigError, "chmod 600"),
        (lambda d: (d / "spool.db").write_bytes(b"not a database" * 100), SpoolError, "spool.db cannot be used"),
    ],
)
def test_damage_is_named(tmp_path, damage, error, says):
    Spool.open(tmp_path).close()
    damage(tmp_path)
    with pytest.raises(error, match=says):
        Spool.open(tmp_path)


def test_secrets_are_bound_to_their_place():
    vault = Vault(bytes(32))
    sealed = vault.seal(b"key", "pairs/gw-1")
    assert vault.open(sealed, "pairs/gw-1") == b"key"
    for wrong in (lambda: vault.open(sealed, "pairs/gw-2"), lambda: vault.open(sealed[:-1], "pairs/gw-1")):
        with pytest.raises(CorruptError):
            wrong()
    with pytest.raises(CorruptError):
        vault.open(b"", "pairs/gw-1")


def test_alerts_leave_the_outbox_first(spool):
    outbox = Outbox(spool, 100)
    outbox.put("p", b"1", alert=False, now_ms=1)
    outbox.put("a", b"2", alert=True, now_ms=2)
    outbox.put("a", b"other", alert=True, now_ms=3)
    assert outbox.waiting(9) == [("a", True), ("p", False)]
    assert outbox.body("a") == b"2"
    outbox.drop(("a", "nothing"))
    assert len(outbox) == 1


def test_no_link_key_lies_in_the_files(tmp_path):
    rig = Rig(tmp_path, patients=3).begin()
    rig.site.crash()
    files = b"".join(path.read_bytes() for path in rig.site.directory.iterdir())
    for board in rig.boards.values():
        assert board.link not in files
        assert board.derive(b"qepa/1/link/mask") not in files


class Fragile:
    """Hands statements to SQLite until ``left`` are used up; then the disk is gone, inside whatever was going on."""

    def __init__(self, connection, left):
        self._connection, self.left = connection, left

    def execute(self, sql, arguments=()):
        if not sql.startswith(("SELECT", "PRAGMA")):
            self.left -= 1
            if self.left < 0:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, arguments)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.mark.parametrize("gateways", [1, 3])
def test_a_crash_at_any_write_loses_and_doubles_nothing(tmp_path, gateways):
    """The disk of gw-1 fails at its n-th statement, for n all over a session, two rounds and an alert."""
    fired = 0
    for left in range(1, 150 if gateways == 1 else 110, 7 if gateways == 1 else 17):
        rig = Rig(tmp_path / str(left), gateways=gateways)
        site = rig.site
        site.spool._connection = Fragile(site.spool._connection, left)

        def revive(rig=rig, site=site):
            nonlocal fired
            if not site.up:
                fired += 1
                site.start()
            rig.settle(3)

        rig.settle(6)
        for board in rig.boards.values():
            board.boot()
        for _ in range(3):
            revive()
            rig.advance(2000, every_ms=1000)
            for board in rig.boards.values():
                if board.outbox:
                    # The crash came between the KME's answer and the commit: that pad is spent, a board takes its next.
                    board.outbox.clear()
                    board.rekey()
        rig.advance(2000, every_ms=1000)
        rig.boards[1].alert()
        for number in (1, 2):
            for _ in range(3):
                rig.server.broadcast(rig.server.round_open(number))
                revive()
            for _ in range(3):
                rig.server.broadcast(rig.server.round_start(number))
                revive()
            for _ in range(5):
                rig.advance(2000, every_ms=1000)
                revive()
            for stream in (1, 2):
                partials = rig.server.partials_of(number, stream)
                assert len(partials) == gateways, (left, number, stream)
                boards = sorted(board for each in partials for board in each.contributors)
                assert boards == sorted(rig.boards)
                assert rig.server.open(partials) == rig.expected(number, stream)
        assert all(len(sent) == 1 for sent in rig.server.submitted_bytes.values())
        assert len(rig.server.alerts) == 1
        assert not any(board.outbox for board in rig.boards.values())
        rig.site.crash()
    assert fired >= 5


def test_a_second_process_cannot_open_it(spool, tmp_path):
    with pytest.raises(SpoolError, match="another program has it"):
        Spool.open(tmp_path / "state")


def test_after_a_failure_nothing_more_is_stored_until_the_gateway_starts_again(tmp_path):
    """Whoever caught it, say the bedside's API: memory may be ahead of the disk, and a number would be used twice."""
    rig = Rig(tmp_path, patients=3).begin()
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    gateway, spool = rig.site.gateway, rig.site.spool
    board = gateway.boards.get(1)
    board.next_seq = board.row.seq_down + 1  # the next number has to be reserved on the disk
    true = spool._connection

    class FullDisk:
        in_transaction = True

        def execute(self, sql, *arguments):
            if sql.startswith("INSERT"):
                raise sqlite3.OperationalError("database or disk is full")
            return true.execute(sql, *arguments)

        def rollback(self):
            true.rollback()

    spool._connection = FullDisk()
    with pytest.raises(SpoolError, match="full"):
        gateway.care.label(1, rig.boards[1].boots, [(1, 0)])
    spool._connection = true  # there is room again
    with pytest.raises(SpoolError, match="full"):
        gateway.step()
