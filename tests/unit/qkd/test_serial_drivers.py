"""Drivers against simulated devices on pseudo-terminals: wrong devices, unplugging, garbage, lost tags."""

import asyncio
import errno
import os
import termios
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from qepa_qkd.drivers import terminal as terminal_module
from qepa_qkd.drivers.errors import (
    NoPortError,
    PortBusyError,
    PortError,
    RefusedError,
    TagStreamError,
    WrongDeviceError,
    WrongVersionError,
)
from qepa_qkd.drivers.kinds import open_receiver
from qepa_qkd.drivers.reconnect import open_soon, open_when_there
from qepa_qkd.drivers.tdc1 import Reference, Tdc1
from qepa_qkd.drivers.tdc1_words import STEP_PS, WRAP_STEPS, RecordDecoder
from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.serial_protocol import Command, Detections, FrameDecoder, FrameEncoder, Message, Reply, TimeTags
from qepa_tools.bench.tdc1 import SimulatedTdc1


class Device:
    """A pty in this event loop; `answer` gets what the host sent and returns what to send back."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave = slave
        os.set_blocking(self._master, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._readable)

    def say(self, data: bytes) -> None:
        os.write(self._master, data)

    def unplug(self) -> None:
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            os.close(self._master)
            os.close(self._slave)
            self._master = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return
        self.say(self._answer(data))


class Controller:
    """Answers commands from a table; whatever else is said to it is OK."""

    def __init__(self, identity: str = "OK QEPA receiver protocol=1", **answers: str) -> None:
        self.answers = {"*IDN?": identity, **answers}
        self.heard: list[str] = []
        self._decoder, self._encoder = FrameDecoder(), FrameEncoder()

    def __call__(self, data: bytes) -> bytes:
        out = b""
        for event in self._decoder.feed(data):
            if isinstance(event, Command):
                self.heard.append(event.text)
                out += self.frame(Reply(self.answers.get(event.text, "OK")))
        return out

    def frame(self, message: Message) -> bytes:
        return self._encoder.encode(message)


@pytest.fixture
async def devices() -> AsyncIterator[list[Device]]:
    made: list[Device] = []
    yield made
    for device in made:
        device.unplug()


async def test_an_answer_to_a_program_that_was_killed_is_not_taken_for_an_identity(devices: list[Device]) -> None:
    controller = Controller(**{"STATUS?": "OK state=idle"})
    stale = [controller.frame(Reply("OK state=running"))]
    devices.append(Device(lambda data: (stale.pop() if stale else b"") + controller(data)))
    terminal = await Terminal.open(devices[0].path, role="receiver")
    assert await terminal.command("STATUS?") == "state=idle"
    terminal.close()


async def test_a_run_that_a_killed_program_left_behind_ends_before_the_next(devices: list[Device]) -> None:
    controller = Controller()
    devices.append(Device(controller))
    terminal = await Terminal.open(devices[0].path)
    await terminal.start(1)
    assert controller.heard[-2:] == ["STOP", "START run=00000001"]
    terminal.close()


@pytest.mark.parametrize(
    ("identity", "error"),
    [
        ("OK ACME receiver protocol=1", WrongDeviceError),
        ("OK QEPA toaster protocol=1", WrongDeviceError),
        ("ERR 1 unknown command", WrongDeviceError),
        ("OK QEPA receiver protocol=2", WrongVersionError),
        ("OK QEPA receiver protocol=11", WrongVersionError),
        ("OK QEPA transmitter protocol=1", WrongDeviceError),
    ],
)
async def test_who_does_not_belong_here_is_told_apart(
    devices: list[Device], identity: str, error: type[Exception]
) -> None:
    devices.append(Device(Controller(identity)))
    with pytest.raises(error, match=r"serial port|protocol"):
        await Terminal.open(devices[0].path, role="receiver")


async def test_a_port_that_is_not_there_and_one_that_is_taken_are_port_errors(
    devices: list[Device], tmp_path: Path
) -> None:
    with pytest.raises(NoPortError, match=r"cannot be opened: No such file or directory$"):
        await Terminal.open(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(NoPortError, match=r"cannot be opened: it is none$"):
        await Terminal.open(str(tmp_path / "file"))
    devices.append(Device(Controller()))
    terminal = await Terminal.open(devices[0].path)
    with pytest.raises(PortBusyError, match="in use by another program"):
        await Terminal.open(devices[0].path)
    terminal.close()
    (await Terminal.open(devices[0].path)).close()


async def test_garbage_before_and_between_frames_is_counted_and_harms_nothing(devices: list[Device]) -> None:
    controller = Controller()
    blocks: list[Detections | TimeTags] = []
    devices.append(device := Device(controller))
    terminal = await Terminal.open(device.path, blocks.append)
    block = Detections(1, 10, 20, 0, np.array([12, 15]), np.array([0, 3], np.uint8))
    device.say(b"\x05garbage\xff\x00" + controller.frame(block) + b"\x03\x01\x00" * 4)
    assert await terminal.command("STATUS?") == ""
    assert [list(b.slots) for b in blocks if isinstance(b, Detections)] == [[12, 15]]
    assert terminal.frames_lost == 5
    terminal.close()


async def test_a_refused_command_says_why_and_the_terminal_lives_on(devices: list[Device]) -> None:
    devices.append(Device(Controller(**{"START run=00000007": "ERR 2 a run is under way: stop first"})))
    terminal = await Terminal.open(devices[0].path)
    with pytest.raises(RefusedError, match="stop first"):
        await terminal.start(7)
    await terminal.stop()
    terminal.close()


async def test_an_answer_that_does_not_come_closes_the_port_so_that_no_late_one_is_taken_for_the_next(
    devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal_module, "COMMAND_TIMEOUT_S", 0.3)
    controller = Controller()
    devices.append(Device(lambda data: controller(data) if len(controller.heard) < 1 else b""))
    terminal = await Terminal.open(devices[0].path)
    with pytest.raises(PortError, match="does not answer 'STOP'"):
        await terminal.stop()
    with pytest.raises(PortError, match="no answer to 'STOP'"):
        await terminal.running()


class TestAtItsStart:
    """A program that starts gives its controller time, and says what it waits for."""

    async def test_it_waits_for_one_that_is_busy_or_starting_again(
        self, devices: list[Device], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(terminal_module, "COMMAND_TIMEOUT_S", 0.1)
        controller = Controller()
        devices.append(Device(lambda data: controller(data) if told else b""))
        told: list[str] = []
        opening = open_soon(
            lambda: Terminal.open(devices[0].path), limit_s=60, on_failure=lambda e: told.append(str(e))
        )
        terminal = await opening
        assert terminal.role == "receiver"
        assert [f"the controller on {devices[0].path} does not answer '*IDN?'"] == told
        terminal.close()

    async def test_it_waits_for_a_program_that_has_the_port(self, devices: list[Device]) -> None:
        devices.append(Device(Controller()))
        predecessor = await Terminal.open(devices[0].path)
        terminal = await open_soon(
            lambda: Terminal.open(devices[0].path),
            limit_s=60,
            on_failure=lambda _: predecessor.close(),
            retry_s=0.01,
        )
        terminal.close()

    async def test_it_gives_up_on_one_that_stays_silent(
        self, devices: list[Device], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(terminal_module, "COMMAND_TIMEOUT_S", 0.01)
        devices.append(Device(lambda _: b""))
        with pytest.raises(PortError, match="does not answer"):
            await open_soon(lambda: Terminal.open(devices[0].path), limit_s=0.1, retry_s=0.01)

    @pytest.mark.parametrize("nothing", ["missing", "another device"])
    async def test_it_does_not_wait_where_waiting_mends_nothing(
        self, devices: list[Device], tmp_path: Path, nothing: str
    ) -> None:
        devices.append(Device(Controller("OK ACME")))
        path = str(tmp_path / "none") if nothing == "missing" else devices[0].path
        told: list[str] = []
        with pytest.raises((NoPortError, WrongDeviceError)):
            await open_soon(lambda: Terminal.open(path), limit_s=600, on_failure=lambda e: told.append(str(e)))
        assert told == []


async def test_a_port_that_goes_while_it_is_opened_is_an_error_of_the_port(
    devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    devices.append(Device(Controller()))
    monkeypatch.setattr(termios, "tcsetattr", gone)
    with pytest.raises(NoPortError, match="Input/output error"):
        await Terminal.open(devices[0].path)


async def test_unplugging_ends_what_waits_and_plugging_in_again_goes_on(devices: list[Device], tmp_path: Path) -> None:
    link = tmp_path / "controller"

    def plug(controller: Controller) -> Device:
        device = Device(controller)
        devices.append(device)
        link.unlink(missing_ok=True)
        link.symlink_to(device.path)
        return device

    first = plug(Controller(**{"STATUS?": "OK state=running"}))
    terminal = await open_when_there(lambda: Terminal.open(str(link)))
    await terminal.start(1)
    assert await terminal.running()
    first.unplug()
    assert await asyncio.wait_for(asyncio.shield(terminal.closed), 60)
    with pytest.raises(PortError):
        await terminal.running()

    told: list[str] = []
    opening = asyncio.ensure_future(
        open_when_there(
            lambda: Terminal.open(str(link)),
            on_failure=lambda e: told.append(type(e).__name__),
            first_retry_s=0.01,
            longest_retry_s=0.02,
        )
    )
    await asyncio.sleep(0.1)
    wrong = plug(Controller("OK ACME"))
    async with asyncio.timeout(60):
        while "WrongDeviceError" not in told:
            await asyncio.sleep(0.01)
    wrong.unplug()
    plug(replacement := Controller())
    terminal = await asyncio.wait_for(opening, 60)
    await terminal.start(2)
    assert replacement.heard[-1] == "START run=00000002"
    assert told[0] == "NoPortError"
    terminal.close()


class TaggerRig:
    """A simulated TDC1 and its driver on one clock that the test moves."""

    def __init__(self, devices: list[Device]) -> None:
        self.now_s = 0.0
        self.tdc1 = SimulatedTdc1()
        self.device = Device(self._answer)
        devices.append(self.device)
        self.blocks: list[TimeTags] = []

    async def open(self, **options: object) -> Tdc1:
        return await Tdc1.open(self.device.path, self._take, clock=lambda: self.now_s, **options)

    def _take(self, block: Detections | TimeTags) -> None:
        assert isinstance(block, TimeTags)
        self.blocks.append(block)

    def _answer(self, data: bytes) -> bytes:
        self.tdc1.receive(data, self.now_s)
        return self.taken()

    def taken(self) -> bytes:
        data = b"".join(self.tdc1.outgoing)
        self.tdc1.outgoing.clear()
        return data

    async def start(self, driver: Tdc1, run: int) -> None:
        """Start a run and wait until the device streams."""
        self.tdc1.orders.clear()
        await driver.start(run)
        async with asyncio.timeout(60):
            while "counts?" not in self.tdc1.orders:
                await asyncio.sleep(0.01)

    async def run(self, seconds: float, cut: slice | None = None, step_s: float = 0.05) -> None:
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            self.tdc1.advance(self.now_s)
            data = self.taken()
            if cut is not None:
                data, cut = data[: cut.start] + data[cut.stop :], None
            for at in range(0, len(data) or 1, 1000):
                self.device.say(data[at : at + 1000])
                await asyncio.sleep(0.001)


async def test_a_tdc1_gives_every_tag_with_its_channel_across_wraps(devices: list[Device]) -> None:
    rig = TaggerRig(devices)
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(10**9, 10**12, 4000)) // STEP_PS * STEP_PS
    inputs = rng.integers(0, 4, 4000)
    rig.tdc1.expect(times, inputs)
    driver = await rig.open(channels=(3, 2, 1, 4), threshold_v=-0.5, reference=Reference.EXTERNAL)
    assert rig.tdc1.level == "NEG -0.500"
    assert rig.tdc1.reference == "1"
    await rig.start(driver, 9)
    await rig.run(1.1)
    async with asyncio.timeout(60):
        while rig.blocks[-1].end_ps <= times[-1]:
            await asyncio.sleep(0.01)
    assert await driver.running()
    got = np.concatenate([b.times_ps for b in rig.blocks])
    channels = np.concatenate([b.channels for b in rig.blocks])
    expected = np.array([3, 2, 1, 4])[inputs]
    order = np.lexsort((channels, got))
    wanted = np.lexsort((expected, times))
    keep = np.append(True, (np.diff(times[wanted]) != 0) | (np.diff(inputs[wanted]) != 0))
    assert np.array_equal(got[order], times[wanted][keep])
    assert np.array_equal(channels[order], expected[wanted][keep])
    assert times[-1] > 3 * WRAP_STEPS * STEP_PS
    assert all(b.run == 9 and b.tick_ps == 2000 for b in rig.blocks)
    assert [b.first_ps for b in rig.blocks[1:]] == [b.end_ps for b in rig.blocks[:-1]]
    await driver.stop()
    assert not await driver.running()
    driver.close()


@pytest.mark.parametrize("cut", [slice(401, 403), slice(400, 401), slice(402, 405)])
async def test_bytes_lost_on_the_way_end_the_run_and_the_next_one_is_whole(devices: list[Device], cut: slice) -> None:
    rig = TaggerRig(devices)
    rig.tdc1.expect(np.arange(1, 20_000, dtype=np.int64) * 10**8, np.arange(1, 20_000) % 4)
    driver = await rig.open()
    await rig.start(driver, 1)
    await rig.run(0.3, cut)
    with pytest.raises(TagStreamError, match="ahead"):
        await asyncio.wait_for(until_stopped(driver), 60)
    assert driver.frames_lost == 1
    rig.blocks.clear()
    await rig.start(driver, 2)
    await rig.run(0.3)
    assert await driver.running()
    assert {b.run for b in rig.blocks} == {2}
    assert set(np.diff(np.concatenate([b.times_ps for b in rig.blocks]))) == {10**8}
    driver.close()


async def test_counts_are_those_of_the_window(devices: list[Device]) -> None:
    rig = TaggerRig(devices)
    rig.tdc1.expect(np.arange(1, 1000, dtype=np.int64) * 10**9, [0, 0, 3] * 333)
    driver = await rig.open()
    assert await driver.counts(90) == (60, 0, 0, 29)
    driver.close()


async def test_something_else_is_no_tdc1(devices: list[Device]) -> None:
    devices.append(Device(lambda data: b"USB modem\r\n" if b"IDN" in data else b""))
    with pytest.raises(WrongDeviceError, match="no TDC1"):
        await Tdc1.open(devices[0].path)


async def until_stopped(driver: Tdc1) -> None:
    while await driver.running():
        await asyncio.sleep(0.01)


def record(step: int, pattern: int = 1) -> bytes:
    return ((step % WRAP_STEPS) << 5 | pattern).to_bytes(4, "little")


def test_a_lost_wrap_is_noticed_though_no_byte_is_out_of_place() -> None:
    decoder = RecordDecoder(0.0)
    lost_s = WRAP_STEPS * STEP_PS * 1e-12
    for tick in range(100):
        decoder.feed(record(tick * 5_000_000), tick * 0.01)
    for tick in range(100, 120):
        decoder.feed(record(tick * 5_000_000), lost_s + tick * 0.01)
    with pytest.raises(TagStreamError, match="behind"):
        decoder.feed(record((tick + 40) * 5_000_000), lost_s + (tick + 40) * 0.01)


def test_a_machine_that_was_busy_catches_up_without_an_alarm() -> None:
    decoder = RecordDecoder(0.0)
    for now_s in (0.0, 0.1, 0.2):
        decoder.feed(record(int(now_s * 5e8)), now_s)
    backlog = b"".join(record(int(tag_s * 5e8)) for tag_s in np.arange(0.3, 2.0, 0.1))
    raw = decoder.feed(backlog, 2.0)
    assert raw.steps[-1] == pytest.approx(1.9 * 5e8, abs=1e6)


def test_a_dead_stream_is_noticed() -> None:
    decoder = RecordDecoder(0.0)
    decoder.check_silence(0.3)
    decoder.feed(record(0), 0.4)
    decoder.check_silence(0.6)
    decoder.check_silence(1.3)
    with pytest.raises(TagStreamError, match="nothing"):
        decoder.check_silence(1.5)


def test_a_watch_over_silence_does_not_disturb_a_young_stream() -> None:
    decoder = RecordDecoder(0.0)
    for tick in range(1, 100):
        decoder.feed(record(tick * 5_000_000), tick * 0.01)
        decoder.check_silence(tick * 0.01 + 0.005)


async def test_both_kinds_of_receiver_have_one_interface(devices: list[Device]) -> None:
    devices.append(Device(Controller(**{"STATUS?": "OK state=running damaged=0 lost=0"})))
    rig = TaggerRig(devices)
    for kind, device in (("qepa", devices[0]), ("tdc1", rig.device)):
        receiver = await open_receiver(kind, device.path, lambda _: None)
        await receiver.start(1)
        assert await receiver.running()
        assert receiver.frames_lost == 0
        await receiver.stop()
        receiver.close()
        assert receiver.closed.done()
        with pytest.raises(PortError):
            await receiver.start(2)
