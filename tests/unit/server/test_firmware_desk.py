"""Firmware at the server: released once, sent until a gateway tells of it, every stage in the audit log."""

import asyncio
import json

import httpx
import pytest
from hospital_rig import Rig, ward
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
from qepa_uplink.session import is_sealed

from ..board_app.slot_rig import ROOT, release

KIND = "unix-ecg"


@pytest.fixture
def rig(tmp_path):
    (tmp_path / "server").mkdir()
    rig = Rig(tmp_path / "server", ward(2, 2))
    rig.connect()
    return rig


@pytest.fixture
def bundle(tmp_path):
    release(2).write(tmp_path / "bundle.zip")
    return (tmp_path / "bundle.zip").read_bytes()


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
    assert rig.hospital.firmware.release(KIND, [101, 102], bundle) == 1
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
    rig.hospital.firmware.release(KIND, [101, 201, 202], bundle)
    assert [each.boards for each in tell(rig, "gw-1")] == [(101,)]
    assert [each.boards for each in tell(rig, "gw-2")] == [(201, 202)]


def test_every_stage_is_in_the_audit_log_once_also_over_a_restart(rig, bundle):
    rig.hospital.firmware.release(KIND, [101], bundle, by="a. smith")
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
    assert events(rig)[0][1]["by"] == "a. smith"
    assert rig.hospital.firmware.state()[0]["gateways"]["gw-1"]["stage"] == "withdrawn"


def test_a_release_survives_a_crash_and_numbers_go_on(rig, bundle):
    rig.hospital.firmware.release(KIND, [101], bundle)
    rig.crash()
    rig.connect()  # which hears of it at once
    rig.now += 5000
    assert tell(rig, "gw-1")[0].bundle == bundle
    assert rig.hospital.firmware.release("unix-ppg", [102], bundle) == 2


def test_what_is_no_bundle_or_for_nobody_is_refused(rig, bundle):
    with pytest.raises(UplinkError, match="bundle"):
        rig.hospital.firmware.release(KIND, [101], bundle[:-100])
    with pytest.raises(RefusedError, match="board"):
        rig.hospital.firmware.release(KIND, [999], bundle)
    with pytest.raises(RefusedError, match="schema"):
        rig.hospital.firmware.release("no/kind", [101], bundle)
    assert not events(rig)


class _Here(httpx.BaseTransport):
    """The server's application without a socket."""

    def __init__(self, rig: Rig) -> None:
        self._app = httpx.ASGITransport(create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event()))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._app.handle_async_request(request)
            return httpx.Response(answer.status_code, content=await answer.aread())

        return asyncio.run(ask())


class _Station:
    server = "http://127.0.0.1"

    def __init__(self, key) -> None:
        self.firmware_key = key


@pytest.fixture
def station(tmp_path):
    path = tmp_path / "firmware.pub"
    path.write_text(json.dumps({"firmware_root": ROOT.hex(), "signatures": 0}))
    return _Station(path)


BOARDS = (
    KnownBoard("a", 101, "unix", "ecg"),
    KnownBoard("b", 102, "esp32", "ecg"),
    KnownBoard("c", 201, "unix", "cgm", replaced_by=202),
    KnownBoard("d", 202, "unix", "cgm"),
)


def test_the_command_releases_for_the_boards_that_the_bundle_fits(rig, station, tmp_path):
    driver = {"lib/qepa_board/drivers/cgm.mpy": b"a driver"}
    bundle, path = release(2, more=driver), tmp_path / "cgm.zip"
    bundle.write(path)
    done = release_command(bundle, path, station, BOARDS, transport=_Here(rig))
    assert done == {"version": 2, "kind": "unix-cgm", "boards": [202], "number": 1}
    assert tell(rig, "gw-2")[0].boards == (202,)


@pytest.mark.parametrize(
    ("only", "why"), [([102], "is an esp32"), ([101], "needs a driver for max30003"), ([7], "not in the inventory")]
)
def test_the_command_says_why_a_bundle_is_not_for_a_board(rig, station, tmp_path, only, why):
    bundle, path = release(2), tmp_path / "bundle.zip"
    bundle.write(path)
    with pytest.raises(ToolError, match=why):
        release_command(bundle, path, station, BOARDS, only=only, transport=_Here(rig))


def test_the_command_takes_no_bundle_of_another_key_and_says_what_the_server_says(rig, station, tmp_path):
    path = tmp_path / "bundle.zip"
    unsigned = release(2).signed(b"")
    with pytest.raises(ToolError, match="not signed"):
        release_command(unsigned, path, station, BOARDS, transport=_Here(rig))
    bundle = release(2, more={"lib/qepa_board/drivers/cgm.mpy": b"a driver"})
    bundle.write(path)
    with pytest.raises(ToolError, match="no board 00000009"):
        release_command(bundle, path, station, [KnownBoard("e", 9, "unix", "cgm")], transport=_Here(rig))
