"""Initial secret by key exchange: the same at both ends, fresh each time, and none when anything was touched."""

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.errors import SecurityError
from qepa_qkd.pqc_secret import answer_offer, make_offer, take_answer

ALICE, BOB, EVE = (MLDSA65PrivateKey.from_seed_bytes(bytes([n]) * 32) for n in range(3))


def test_both_ends_derive_the_same_fresh_secret() -> None:
    secrets = set()
    for _ in range(2):
        offer = make_offer("gw-1", BOB)
        answer, mine = answer_offer(offer.message, "gw-1", ALICE, BOB.public_key())
        assert take_answer(offer, answer, "gw-1", ALICE.public_key()) == mine
        assert len(mine) == 4096
        assert len(InitialSecret.parse(mine).pads_to_bob) == 2016
        secrets.add(mine)
    assert len(secrets) == 2


def test_every_byte_of_both_messages_is_signed() -> None:
    offer = make_offer("gw-1", BOB)
    answer, _ = answer_offer(offer.message, "gw-1", ALICE, BOB.public_key())
    for place in range(0, len(offer.message), 41):
        with pytest.raises(SecurityError):
            answer_offer(flipped(offer.message, place), "gw-1", ALICE, BOB.public_key())
    for place in range(0, len(answer), 41):
        with pytest.raises(SecurityError):
            take_answer(offer, flipped(answer, place), "gw-1", ALICE.public_key())


def test_messages_cut_short_or_of_strangers_or_other_links_or_attempts_are_refused() -> None:
    offer, other = make_offer("gw-1", BOB), make_offer("gw-1", BOB)
    answer, _ = answer_offer(offer.message, "gw-1", ALICE, BOB.public_key())
    for message, link, peer in (
        (offer.message[:-1], "gw-1", BOB),
        (b"", "gw-1", BOB),
        (offer.message, "gw-2", BOB),
        (offer.message, "gw-1", EVE),
        (answer, "gw-1", BOB),
    ):
        with pytest.raises(SecurityError):
            answer_offer(message, link, ALICE, peer.public_key())
    for kept, message, link, peer in (
        (other, answer, "gw-1", ALICE),
        (offer, answer, "gw-2", ALICE),
        (offer, answer, "gw-1", EVE),
        (offer, answer[:-1], "gw-1", ALICE),
    ):
        with pytest.raises(SecurityError):
            take_answer(kept, message, link, peer.public_key())


def flipped(message: bytes, place: int) -> bytes:
    return message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
