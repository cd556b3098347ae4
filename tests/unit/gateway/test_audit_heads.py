"""The head of the server's audit log, kept by a gateway: it only grows, or the gateway says so."""

import os

import pytest
from bedside_rig import Rig, identity, root

from qepa_gateway.audit_heads import ANCHOR_FILE
from qepa_gateway.health import faults
from qepa_tools.audit.log_file import read_anchor
from qepa_uplink.audit import GENESIS, SEAL_CONTEXT, Head, extended, head_bytes
from qepa_uplink.messages import AuditHead, AuditKept


class Log:
    """A log of which only the links matter."""

    def __init__(self, entries):
        self.links = [os.urandom(32) for _ in range(entries)]

    def head(self, seq):
        return extended(Head(0, GENESIS), self.links[:seq])

    def told(self, seq, base_seq=None, signer="server"):
        head, base_seq = self.head(seq), seq if base_seq is None else base_seq
        signature = identity(signer, "server").sign(head_bytes(head), SEAL_CONTEXT)
        links = tuple(self.links[base_seq:seq])
        return AuditHead(seq=seq, hash=head.hash, signature=signature, base_seq=base_seq, links=links)


class Ward:
    def __init__(self, tmp_path):
        self.rig = Rig(tmp_path, patients=1).begin()
        self.answers = []
        take = self.rig.server._take_sealed

        def tap(gateway, message):
            if isinstance(message, AuditKept):
                self.answers.append(message)
            take(gateway, message)

        self.rig.server._take_sealed = tap

    @property
    def heads(self):
        return self.rig.site.gateway.audit

    def tell(self, message):
        self.rig.server.send_sealed("gw-1", message)
        self.rig.settle(3)


@pytest.fixture
def ward(tmp_path):
    return Ward(tmp_path)


def test_a_head_that_extends_the_kept_one_takes_its_place_and_is_countersigned(ward, tmp_path):
    log = Log(9)
    for message in (log.told(3), log.told(7, base_seq=3), log.told(9, base_seq=7)):
        ward.tell(message)
        assert str(ward.heads.kept) == str(log.head(message.seq))
        assert ward.answers[-1].seq == message.seq
        head, who = read_anchor(tmp_path / "gw-1" / ANCHOR_FILE, root().public_key)
        assert (head, who) == (log.head(message.seq), "gw-1")
    assert not ward.heads.refused
    assert "audit" not in faults(ward.rig.site.gateway)


def test_the_kept_head_outlives_a_crash(ward):
    log = Log(5)
    ward.tell(log.told(5))
    ward.rig.site.crash()
    ward.rig.site.start()
    ward.rig.settle(4)
    assert ward.heads.kept == log.head(5)
    ward.tell(log.told(5))
    assert ward.answers[-1].hash == log.head(5).hash


def gone_back(log, _other):
    return log.told(3)


def another_entry_of_the_same_number(_log, other):
    return other.told(5)


def another_log_with_links_of_its_own(_log, other):
    return other.told(8, base_seq=5)


def links_missing(log, _other):
    message = log.told(8, base_seq=5)
    return message.model_copy(update={"links": message.links[1:]})


@pytest.mark.parametrize(
    "harm", [gone_back, another_entry_of_the_same_number, another_log_with_links_of_its_own, links_missing]
)
def test_a_log_that_does_not_extend_the_kept_head_is_refused_counted_and_said_until_it_does(ward, harm):
    log, other = Log(9), Log(9)
    ward.tell(log.told(5))
    ward.tell(harm(log, other))
    assert ward.heads.kept == log.head(5)
    assert ward.rig.site.refused["audit"] == 1
    assert "audit" in faults(ward.rig.site.gateway)
    assert ward.answers[-1].seq == 5, "the server is told what is held"
    ward.rig.advance(2500)
    assert ward.rig.server.status["gw-1"].audit == ward.heads.refused != ""
    ward.rig.site.crash()
    ward.rig.site.start()
    ward.rig.settle(4)
    assert "audit" in faults(ward.rig.site.gateway), "a restart does not make it right"
    ward.tell(log.told(9, base_seq=5))
    assert "audit" not in faults(ward.rig.site.gateway)


def test_a_server_that_does_not_know_what_is_kept_is_told_and_one_that_never_shows_it_is_refused(ward):
    log = Log(9)
    ward.tell(log.told(5))
    ward.tell(log.told(9, base_seq=2))
    assert not ward.heads.refused
    assert ward.answers[-1].seq == 5
    ward.tell(log.told(9, base_seq=5))
    assert ward.heads.kept == log.head(9)
    later = Log(0)
    later.links = log.links + [os.urandom(32) for _ in range(3)]
    for _ in range(4):
        ward.tell(later.told(12, base_seq=12))
    assert ward.heads.kept == log.head(9)
    assert "nothing shows" in ward.heads.refused


def test_only_the_servers_own_signature_makes_a_head(ward):
    ward.tell(Log(5).told(5, signer="another"))
    assert ward.heads.kept is None
    assert ward.rig.site.refused["signature"] == 1
    assert not ward.answers
