"""Firmware at the server: released by a signed order, once, sent until a gateway tells of it, all in the audit log."""

import asyncio
import json
import os
import time

import httpx
import pytest
from hospital_rig import Rig, ward
from in_process import InProcess
from sqlalchemy import select

from qepa_server.api.app import create_app
from qepa_server.errors import RefusedError
from qepa_server.store.schema import audit
from qepa_tools.board.inventory import KnownBoard
from qepa_tools.board.releasing import release as release_command
from qepa_tools.errors import ToolError
from qepa_uplink.envelope import open_signed, parse
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import FirmwareRelease, FirmwareStatus, Status
from qepa_uplink.releases import ORDER_HOLDS_S, FirmwareOrder, ModelOrder, SignedFirmwareOrder, sign_order
from qepa_uplink.session import is_sealed
from qepa_wire.primitives import sha256

from ..board_app.slot_rig import ROOT, release

KIND = "unix-ecg"


@pytest.fixture
def rig(tmp_path):
    (tmp_path / "server").mkdir()
    rig = Rig(tmp_path / "server", ward(2, 2))
    rig.connect()
    return rig


@pytest.fixture
def packed(tmp_path):
    """Makes bundles as they are posted."""

    def pack(version: int, **changes: object) -> bytes:
        release(version, **changes).write(tmp_path / "bundle.zip")
        return (tmp_path / "bundle.zip").read_bytes()

    return pack


@pytest.fixture
def bundle(packed):
    return packed(2)


