"""Distillation of a block: identical keys at both ends, or none and a reason."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd import messages as m
from qepa_qkd.alarms import ATTACKS, kind_of
from qepa_qkd.decoy import PROOFS
from qepa_qkd.errors import ProtocolError, QkdError, SecurityError
from qepa_qkd.parity_questions import Divisions, SyndromeBits
from qepa_qkd.passport import verify_passport

from .conftest import SETTINGS, MemoryLink

MakeLink = Callable[..., MemoryLink]


def stocks(link: MemoryLink) -> tuple[int, int]:
    return link.vaults["alice"].keys.stock_bits(), link.vaults["bob"].keys.stock_bits()


def test_a_block_ends_in_the_same_key_at_both_ends(make_link: MakeLink) -> None:
    link = make_link()
    link.run_block()
    (alice,), (bob,) = link.alice.outcomes, link.bob.outcomes
    assert alice == bob
    assert alice.reason is None
    assert 0.005 < alice.qber_z < 0.025
    assert alice.pulses == pytest.approx(link.optics.slot, rel=0.01)
    assert stocks(link) == (alice.key_bits, alice.key_bits)
    mine = link.vaults["alice"].keys.take(20, 32)
    theirs = link.vaults["bob"].keys.redeem([key.location for key in mine])
    assert [k.value for k in mine] == [k.value for k in theirs]
    assert len({k.value for k in mine}) == 20


def test_no_basis_is_named_before_the_detections_of_its_block_are_closed(make_link: MakeLink) -> None:
    link = make_link()
    detections: dict[int, int] = {}
    named: list[int] = []

    def watch(receiver: str, data: bytes) -> bytes:
        match m.decode(data):
            case m.Report(block=block, slots=slots):
                assert not named
                detections[block] = detections.get(block, 0) + len(slots)
            case m.Bases(block=block) | m.Sift(block=block):
                # 120,000 bits where 0.7 of the light is in the key basis at either end.
                assert detections[block] >= 120_000 / 0.49
                named.append(block)
        return data

    link.wire = watch
    link.run_block()
    assert named
    assert link.alice.outcomes[0].key_bits > 0


def test_bases_before_their_time_are_refused(make_link: MakeLink) -> None:
    link = make_link()
    slots, detectors = link.optics.advance(200_000)
    link.deliver([("alice", said) for said in link.bob.report(1, slots, detectors)])
    with pytest.raises(ProtocolError, match="still fills"):
        link.deliver([("alice", m.encode(m.Bases(1, 0, np.zeros(len(np.unique(slots)), np.uint8))))])


def test_a_block_whose_run_ended_before_alice_closed_it_ends_at_bob_too(make_link: MakeLink) -> None:
    link = make_link()
    while len(said := link.bob.report(1, *link.optics.advance(200_000))) == 1:
        link.deliver([("alice", said[0])])
    link.alice.restart_filling()
    link.deliver([("alice", data) for data in said[1:]])
    assert "run ended" in str(link.bob.outcomes[0].reason)
    link.bob.outcomes.clear()
    link.run_block()
    assert link.alice.outcomes[0].reason is None


def test_the_authentication_ledger_is_spent_and_renewed(make_link: MakeLink) -> None:
    link = make_link()
    before = link.vaults["alice"].pads.pads_left()
    link.run_block()
    for vault in link.vaults.values():
        assert vault.pads.spent_and_gained_bits() == (2 * 256, 4 * 256)
        assert vault.pads.pads_left() == (before[0] + 1, before[1] + 1)


def test_the_passport_states_the_block_and_verifies(make_link: MakeLink) -> None:
    link = make_link()
    link.run_block()
    public = link.signer.public_key()
    texts = [vault.keys.passports()[0] for vault in link.vaults.values()]
    alice, bob = (verify_passport(text, public) for text in texts)
    assert (alice["role"], bob["role"]) == ("alice", "bob")
    assert {k: v for k, v in alice.items() if k != "role"} == {k: v for k, v in bob.items() if k != "role"}
    assert alice["key_bits"] - alice["authentication_bits"] == stocks(link)[0]
    assert alice["bounds"]["bits"] - alice["key_bits"] < 8
    assert alice["leak_bits"] > 1000
    forged = json.loads(texts[0])
    forged["passport"]["leak_bits"] += 1
    for text, key in (
        (json.dumps(forged), public),
        (texts[0], MLDSA65PrivateKey.generate().public_key()),
        ("{}", public),
    ):
        with pytest.raises(SecurityError):
            verify_passport(text, key)


@pytest.mark.parametrize("fraction", [0.2, 0.6, 1.0])
def test_intercept_resend_shows_as_a_quarter_of_its_share(make_link: MakeLink, fraction: float) -> None:
    honest, attacked = make_link(), make_link(intercept_fraction=fraction)
    for link in (honest, attacked):
        link.run_block()
    baseline, seen = honest.alice.outcomes[0].qber_z, attacked.alice.outcomes[0].qber_z
    # An attacked bit is wrong half of the time, when Eve's basis was wrong, and keeps the baseline else.
    assert seen == pytest.approx(baseline + fraction * (0.25 - baseline / 2), abs=0.01)
    assert stocks(attacked) == (0, 0)


def test_an_error_rate_over_the_threshold_gives_no_key_and_the_reason(make_link: MakeLink) -> None:
    link = make_link(intercept_fraction=0.5)
    link.run_block()
    for outcomes in (link.alice.outcomes, link.bob.outcomes):
        assert "QBER" in str(outcomes[0].reason)
        assert "threshold" in str(outcomes[0].reason)


def test_slots_that_shift_are_a_fault_in_timing_and_no_attack(make_link: MakeLink) -> None:
    link = make_link()
    link.offset += 1
    link.run_block()
    for outcomes in (link.alice.outcomes, link.bob.outcomes):
        assert outcomes[0].qber_z == pytest.approx(0.5, abs=0.03)
        assert kind_of(outcomes[0].reason) == "timing"
    assert "timing" not in ATTACKS
    assert stocks(link) == (0, 0)


def test_too_little_authentication_key_gives_no_key_and_the_reason(make_link: MakeLink) -> None:
    link = make_link()
    for _ in range(link.vaults["bob"].pads.pads_left()[0]):
        link.vaults["bob"].pads.spend_own_pad()
    link.run_block()
    for outcomes in (link.alice.outcomes, link.bob.outcomes):
        assert outcomes[0].reason == "too little authentication key"
    assert stocks(link) == (0, 0)


def test_failed_verification_gives_no_key_and_the_reason(make_link: MakeLink) -> None:
    link = make_link()

    def spoil_the_hash(receiver: str, data: bytes) -> bytes:
        return m.encode(change(m.decode(data)) or m.KeepAlive()) if isinstance(m.decode(data), m.Verify) else data

    link.wire = spoil_the_hash
    link.run_block()
    for outcomes in (link.alice.outcomes, link.bob.outcomes):
        assert "verification failed" in str(outcomes[0].reason)
    assert stocks(link) == (0, 0)


def test_verification_catches_an_error_that_correction_left(make_link: MakeLink) -> None:
    link = make_link()

    def flip_one_bit(receiver: str, data: bytes) -> bytes:
        if receiver == "bob" and isinstance(m.decode(data), m.Verify):
            (block,) = (b for b in link.bob._blocks.values() if b.corrected is not None)
            assert block.corrected is not None
            block.corrected[12_345] ^= 1
        return data

    link.wire = flip_one_bit
    link.run_block()
    assert "verification failed" in str(link.alice.outcomes[0].reason)
    assert stocks(link) == (0, 0)


def change(message: m.Message) -> m.Message | None:  # noqa: PLR0911 (one line a kind)
    """The smallest change of a message that still parses; None where there is nothing to change."""
    match message:
        case m.Report(slots=slots):
            return replace(message, slots=np.append(slots[:-1], slots[-1] + 1))
        case m.Bases(symbols=symbols) if (test := np.flatnonzero(symbols >= 2)).size:
            altered = symbols.copy()
            altered[test[0]] ^= 1
            return replace(message, symbols=altered)
        case m.Sift(verdicts=verdicts) if (kept := np.flatnonzero(verdicts == 2)).size:
            altered = verdicts.copy()
            altered[kept[0]] = 1
            return replace(message, verdicts=altered)
        case m.Reconcile():
            return replace(message, block_id=message.block_id ^ 1)
        case m.ParityRequest(question=Divisions(segments=segments)):
            altered = segments.copy()
            altered[-1] -= 1
            fits = altered[-1] >= 0 and (len(altered) == 1 or altered[-1] > altered[-2])
            return replace(message, question=replace(message.question, segments=altered)) if fits else None
        case m.ParityReply():
            parities = message.parities.copy()
            parities[0] ^= 1
            return replace(message, parities=parities)
        case m.Corrected():
            return replace(message, errors=(message.errors[0] + 1, *message.errors[1:]))
        case m.Verify():
            return replace(message, key=bytes(16))
        case m.Amplify():
            return replace(message, seed=bytes([message.seed[0] ^ 1]) + message.seed[1:])
        case m.Tag():
            return replace(message, value=bytes([message.value[0] ^ 1]) + message.value[1:])
        case _:
            return None


@pytest.mark.parametrize(
    "kind",
    [m.Report, m.Bases, m.Sift, m.Reconcile, m.ParityRequest, m.ParityReply, m.Corrected, m.Verify, m.Amplify],
    ids=lambda kind: kind.__name__,
)
def test_one_changed_message_gives_no_live_key_anywhere(make_link: MakeLink, kind: type) -> None:
    link = make_link()
    changed = []

    def attack(receiver: str, data: bytes) -> bytes:
        message = m.decode(data)
        if not changed and isinstance(message, kind) and (altered := change(message)) is not None:
            changed.append(receiver)
            return m.encode(altered)
        return data

    link.wire = attack
    with contextlib.suppress(ProtocolError, SecurityError):
        link.run_block()
    assert changed
    assert link.vaults["alice"].keys.stock_bits() == 0
    assert link.vaults["bob"].keys.key_count(32) == 0
    # What Bob may have pending, Alice does not have: it is destroyed when they meet again.
    for block_id in link.vaults["bob"].keys.pending():
        link.vaults["bob"].settle(block_id, live=bool(link.vaults["alice"].keys.known([block_id])))
    assert stocks(link) == (0, 0)


def test_a_forged_tag_is_a_security_error(make_link: MakeLink) -> None:
    link = make_link()

    def forge(receiver: str, data: bytes) -> bytes:
        message = m.decode(data)
        return m.encode(change(message) or message) if isinstance(message, m.Tag) else data

    link.wire = forge
    with pytest.raises(SecurityError):
        link.run_block()
    assert stocks(link) == (0, 0)


def test_a_replayed_tag_is_refused(make_link: MakeLink) -> None:
    link = make_link()
    tags: list[bytes] = []

    def record(receiver: str, data: bytes) -> bytes:
        if receiver == "bob" and isinstance(m.decode(data), m.Tag):
            tags.append(data)
        return data

    link.wire = record
    link.run_block()
    link.alice.outcomes.clear()
    link.bob.outcomes.clear()
    first = m.decode(tags[0])
    assert isinstance(first, m.Tag)
    link.wire = lambda _, data: m.encode(replace(m.decode(data), segment=first.segment, position=first.position)) \
        if isinstance(m.decode(data), m.Tag) else data  # fmt: skip
    with pytest.raises(SecurityError):
        link.run_block()


@pytest.mark.parametrize(
    ("receiver", "lost_kind"), [("bob", m.Amplify), ("bob", m.Tag), ("alice", m.Tag), ("bob", m.Stored)]
)
def test_a_connection_that_breaks_anywhere_leaves_both_or_none(
    make_link: MakeLink, receiver: str, lost_kind: type
) -> None:
    link = make_link()
    broken = []

    def cut(to: str, data: bytes) -> bytes | None:
        if broken or (to == receiver and isinstance(m.decode(data), lost_kind)):
            broken.append(to)
            return None
        return data

    link.wire = cut
    link.run_block()
    assert broken
    alice, bob = link.vaults["alice"], link.vaults["bob"]
    for block_id in bob.keys.pending():
        bob.settle(block_id, live=bool(alice.keys.known([block_id])))
    alice.pads.advance(bob.pads.positions())
    bob.pads.advance(alice.pads.positions())
    assert stocks(link)[0] == stocks(link)[1]
    link.wire = lambda _, data: data
    link.connect()
    link.run_block()
    assert link.alice.outcomes[0].reason is None
    assert stocks(link)[0] == stocks(link)[1] > 0


def test_messages_out_of_turn_are_protocol_errors(make_link: MakeLink) -> None:
    link = make_link()

    def early(receiver: str, data: bytes) -> bytes:
        return m.encode(m.Amplify(1, 1024, 0, b"")) if isinstance(m.decode(data), m.Reconcile) else data

    link.wire = early
    with pytest.raises(QkdError, match="out of turn"):
        link.run_block()


def test_errors_corrected_by_syndromes_make_the_same_key_at_both_ends(make_link: MakeLink) -> None:
    link = make_link(reconciliation="ldpc")
    said = []
    link.wire = lambda _, data: said.append(m.decode(data)) or data
    link.run_block()
    (alice,), (bob,) = link.alice.outcomes, link.bob.outcomes
    assert alice == bob
    assert stocks(link) == (alice.key_bits, alice.key_bits)
    assert alice.key_bits > 0
    requests = [message for message in said if isinstance(message, m.ParityRequest)]
    assert len(requests) < 20
    assert all(isinstance(request.question, SyndromeBits) for request in requests)


def test_ends_that_correct_errors_differently_do_not_agree() -> None:
    assert SETTINGS.digest() != replace(SETTINGS, reconciliation="ldpc").digest()


@pytest.mark.parametrize("proof", PROOFS)
def test_every_proof_makes_the_same_key_at_both_ends(make_link: MakeLink, proof: str) -> None:
    link = make_link(proof=proof)
    link.run_block()
    (alice,), (bob,) = link.alice.outcomes, link.bob.outcomes
    assert alice == bob
    assert alice.key_bits > 0
    assert stocks(link) == (alice.key_bits, alice.key_bits)
