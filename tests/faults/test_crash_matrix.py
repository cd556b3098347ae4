"""Crash matrix: server, gateways and broker lose power at every durable step of a shift, one after the other.

A shift is a round with both streams and, at each gateway, an alert that begins and ends, a consent that is given, used
and withdrawn, and a board that changes its key. It is lived through again and again in one hospital. Each time the
power fails at another step, just before the step is on disk or just after, with nothing said of what follows from it.
What must hold is in :meth:`Watched.check`. ``pytest -rP tests/faults/test_crash_matrix.py`` prints the steps.

Processes under SIGKILL: `test_server.py`, `test_gateway.py`, `test_killed_broker.py`; the optical link and its KMEs:
`test_link_ends.py`, `test_kme.py`; boards: tests/unit/board_app/test_power_cuts.py.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parent))

from hospital_in_memory import UPDATE, Cut, Ward

from qepa_server.audit import chain
from qepa_server.config import LearningConfig
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import cost
from qepa_server.store import schema
from qepa_uplink import envelope
from qepa_uplink.messages import Partial
from qepa_uplink.session import is_sealed
from qepa_uplink.topics import to_server
from qepa_wire import frame

pytestmark = pytest.mark.timeout(1200)  # a sweep is ten seconds on a quiet machine, and minutes on a crowded one
TRIES = 2
BROKER_AWAY_MS = 1000
UP = ("HELLO", "VECTOR", "CARE", "ALERT", "PADS")
DOWN = ("ACK", "ROUND", "CARE_GRANT", "CARE_REVOKE", "MODEL", "PADS_HELD", "REKEY", "LABELS")
FRAMES = {getattr(frame, name): name.lower() for name in UP + DOWN}
LEARNING = LearningConfig(noise_variance=10_000, clip_norm=1000)


def kind_of(message):
    """What a message is, as far as its bytes tell."""
    _, _, whose, *rest = message.topic.split("/")
    if whose == "board":
        return f"{rest[-1]} {FRAMES[frame.parse(message.payload, tuple(FRAMES)).type]}"
    return (
        f"to {whose} {'sealed' if is_sealed(message.payload) else envelope.peek(envelope.parse(message.payload)).type}"
    )


class Watched(Ward):
    """Keeps what each gateway submitted, by place."""

    def __init__(self, directory):
        super().__init__(directory, learning=LEARNING)
        self.submitted = {}
        self.kinds = self.kill_broker_at = None
        self.broker_back_ms = 0
        self.shifts = 0
        self.spec = next(spec for spec in plan_rounds(self.server.config).streams if spec.stream == UPDATE)
        self.owed = Counter()
        self.begin()
        self.until(lambda: self.settled(1))

    def deliver(self, message):
        kind = kind_of(message)
        if self.kinds is not None:
            self.kinds[kind] += 1
        if kind == self.kill_broker_at:
            self.kill_broker_at, self.broker_back_ms = None, self.now_ms + BROKER_AWAY_MS
            self.queue.clear()
        if self.now_ms >= self.broker_back_ms:
            super().deliver(message)
        if message.topic in map(to_server, self.sites) and not is_sealed(message.payload):
            said = envelope.peek(envelope.parse(message.payload))
            if isinstance(said, Partial):
                place = (said.round, said.cell, said.stream, said.gateway)
                self.submitted.setdefault(place, set()).add(message.payload)

    def alarms(self):
        """(how many there ever were, how many last)"""
        with self.server.store.read() as connection:
            ended = list(connection.execute(select(schema.alarms.c.ended_ms)).scalars())
        return len(ended), ended.count(None)

    def one_at_each(self, turn):
        half = len(self.boards) // 2
        return self.boards[1 + turn % half], self.boards[1 + half + turn % half]

    def live(self):
        """One shift, until all of it has come to its end."""
        self.shifts += 1
        number = self.last_round() + 1
        watched, alarmed, rekeyed = (self.one_at_each(self.shifts + k) for k in range(3))
        alarms = self.alarms()
        for board in rekeyed:
            board.rekey()
        consents = [self.consent(board) for board in watched]
        for board in alarmed:
            board.alert()
        self.until(lambda: all(board.care_key is not None for board in watched))
        self.until(lambda: self.settled(number) and self.alarms() == (alarms[0] + 2, 2))
        for board in alarmed:
            board.alert(active=0)
        for consent in consents:
            self.withdraw(consent)

        def over():
            for board in watched:
                if board.care_key is not None:
                    self.up(board, board.care())  # it streams until it is told to stop
            return self.alarms() == (alarms[0] + 2, 0) and not any(board.care_key for board in watched)

        self.until(over)
        self.until(lambda: not any(board.outbox for board in self.boards.values()))
        assert all(self.server.hospital.consents.find(each).withdrawn_ms is not None for each in consents)
        self.check(number)

    def check(self, number):
        """Nothing acknowledged is lost, nothing is summed twice, no sum is paid too little."""
        hospital = self.server.hospital
        opened_here = self.check_sums(number)
        if not self.broker_back_ms:
            record = hospital.ledger.find(number)
            assert record.state == "done", f"all were back within seconds, and round {number}: {record.reason}"
            assert opened_here == 2
        for opened in self.opened(number):
            if not self.broker_back_ms:
                assert opened.boards == tuple(self.boards), "an acknowledged vector is missing"
            if opened.stream == UPDATE:
                price = cost(self.spec, [1], len(opened.boards))
                self.owed.update({hospital.register[board].patient: price for board in opened.boards})
        assert all(len(sent) == 1 for sent in self.submitted.values()), "two sums for one place"
        paid = {a.patient: a.rho + a.pending for a in hospital.privacy.ledger.accounts() if a.purpose == "learning"}
        most = cost(self.spec, [1], 10) * number
        assert all(rho * (1 - 1e-9) <= paid[patient] <= most * (1 + 1e-9) for patient, rho in self.owed.items())


def sweep(ward, party, *, most, starting=()):
    """Cut the power at each step that shifts have, up to ``most`` times where one comes more often.

    With ``starting``: at these alone, in shifts that begin with a start of the party. Returns the cuts, and places that
    were in some shift and in none of three that waited for them.
    """
    cuts, tries, seen = [], Counter(), Counter()
    place = ("", 0, False)
    while place is not None:
        cut = Cut(place[0], place[1], after=place[2])
        ward.restart(party, cut) if starting else party.arm(cut)
        ward.live()
        tries[place] += 1
        if cut.fired:
            cuts.append(place)
        cut.target = ""
        seen |= Counter({step: times for step, times in cut.steps.items() if not starting or step in starting})
        left = (
            (step, nth, after)
            for step, times in sorted(seen.items())
            for nth in range(1, min(times, most) + 1)
            for after in (False, True)
        )
        place = next((each for each in left if each not in cuts and tries[each] < TRIES), None)
    return cuts, [each for each in tries if each[0] and each not in cuts]


def show(title, cuts, missed=()):
    steps = sorted({step for step, _, _ in cuts})
    print(f"{title}: {len(cuts)} cuts at {len(steps)} kinds of step")
    for step in steps:
        before, after = (sum(cut[0] == step and cut[2] is moment for cut in cuts) for moment in (False, True))
        print(f"  {step:60} before {before}  after {after}")
    for place in missed:
        print("  not met again:", *place)


@pytest.mark.parametrize("together", [True, False], ids=["messages together", "one by one"])
def test_the_server_at_every_step(tmp_path, together):
    ward = Watched(tmp_path)
    ward.server.together = together
    cuts, missed = sweep(ward, ward.server, most=1)
    starting = (
        ("audit.seals.install", "audit.witnesses.keep", "enrolment.cohort.cohort_key", "sessions.hub.open_session")
        if together
        else ()
    )
    started, _ = sweep(ward, ward.server, most=1, starting=starting) if starting else ([], ())
    show("server", cuts + started, missed)
    assert {step for step, _, _ in started} == set(starting)
    assert {step for step, _, _ in cuts} >= {
        "care.alarms.accept",
        "care.consents.accept",
        "care.consents.withdraw",
        "rounds.announcement.open_when_due",
        "rounds.announcement.start",
        "rounds.conductor.on_partial",
        "rounds.conductor.on_ready",
        "rounds.settlement.settle",
        "rounds.verdicts.try_open",
    }
    with ward.server.store.read() as connection:
        assert chain.verify(connection) > 0


def test_a_gateway_at_every_step(tmp_path):
    ward = Watched(tmp_path)
    cuts, missed = sweep(ward, ward.site, most=1)
    started, _ = sweep(ward, ward.site, most=1, starting=("audit_heads.keep", "server_link.open_session"))
    show("gateway", cuts + started, missed)
    assert {step for step, _, _ in cuts + started} >= {
        "aggregation.advance",  # contributors are frozen
        "aggregation.close",
        "aggregation.count",
        "aggregation.settle",
        "aggregation.take_count",
        "aggregation.take_open",
        "aggregation.take_start",
        "aggregation.take_vector",
        "alerts.keep",
        "boards.end_batch",
        "care.drop",
        "care.take_grant",
        "care.take_revoke",
        "intake.accept",
        "intake.begin_epoch",
        "intake.key_arrived",
        "models.take",
        "rollout.keep",
        "server_link.open_session",
        "server_link.report",
        "server_link.submit",
        "server_link.take_ack",
    }


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("name", "step"), [("gw-1", "pairs.offer"), ("gw-2", "pairs.take_offer")])
def test_a_gateway_as_its_pair_key_is_made(tmp_path, name, step, after):
    ward = Ward(tmp_path)
    cut = Cut(step, after=after)
    ward.sites[name].arm(cut)
    ward.begin()
    ward.until(lambda: ward.settled(1))
    assert cut.fired
    assert ward.check_sums(1) == 2


def test_the_broker_at_every_kind_of_message(tmp_path):
    """It is killed as that message reaches it: what it held is gone, and for a second so is what is sent to it."""
    ward = Watched(tmp_path)
    ward.kinds = Counter()
    ward.live()
    kinds, ward.kinds = sorted(ward.kinds), None
    for kind in kinds:
        ward.kill_broker_at = kind
        ward.live()
        assert ward.kill_broker_at is None, f"no {kind} came"
    print(f"broker: killed at {len(kinds)} kinds of message: {', '.join(kinds)}")
    assert len(kinds) >= 15
