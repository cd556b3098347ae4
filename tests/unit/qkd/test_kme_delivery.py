"""Key delivery: what a retry gets, and that it is nobody else's; quotas, the alert reserve, age."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kme_ends import Ends

from qepa_qkd.config import SaePair
from qepa_qkd.errors import KeyNotFound, ProtocolError, StockTooLow


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    ends = Ends(tmp_path)
    yield ends
    ends.close()


def take(ends: Ends, request_id: str | None = None, number: int = 1, size: int = 32) -> Any:
    return ends.kmes["alice"].delivery.hand_out("dock", ["gw-1"], number, size, request_id)


def redeem(ends: Ends, key_ids: list[UUID], request_id: str | None = None) -> Any:
    return ends.kmes["bob"].delivery.redeem("dock", "gw-1", key_ids, request_id)


def test_the_same_request_identifier_gets_the_same_answer_and_burns_no_key(ends: Ends) -> None:
    first = take(ends, "a", 2)
    assert take(ends, "a", 2).keys == first.keys
    assert ends.vaults["alice"].keys.stock_bits() == 3200 - 512
    ids = [key.key_id for key in first.keys]
    assert redeem(ends, ids, "r").keys == redeem(ends, ids, "r").keys == first.keys
    for other in ("s", None):
        with pytest.raises(KeyNotFound):
            redeem(ends, ids, other)


def test_two_requests_never_get_one_key(ends: Ends) -> None:
    keys = [take(ends, name).keys[0] for name in ("a", "b", None, None)]
    assert len({key.value for key in keys}) == len({key.key_id for key in keys}) == 4


def test_an_identifier_belongs_to_one_client_and_one_request(ends: Ends) -> None:
    first = take(ends, "a")
    for number, size in ((2, 32), (1, 16)):
        with pytest.raises(ProtocolError, match="another request"):
            take(ends, "a", number, size)
    ids = [first.keys[0].key_id]
    assert redeem(ends, ids, "a").keys == first.keys  # the slave's "a" is not the master's
    with pytest.raises(ProtocolError):
        redeem(ends, [ids[0], ids[0]], "a")


def test_an_answer_is_kept_for_a_short_time_only(ends: Ends) -> None:
    first = take(ends, "a")
    redeemed = redeem(ends, [first.keys[0].key_id], "a")
    ends.now_s += 31
    assert take(ends, "a").keys != first.keys
    with pytest.raises(KeyNotFound):
        redeem(ends, [redeemed.keys[0].key_id], "a")


def test_an_answer_survives_a_restart_sealed(ends: Ends) -> None:
    first = take(ends, "a")
    ends.vaults["alice"].close()
    raw = b"".join(path.read_bytes() for path in ends.directory.glob("alice.db*"))
    assert first.keys[0].value not in raw
    ends.open("alice")
    assert take(ends, "a").keys == first.keys


def test_an_answer_that_was_not_sent_goes_to_the_next_such_request_once(ends: Ends) -> None:
    lost = take(ends)
    ends.kmes["alice"].delivery.mark_unsent(lost)
    assert take(ends, None, 2).keys[0] not in lost.keys
    assert take(ends).keys == lost.keys
    assert take(ends).keys != lost.keys
    unfetched = redeem(ends, [lost.keys[0].key_id])
    ends.kmes["bob"].delivery.mark_unsent(unfetched)
    assert redeem(ends, [lost.keys[0].key_id]).keys == lost.keys
    with pytest.raises(KeyNotFound):
        redeem(ends, [lost.keys[0].key_id])


def test_an_answer_that_was_not_sent_is_for_the_same_client_in_time(tmp_path: Path) -> None:
    ends = Ends(tmp_path, sae=[SaePair(master=name, slave="gw-1") for name in ("dock", "desk")])
    lost = take(ends)
    ends.kmes["alice"].delivery.mark_unsent(lost)
    other = ends.kmes["alice"].delivery.hand_out("desk", ["gw-1"], 1, 32)
    assert other.keys[0].value != lost.keys[0].value
    ends.now_s += 31
    assert take(ends).keys != lost.keys
    ends.close()


def test_without_a_window_nothing_is_kept(tmp_path: Path) -> None:
    ends = Ends(tmp_path, replay_window_s=0)
    lost = take(ends, "a")
    ends.kmes["alice"].delivery.mark_unsent(take(ends))
    assert take(ends, "a").keys != lost.keys
    ends.close()


async def test_the_header_names_a_request(ends: Ends) -> None:
    headers = {"Idempotency-Key": "7f"}
    first = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys", headers=headers)
    assert await ends.ask("alice", "dock", "GET", "gw-1/enc_keys", headers=headers) == first
    code, error = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys?number=2", headers=headers)
    assert (code, error["message"]) == (400, "bad request format")
    for bad in ("", "x" * 65, "a b"):
        code, _ = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys", headers={"Idempotency-Key": bad})
        assert code == 400
    assert ends.vaults["alice"].keys.stock_bits() == 3200 - 256


def test_a_quota_bounds_what_a_master_takes_in_an_hour(tmp_path: Path) -> None:
    pairs = [SaePair(master="dock", slave="gw-1", quota_bits_per_hour=600), SaePair(master="desk", slave="gw-1")]
    ends = Ends(tmp_path, sae=pairs)
    take(ends, "a", 2)
    take(ends, "a", 2)  # a retry costs nothing
    with pytest.raises(StockTooLow, match="this hour"):
        take(ends)
    ends.kmes["alice"].delivery.hand_out("desk", ["gw-1"], 4, 32)
    take(ends, None, 1, 8)
    ends.vaults["alice"].close()
    ends.open("alice")
    with pytest.raises(StockTooLow, match="this hour"):
        take(ends)
    ends.now_s += 3600
    take(ends, None, 2)
    ends.close()


async def test_the_last_key_is_kept_for_alerts(tmp_path: Path) -> None:
    pairs = [SaePair(master="dock", slave="gw-1"), SaePair(master="alarm", slave="gw-1", alert=True)]
    ends = Ends(tmp_path, sae=pairs, alert_reserve_bits=3200 - 512)
    assert (await ends.ask("alice", "dock", "GET", "gw-1/status"))[1]["stored_key_count"] == 2
    assert (await ends.ask("alice", "alarm", "GET", "gw-1/status"))[1]["stored_key_count"] == 12
    take(ends, None, 2)
    code, error = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys")
    assert (code, error["message"]) == (503, "insufficient keys")
    assert (await ends.ask("alice", "dock", "GET", "gw-1/status"))[1]["stored_key_count"] == 0
    code, given = await ends.ask("alice", "alarm", "GET", "gw-1/enc_keys?number=10")
    assert code == 200
    last = base64.b64decode(given["keys"][-1]["key"])
    (key,) = ends.kmes["bob"].delivery.redeem("alarm", "gw-1", [UUID(given["keys"][-1]["key_ID"])]).keys
    assert key.value == last
    ends.close()


def test_key_nobody_fetches_is_destroyed_after_alice_stopped_handing_it_out(tmp_path: Path) -> None:
    ends = Ends(tmp_path, hand_out_within_s=100, fetch_within_s=50)
    taken = [take(ends).keys[0] for _ in range(2)]
    ends.now_s += 99
    ends.add_block(10, bytes(100))
    last = take(ends).keys[0]
    ends.now_s += 2
    with pytest.raises(StockTooLow):
        take(ends, None, 4)  # only the young block counts
    for kme in ends.kmes.values():
        kme.expire()
    assert ends.vaults["alice"].keys.stock_bits() == 800
    assert redeem(ends, [taken[0].key_id]).keys[0] == taken[0]
    ends.now_s += 50
    ends.kmes["bob"].expire()
    for key in (taken[1], last):
        with pytest.raises(KeyNotFound):
            redeem(ends, [key.key_id])
    assert ends.vaults["bob"].keys.stock_bits() == 800
    ends.close()


def test_expiring_changes_nothing_while_nothing_is_old(ends: Ends) -> None:
    take(ends, "a")
    before = (ends.directory / "alice.kek.counter").read_bytes()
    ends.kmes["alice"].expire()
    assert (ends.directory / "alice.kek.counter").read_bytes() == before
