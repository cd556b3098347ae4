"""Key identifiers: they say where and for whom, and nobody but the link can make or change one."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_qkd.errors import KeyNotFound
from qepa_qkd.key_id import BLOCK_ID_BITS, MOST_KEY_BYTES, MOST_OFFSET, PREFIX_BITS, Claim, KeyIdentifiers, KeyLocation

SLAVES = tuple(f"gw-{letter}" for letter in "abcdefghijkl")
IDENTIFIERS = KeyIdentifiers(bytes(32))

locations = st.builds(
    KeyLocation, st.integers(0, 2**BLOCK_ID_BITS - 1), st.integers(0, MOST_OFFSET), st.integers(1, MOST_KEY_BYTES)
)
audiences = st.sets(st.sampled_from(SLAVES), min_size=1)


@given(locations, audiences)
def test_identifiers_say_where_the_key_is_and_for_whom(location: KeyLocation, audience: set[str]) -> None:
    key_id = IDENTIFIERS.issue(location, "dock", SLAVES, audience)
    assert (key_id.version, key_id.variant) == (8, "specified in RFC 4122")
    claim = Claim.parse(UUID(str(key_id)))
    assert claim.block_prefix == location.block_id >> (BLOCK_ID_BITS - PREFIX_BITS)
    assert (claim.offset, claim.size) == (location.offset, location.size)
    assert {slave for i, slave in enumerate(SLAVES) if claim.audience >> i & 1} == audience
    assert IDENTIFIERS.confirms(claim, location.block_id, "dock", SLAVES)


@given(locations, audiences, st.integers(0, 127))
def test_no_bit_of_an_identifier_can_be_changed(location: KeyLocation, audience: set[str], bit: int) -> None:
    key_id = IDENTIFIERS.issue(location, "dock", SLAVES, audience)
    try:
        claim = Claim.parse(UUID(int=key_id.int ^ 1 << bit))
    except KeyNotFound:
        return
    same_prefix = claim.block_prefix == location.block_id >> (BLOCK_ID_BITS - PREFIX_BITS)
    assert not (same_prefix and IDENTIFIERS.confirms(claim, location.block_id, "dock", SLAVES))


def test_an_identifier_holds_for_its_block_master_and_link_only() -> None:
    location = KeyLocation(7, 0, 32)
    claim = Claim.parse(IDENTIFIERS.issue(location, "dock", SLAVES, ["gw-a"]))
    assert not IDENTIFIERS.confirms(claim, 8, "dock", SLAVES)
    assert not IDENTIFIERS.confirms(claim, 7, "dock-2", SLAVES)
    assert not IDENTIFIERS.confirms(claim, 7, "dock", SLAVES[1:])
    assert not IDENTIFIERS.confirms(claim, 7, "dock", ())
    assert not KeyIdentifiers(bytes(31) + b"\1").confirms(claim, 7, "dock", SLAVES)


def test_what_an_identifier_cannot_name_is_refused() -> None:
    for location in (KeyLocation(7, MOST_OFFSET + 1, 32), KeyLocation(7, 0, MOST_KEY_BYTES + 1), KeyLocation(7, 0, 0)):
        with pytest.raises(ValueError, match="outside"):
            IDENTIFIERS.issue(location, "dock", SLAVES, ["gw-a"])
    for audience in ([], ["stranger"]):
        with pytest.raises(ValueError):
            IDENTIFIERS.issue(KeyLocation(7, 0, 32), "dock", SLAVES, audience)
    for foreign in (uuid4(), UUID(int=0), UUID(int=2**128 - 1)):
        with pytest.raises(KeyNotFound):
            Claim.parse(foreign)
