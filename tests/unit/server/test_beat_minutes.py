"""Beats of consenting patients by both models, minute by minute: what counts, and a bad model that goes back by it."""

import os

import numpy as np
import pytest
from hospital_rig import Rig, ward

from qepa_server.care.beat_minutes import MINUTE_MS
from qepa_uplink.messages import CareRecord, Findings, ModelStatus, Status
from qepa_uplink.readings import BEATS_F, BEATS_N, BEATS_S, BEATS_V
from qepa_wire.keys import care_key
from qepa_wire.measures import POOR_SIGNAL, UNKNOWN
from qepa_wire.payloads import Care, encode_care

BOARDS = 8  # enough for a verdict, too few for a round


class Heart:
    """One board and its gateway's model: beats in a row, of which some are V to the gateway."""

    def __init__(self, rig: Rig, gateway: str, board) -> None:
        self.rig, self.gateway, self.board = rig, gateway, board
        self.consent_id = os.urandom(16)
        rig.hospital.consents.accept(rig.consent(board, self.consent_id, end_s=100_000))
        self.t_ms, self.beats, self.boots = 1000, 0, 1
        self.rng = np.random.default_rng(board.number)

    def care(self, beat_class: int, model: int) -> Care:
        self.t_ms += 1000
        self.beats = (self.beats + 1) % 2**16
        return Care(self.t_ms, self.boots, 0, beat_class, self.beats, model, ())

    def minute(self, model: int, swapped: bool = False, seconds: int = 40) -> None:
        """What the board says in a minute; `swapped`: V is called S."""
        for _ in range(seconds):
            ventricular = self.rng.random() < 0.2
            answer = (1 if swapped else 2) if ventricular else 0
            self.rig.hospital.beat_minutes.note(self.board.number, self.consent_id, self.care(answer, model))

    def found(self, quality: int = 95, value: int | None = None, version: int = 1) -> None:
        """What the gateway found in it."""
        v = int(self.rng.binomial(70, 0.2)) if value is None else value
        counts = {BEATS_N: 70 - v if v != UNKNOWN else UNKNOWN, BEATS_S: 0, BEATS_V: v, BEATS_F: 0}
        findings = Findings(
            board=self.board.number, consent_id=self.consent_id, boots=1, t_ms=5, received_ms=self.rig.now,
            model="ecg-beats", version=version, readings=tuple((code, quality, n) for code, n in counts.items()),
        )  # fmt: skip
        self.rig.hospital.findings.accept(self.gateway, findings)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, BOARDS // 2))
    rig.connect()
    return rig


@pytest.fixture
def hearts(rig):
    return [Heart(rig, name, board) for name, gateway in rig.gateways.items() for board in gateway.boards.values()]


def end_minute(rig: Rig) -> None:
    rig.now += MINUTE_MS
    rig.hospital.tick()


def pass_minutes(rig: Rig, hearts: list[Heart], n: int, *, swapped: bool = False) -> None:
    for _ in range(n):
        for heart in hearts:
            heart.minute(rig.hospital.registry.current.version, swapped)
        rig.now += MINUTE_MS
        for heart in hearts:
            heart.found()
        rig.hospital.tick()


def borne(rig: Rig) -> None:
    version = rig.hospital.registry.current.version
    told = Status(
        now_ms=rig.now, boards=(), link=None, refused={}, spool=0,
        model=ModelStatus(version=version, stage="ward", failed=()),
    )  # fmt: skip
    for name in ("gw-1", "gw-2", "gw-1"):
        rig.hospital.releases.on_status(name, told)


def push(rig: Rig, by: int) -> None:
    desk, current = rig.hospital.releases, rig.hospital.registry.current
    words = tuple(word + by for word in current.words)
    desk._store(rig.hospital.registry.pushed(current._replace(words=words), {}, rig.now))
    borne(rig)


def test_a_pushed_model_that_takes_v_for_s_is_taken_back_by_itself(rig, hearts):
    borne(rig)
    before = rig.hospital.registry.current.words
    pass_minutes(rig, hearts, 110)
    assert rig.state()["disagreement"]["standing"] == "usual"
    push(rig, 7)
    pass_minutes(rig, hearts, 5)  # one that answers alike
    assert rig.state()["disagreement"]["standing"] == "watched"
    push(rig, 9)
    for _ in range(50):
        pass_minutes(rig, hearts, 1, swapped=True)
        if rig.hospital.registry.newest.version > 3:
            break
    newest = rig.hospital.registry.newest
    assert (newest.version, newest.origin) == (4, "rollback")
    assert newest.reason.startswith("version 3: drift ")
    assert newest.card["again"]["version"] == 2
    assert rig.hospital.registry.current.words == tuple(word + 7 for word in before)


def test_care_records_and_findings_become_a_minute_of_a_board(rig, hearts):
    heart = hearts[0]
    version = rig.hospital.registry.current.version
    for seq in range(1, 25):
        care = heart.care(0, version)
        key = care_key(heart.board.end_key, heart.consent_id)
        payload = encode_care(key, heart.consent_id, heart.board.number, seq, care)
        record = CareRecord(board=heart.board.number, seq=seq, payload=payload, received_ms=rig.now)
        rig.gateways[heart.gateway].seal(record)
    rig.pump()
    rig.now += MINUTE_MS
    heart.found()
    rig.hospital.tick()
    assert rig.hospital.beat_minutes.disagreement.known == {heart.board.number}
    assert rig.state()["disagreement"] == {
        "standing": "unknown", "boards": 0, "version": None, "score": None, "limit": 1e5, "since_ms": None,
    }  # fmt: skip


def told(rig) -> frozenset[int]:
    return rig.hospital.beat_minutes.disagreement.known


def test_what_is_unsure_or_not_of_the_newest_model_does_not_count(rig, hearts):
    few, older, poor, unknown, late, rebooted, silent, good = hearts[:8]
    version = rig.hospital.registry.current.version
    few.minute(version, seconds=15)
    older.minute(version - 1)
    for heart in (poor, unknown, silent, good):
        heart.minute(version)
    late.minute(version, seconds=100)  # what it kept without a connection
    rebooted.minute(version, seconds=30)
    rebooted.boots += 1
    rebooted.minute(version, seconds=30)
    silent.found()
    rig.now += MINUTE_MS
    for heart in (few, older, late, rebooted, good):
        heart.found()
    poor.found(quality=70)
    unknown.found(quality=POOR_SIGNAL, value=UNKNOWN)
    rig.hospital.tick()
    assert told(rig) == {good.board.number}


def test_nothing_of_a_patient_stays_when_the_consent_ends(rig, hearts):
    pass_minutes(rig, hearts[:2], 1)
    assert told(rig) == {heart.board.number for heart in hearts[:2]}
    rig.hospital.consents.withdraw(rig.withdrawal(hearts[0].consent_id))
    assert told(rig) == {hearts[1].board.number}


def test_what_is_usual_for_a_board_outlasts_the_renewal_of_its_consent(rig, hearts):
    heart = hearts[0]
    pass_minutes(rig, [heart], 1)
    rig.hospital.consents.accept(rig.consent(heart.board, bytes(16), end_s=100_000))
    rig.hospital.consents.withdraw(rig.withdrawal(heart.consent_id))
    end_minute(rig)
    assert told(rig) == {heart.board.number}
    rig.hospital.consents.withdraw(rig.withdrawal(bytes(16)))
    assert not told(rig)