def order(rig: Rig, bundle: bytes, boards: tuple[int, ...] = (101,), who: str = "releaser", **fields: object):
    fields = {"signed_s": rig.now // 1000, "nonce": os.urandom(16), "kind": KIND, "bundle": sha256(bundle)} | fields
    signed = sign_order(rig.identities[who], FirmwareOrder(boards=boards, **fields))
    return SignedFirmwareOrder(order=signed, bundle=bundle)


def ordered(rig: Rig, *given: object, **fields: object) -> int:
    return rig.hospital.firmware.order(order(rig, *given, **fields)).number


def tell(rig: Rig, name: str, *firmware: FirmwareStatus) -> list[FirmwareRelease]:
    """A gateway says how it is; what it is sent then."""
    gateway = rig.gateways[name]
    gateway.seal(Status(now_ms=rig.now, boards=(), link=None, refused={}, spool=0, firmware=firmware))
    rig.to_gateways.clear()
    (sent,) = rig.to_server
    rig.to_server.clear()
    rig.hospital.receive(*sent)
    signed = [data for to, data in rig.to_gateways if to == name and not is_sealed(data)]
    messages = [open_signed(parse(data), gateway.server.subject.sign_key) for data in signed]
    return [message for message in messages if isinstance(message, FirmwareRelease)]


def stage(number: int, what: str, **changes: object) -> FirmwareStatus:
    return FirmwareStatus(kind=KIND, number=number, version=2, stage=what, **changes)


def events(rig: Rig) -> list[tuple[str, dict]]:
    with rig.store.read() as connection:
        rows = connection.execute(select(audit.c.event, audit.c.detail).order_by(audit.c.seq))
        return [(row.event, json.loads(row.detail)) for row in rows if row.event.startswith("firmware.")]


def test_a_release_is_sent_to_the_gateways_of_its_boards_until_they_tell_of_it(rig, bundle):
    assert ordered(rig, bundle, (102, 101, 102)) == 1
    (message,) = tell(rig, "gw-1")
    assert (message.kind, message.number, message.boards, message.bundle) == (KIND, 1, (101, 102), bundle)
    assert not tell(rig, "gw-1")  # it is on its way
    rig.now += 5000
    assert tell(rig, "gw-1") == [message]
    rig.now += 5000
    assert not tell(rig, "gw-1")  # less and less often
    rig.now += 60_000
    assert not tell(rig, "gw-1", stage(1, "canary"))
    rig.now += 60_000
    assert not tell(rig, "gw-2")  # none of its boards


def test_each_gateway_hears_of_its_own_boards_alone(rig, bundle):
    ordered(rig, bundle, (101, 201, 202))
    assert [each.boards for each in tell(rig, "gw-1")] == [(101,)]
    assert [each.boards for each in tell(rig, "gw-2")] == [(201, 202)]


def test_every_stage_is_in_the_audit_log_once_also_over_a_restart(rig, bundle):
    ordered(rig, bundle, reason="falls asleep less")
    for _ in range(2):
        tell(rig, "gw-1", stage(1, "canary"))
    rig.crash()
    rig.connect()
    rig.now += 5000
    tell(rig, "gw-1", stage(1, "canary"))
    tell(rig, "gw-1", stage(1, "withdrawn", failed=(101,)))
    found = [(event, detail.get("stage"), detail.get("failed")) for event, detail in events(rig)]
    assert found == [
        ("firmware.released", None, None),
        ("firmware.stage", "canary", 0),
        ("firmware.stage", "withdrawn", 1),
    ]
    released = events(rig)[0][1]
    assert (released["by"], released["reason"]) == ("releaser", "falls asleep less")
    assert rig.hospital.firmware.state()[0]["gateways"]["gw-1"]["stage"] == "withdrawn"


def test_a_release_survives_a_crash_and_numbers_go_on(rig, bundle):
    ordered(rig, bundle)
    rig.crash()
    rig.connect()  # which hears of it at once
    rig.now += 5000
    assert tell(rig, "gw-1")[0].bundle == bundle
    assert ordered(rig, bundle, (102,), kind="unix-ppg") == 2


@pytest.mark.parametrize("who", ["dock", "desk", "gw-1", "server"])
def test_only_a_person_of_the_release_desk_may_order(rig, bundle, who):
    with pytest.raises(UplinkError, match="not a release"):
        ordered(rig, bundle, who=who)
    assert not events(rig)


def test_an_order_without_the_persons_signature_is_refused_before_anything_of_it_is_read(rig, bundle):
    good = order(rig, bundle)
    other_board = good.order.model_copy(update={"body": good.order.body.replace(b"101", b"102")})
    unread = good.order.model_copy(update={"body": b"{" * 9})
    unsigned = good.order.model_copy(update={"signature": bytes(3309)})
    for bad in (other_board, unread, unsigned):
        with pytest.raises(UplinkError, match="signature"):
            rig.hospital.firmware.order(SignedFirmwareOrder(order=bad, bundle=b"no bundle"))
    model = ModelOrder(what="push", name="board", signed_s=rig.now // 1000, nonce=bytes(16))
    for_models = sign_order(rig.identities["releaser"], model)
    with pytest.raises(UplinkError, match="signature"):
        rig.hospital.firmware.order(SignedFirmwareOrder(order=for_models, bundle=bundle))
    assert not events(rig)


def test_an_order_is_for_one_bundle(rig, bundle, packed):
    with pytest.raises(RefusedError, match="another bundle"):
        rig.hospital.firmware.order(order(rig, bundle).model_copy(update={"bundle": packed(3)}))
    assert not events(rig)


def test_an_order_counts_once_also_over_a_restart_and_with_another_signature(rig, bundle):
    first = order(rig, bundle)
    rig.hospital.firmware.order(first)
    person = rig.identities["releaser"]
    again = first.order.model_copy(update={"signature": person.sign(first.order.body, FirmwareOrder.CONTEXT)})
    for _ in range(2):
        for replayed in (first, first.model_copy(update={"order": again})):
            with pytest.raises(RefusedError, match="replay"):
                rig.hospital.firmware.order(replayed)
        rig.crash()
        rig.connect()
    rig.now -= 5_000_000  # nor when the clock was set back
    with pytest.raises(RefusedError, match="replay"):
        rig.hospital.firmware.order(first)
    assert len(events(rig)) == 1


def test_an_order_that_could_not_be_stored_was_not_carried_out(rig, bundle, monkeypatch):
    signed = order(rig, bundle)

    def full_disk(*_, **__):
        raise OSError(28, "no space")

    with monkeypatch.context() as broken:
        broken.setattr("qepa_server.registry.firmware.settings.put", full_disk)
        with pytest.raises(OSError, match="no space"):
            rig.hospital.firmware.order(signed)
    rig.crash()
    assert not rig.hospital.firmware.state()
    assert rig.hospital.firmware.order(signed).number == 1


@pytest.mark.parametrize("off_s", [-ORDER_HOLDS_S - 2, ORDER_HOLDS_S + 2])
def test_an_order_holds_for_minutes(rig, bundle, off_s):
    with pytest.raises(RefusedError, match="minutes from now"):
        ordered(rig, bundle, signed_s=rig.now // 1000 + off_s)


def test_an_order_that_was_held_back_does_not_undo_a_later_one(rig, bundle):
    held_back = order(rig, bundle, (102,))
    rig.now += 2000
    ordered(rig, bundle, (101,))
    with pytest.raises(RefusedError, match="later, and that was done"):
        rig.hospital.firmware.order(held_back)
    assert ordered(rig, bundle, (102,), kind="unix-ppg", signed_s=rig.now // 1000 - 2) == 2  # of another kind it may be


def test_orders_are_carried_out_after_the_clocks_of_all_were_set_back(rig, bundle):
    ordered(rig, bundle)
    rig.now -= 3_600_000
    assert ordered(rig, bundle) == 2


def test_nothing_older_than_what_is_there_is_released_but_the_same_again_is(rig, bundle, packed):
    ordered(rig, bundle)
    assert ordered(rig, bundle) == 2
    for older in (packed(1), packed(2, more={"lib/qepa_board/drivers/cgm.mpy": b"a driver"})):
        with pytest.raises(RefusedError, match="older"):
            ordered(rig, older)
    assert ordered(rig, packed(3)) == 3


def test_what_is_no_bundle_or_for_nobody_is_refused_and_does_not_count(rig, bundle):
    with pytest.raises(UplinkError, match="bundle"):
        ordered(rig, bundle[:-100])
    refused = order(rig, bundle, (101, 999))
    for _ in range(2):
        with pytest.raises(RefusedError, match="no board 000003e7 is enrolled"):
            rig.hospital.firmware.order(refused)
    assert not events(rig)


class _Station:
    server = "http://127.0.0.1"

    def __init__(self, key) -> None:
        self.firmware_key = key


@pytest.fixture
def station(rig, tmp_path):
    rig.now = int(1000 * time.time())
    path = tmp_path / "firmware.pub"
    path.write_text(json.dumps({"firmware_root": ROOT.hex(), "signatures": 0}))
    for who in ("releaser", "dock"):
        rig.identities[who].save(tmp_path / f"{who}.json")
    return _Station(path)


@pytest.fixture
def releaser(tmp_path):
    return tmp_path / "releaser.json"


BOARDS = (
    KnownBoard("a", 101, "unix", "ecg"),
    KnownBoard("b", 102, "esp32", "ecg"),
    KnownBoard("c", 201, "unix", "cgm", replaced_by=202),
    KnownBoard("d", 202, "unix", "cgm"),
)


def test_the_command_releases_for_the_boards_that_the_bundle_fits(rig, station, releaser, tmp_path):
    driver = {"lib/qepa_board/drivers/cgm.mpy": b"a driver"}
    bundle, path = release(2, more=driver), tmp_path / "cgm.zip"
    bundle.write(path)
    done = release_command(bundle, path, station, BOARDS, releaser, reason="newer", transport=InProcess(rig))
    assert done == {"version": 2, "kind": "unix-cgm", "boards": [202], "number": 1}
    assert tell(rig, "gw-2")[0].boards == (202,)
    assert (events(rig)[0][1]["by"], events(rig)[0][1]["reason"]) == ("releaser", "newer")


def test_a_dry_run_signs_nothing(rig, station, tmp_path):
    bundle, path = release(2, more={"lib/qepa_board/drivers/cgm.mpy": b"a driver"}), tmp_path / "cgm.zip"
    bundle.write(path)
    done = release_command(
        bundle, path, station, BOARDS, tmp_path / "none.json", dry_run=True, transport=InProcess(rig)
    )
    assert "number" not in done
    assert not events(rig)


@pytest.mark.parametrize(
    ("only", "why"), [([102], "is an esp32"), ([101], "needs a driver for max30003"), ([7], "not in the inventory")]
)
def test_the_command_says_why_a_bundle_is_not_for_a_board(rig, station, releaser, tmp_path, only, why):
    bundle, path = release(2), tmp_path / "bundle.zip"
    bundle.write(path)
    with pytest.raises(ToolError, match=why):
        release_command(bundle, path, station, BOARDS, releaser, only=only, transport=InProcess(rig))


def test_the_command_takes_no_bundle_of_another_key_and_says_what_the_server_says(rig, station, releaser, tmp_path):
    path = tmp_path / "bundle.zip"
    unsigned = release(2).signed(b"")
    with pytest.raises(ToolError, match="not signed"):
        release_command(unsigned, path, station, BOARDS, releaser, transport=InProcess(rig))
    bundle = release(2, more={"lib/qepa_board/drivers/cgm.mpy": b"a driver"})
    bundle.write(path)
    stranger = [KnownBoard("e", 9, "unix", "cgm")]
    with pytest.raises(ToolError, match="no board 00000009"):
        release_command(bundle, path, station, stranger, releaser, transport=InProcess(rig))
    with pytest.raises(ToolError, match="dock is a dock, not a release"):
        release_command(bundle, path, station, BOARDS, tmp_path / "dock.json", transport=InProcess(rig))
    with pytest.raises(ToolError, match="cannot read the keys"):
        release_command(bundle, path, station, BOARDS, tmp_path / "none.json", transport=InProcess(rig))
    assert not events(rig)


def test_whatever_is_posted_is_refused_in_words(rig, bundle):
    async def ask():
        app = create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            good = order(rig, bundle)
            posted = [
                b"{}",
                bundle,
                bytes(2 << 20),
                good.model_copy(update={"bundle": b""}).model_dump_json(),
                order(rig, bundle, who="dock").model_dump_json(),
                order(rig, bundle, (999,)).model_dump_json(),
                good.model_dump_json(),
                good.model_dump_json(),
            ]
            answers = [(await http.post("/v1/firmware", content=each)).status_code for each in posted]
            old_way = await http.post(f"/v1/firmware/{KIND}", params={"boards": "101", "by": "x"}, content=bundle)
            (there,) = (await http.get("/v1/firmware")).json()["releases"]
            return answers, old_way.status_code, there["number"]

    answers, old_way, number = asyncio.run(ask())
    assert answers == [400, 400, 413, 422, 403, 422, 200, 409]
    assert old_way >= 400
    assert number == 1
