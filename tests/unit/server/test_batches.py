"""Several messages in one transaction: the same effects, nothing leaves before they are durable."""

import asyncio

import pytest
from hospital_rig import Rig, ward

from qepa_server.main import _Inbox
from qepa_server.rounds.ledger import DONE


def collected(rig: Rig) -> list[tuple[str, bytes]]:
    """What all gateways say when a round has started, not yet delivered."""
    rig.connect()
    while not any(gateway.done for gateway in rig.gateways.values()):
        rig.now += 500
        for gateway in rig.gateways.values():
            gateway.status()
        for arrival in rig.to_server:
            rig.hospital.receive(*arrival)
        rig.to_server.clear()
        rig.hospital.tick()
        for name, data in rig.to_gateways:
            rig.gateways[name].receive(data)
        rig.to_gateways.clear()
    arrivals, rig.to_server = rig.to_server, []
    return arrivals


def commits(rig: Rig) -> list[int]:
    """Grows by one with each commit that wrote something."""
    seen: list[int] = []
    before = rig.hospital.store.before_commit

    def note(connection) -> None:
        before(connection)
        seen.append(1)

    rig.hospital.store.before_commit = note
    return seen


def test_a_whole_round_in_one_transaction(tmp_path):
    rig = Rig(tmp_path, ward(3, 6), max_rounds=1, gateways_expected=3, patients_expected=18)
    arrivals = collected(rig)
    seen = commits(rig)
    rig.hospital.receive_all([*arrivals, *arrivals])  # twice: a batch sees what it wrote itself
    assert len(seen) == 1
    assert rig.hospital.ledger.find(1).state == DONE
    assert not rig.hospital.refused
    rig.pump()
    assert all(gateway.model_version == 2 for gateway in rig.gateways.values())


def test_a_refused_message_takes_nothing_along(tmp_path):
    rig = Rig(tmp_path, ward(3, 6), max_rounds=1, gateways_expected=3, patients_expected=18)
    arrivals = collected(rig)
    rig.hospital.receive_all([("gw-1", b"nonsense"), *arrivals, ("gw-2", arrivals[0][1])])
    assert sum(rig.hospital.refused.values()) == 2
    assert rig.hospital.ledger.find(1).state == DONE


def test_nothing_leaves_of_a_batch_that_could_not_be_stored(tmp_path):
    rig = Rig(tmp_path, ward(3, 6), max_rounds=1, gateways_expected=3, patients_expected=18)
    arrivals = collected(rig)

    def full(_connection) -> None:
        raise OSError("disk full")

    rig.hospital.store.before_commit = full
    with pytest.raises(OSError, match="disk full"):
        rig.hospital.receive_all(arrivals)
    assert rig.to_gateways == []
    rig.crash()
    assert rig.hospital.ledger.partials(1) == []
    rig.to_server += arrivals
    rig.pump()
    rig.pass_time(6)
    assert rig.hospital.ledger.find(1).state == DONE


def test_gateways_that_come_together_share_one_directory(tmp_path):
    rig = Rig(tmp_path, ward(3, 4))
    for gateway in rig.gateways.values():
        gateway.connect()
    sent = rig.to_gateways
    for arrival in rig.to_server:
        rig.hospital.receive(*arrival)
    rig.to_server.clear()
    before = len(sent)
    rig.hospital.tick()
    told = [name for name, _ in sent[before:]]
    assert sorted(told) == ["gw-1", "gw-2", "gw-3"]
    rig.pump()
    assert all(len(gateway.directory.certificates) == 3 for gateway in rig.gateways.values())


async def test_messages_that_come_while_others_are_written_are_taken_together():
    batches: list[list[tuple[str, bytes]]] = []
    inbox = _Inbox(lambda batch: batches.append(list(batch)))
    task = asyncio.create_task(inbox.run())
    for i in range(5):
        inbox.put("gw-1", bytes([i]))
    async with asyncio.timeout(60):
        while not batches:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert batches == [[("gw-1", bytes([i])) for i in range(5)]]


async def test_who_floods_the_server_loses_its_own_messages_and_nobody_elses(monkeypatch):
    monkeypatch.setattr("qepa_server.main._OVERHEAD_BYTES", 30)
    monkeypatch.setattr("qepa_server.main._MOST_BYTES", 100)
    monkeypatch.setattr("qepa_server.main._MOST_BYTES_ALL", 250)
    taken, refused = [], []
    inbox = _Inbox(taken.extend, overloaded=lambda: refused.append(1))
    for _ in range(1000):
        inbox.put("gw-1", bytes(10))
    inbox.put("gw-2", bytes(10))
    for number in range(100):  # a broker without an access list takes any name
        inbox.put(f"made-up-{number}", bytes(10))
    running = asyncio.create_task(inbox.run())
    async with asyncio.timeout(60):
        while not taken:
            await asyncio.sleep(0.01)
    assert [name for name, _ in taken[:3]] == ["gw-1", "gw-1", "gw-2"]
    assert len(taken) == 250 // 40
    assert len(refused) == 1101 - len(taken)
    inbox.put("gw-1", bytes(10))  # all is as it was
    async with asyncio.timeout(60):
        while taken[-1][0] != "gw-1":
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
