"""Recording and replay: what was recorded comes back to a host that cannot tell; what is damaged is told."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qepa_qkd.serial_protocol import (
    STATE_GONE,
    Command,
    Detections,
    Event,
    FrameDamaged,
    FrameDecoder,
    FrameEncoder,
    FramesLost,
    Reply,
    Slots,
    States,
    split_queries,
)
from qepa_tools.bench.controllers import Bench
from qepa_tools.bench.physics import BenchSettings
from qepa_tools.bench.recording import (
    FROM_CONTROLLER,
    FROM_HOST,
    NOTE,
    RECEIVER,
    TRANSMITTER,
    Chunk,
    Recording,
    RecordingError,
    RecordingWriter,
)
from qepa_tools.bench.replay import HURRIED_HOST_S, ReplayBench

TICK_S = 0.05


class Host:
    """Both hosts at once, on a clock of their own, without terminals; records when given a writer."""

    def __init__(self, bench: Bench | ReplayBench, writer: RecordingWriter | None = None) -> None:
        self.bench = bench
        self.writer = writer
        self.now_s = 100.0
        self.controllers = {TRANSMITTER: bench.transmitter, RECEIVER: bench.receiver}
        self.encoders = {port: FrameEncoder() for port in self.controllers}
        self.decoders = {port: FrameDecoder() for port in self.controllers}
        self.heard: list[Event] = []
        self.garble = False

    def say(self, port: int, frame: bytes) -> None:
        self.record(FROM_HOST, port, frame)
        self.controllers[port].receive(frame, self.now_s)

    def record(self, kind: int, port: int, data: bytes) -> None:
        if self.writer:
            self.writer.write(kind, port, data, round((self.now_s - 100) * 1e6))

    def listen(self) -> list[Event]:
        """Everything that has been sent since the last call; the line may garble events on their way."""
        found: list[Event] = []
        for port, controller in self.controllers.items():
            for data in controller.outgoing:
                events = len(data) > 200
                arrived = data[:20] + b"!" + data[21:] if self.garble and events else data
                self.record(FROM_CONTROLLER, port, arrived)
                found += self.decoders[port].feed(arrived)
            controller.outgoing.clear()
        self.heard += found
        return found

    def command(self, port: int, text: str) -> str:
        self.listen()
        self.say(port, self.encoders[port].encode(Command(text)))
        (reply,) = (event for event in self.listen() if isinstance(event, Reply))
        return reply.text

    def start(self, run: int) -> list[str]:
        return [self.command(port, f"START run={run:08x}") for port in (RECEIVER, TRANSMITTER)]

    def shine(self, seconds: float) -> list[Event]:
        found = []
        for tick in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            if tick % 20 == 0:
                for port in self.controllers:
                    self.command(port, "STATUS?")
            self.bench.advance(self.now_s)
            found += self.listen()
        return found

    def states(self, run: int, slots: Slots) -> np.ndarray:
        parts = []
        for query in split_queries(run, 7, slots):
            self.say(TRANSMITTER, self.encoders[TRANSMITTER].encode(query))
            parts += [event.states for event in self.listen() if isinstance(event, States)]
        return np.concatenate(parts)


def clicks(events: list[Event]) -> tuple[Slots, np.ndarray]:
    blocks = [event for event in events if isinstance(event, Detections)]
    return np.concatenate([b.slots for b in blocks]), np.concatenate([b.detectors for b in blocks])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Slots, np.ndarray, np.ndarray]]]:
    """A recording of two runs, and what the host heard in them: slots, detectors, states."""
    path = tmp_path_factory.mktemp("recording") / "bench.qrec"
    writer = RecordingWriter.create(path, {"simulated": True})
    host = Host(Bench(BenchSettings(), 5), writer)
    assert host.command(TRANSMITTER, "SET pulse_rate_hz=200000") == "OK"
    heard = []
    for run in (17, 18):
        assert host.start(run) == ["OK", "OK"]
        slots, detectors = clicks(host.shine(1.0))
        # As Alice does: candidates for the offset first, then everything.
        for offset in range(-16, 17):
            host.states(run, slots[20:520] - offset)
        heard.append((slots, detectors, host.states(run, slots - 3)))
        for port in host.controllers:
            host.command(port, "STOP")
    writer.close()
    return path, heard


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.0])
def test_a_replay_shows_the_same_light_and_remembers_the_same_states(
    recorded: tuple[Path, list[tuple[Slots, np.ndarray, np.ndarray]]], speed: float
) -> None:
    path, heard = recorded
    host = Host(ReplayBench(path, speed))
    assert host.command(TRANSMITTER, "*IDN?").startswith("OK QEPA transmitter protocol=1")
    host.command(TRANSMITTER, "SET pulse_rate_hz=2e5")
    for run, (slots, detectors, states) in zip((900, 901), heard, strict=True):
        assert host.start(run) == ["OK", "OK"]
        if speed == 1.0:
            half, _ = clicks(host.shine(0.5))
            assert 0.4 * len(slots) < len(half) < 0.6 * len(slots)
            events = host.heard + host.shine(0.6)
        else:
            events = host.shine(1.1 / speed if speed else 2.0)
            assert "state=running" in host.command(RECEIVER, "STATUS?")
            host.shine(HURRIED_HOST_S + 0.5)
        mine = [e for e in (host.heard if speed == 1.0 else events) if isinstance(e, Detections) and e.run == run]
        again = clicks(list(mine))
        assert np.array_equal(again[0], slots)
        assert np.array_equal(again[1], detectors)
        assert np.array_equal(host.states(run, slots - 3), states)
        assert set(host.states(run, np.array([1 << 40, (1 << 40) + 1]))) == {STATE_GONE}
        assert "state=idle" in host.command(RECEIVER, "STATUS?")
        assert "fault=recording" in host.command(RECEIVER, "STATUS?")
        host.command(TRANSMITTER, "STOP")
    assert host.start(902)[1].startswith("ERR 5 no further run")
    assert isinstance(host.bench, ReplayBench)
    assert host.bench.over
    assert host.bench.recording.ending.endswith("is complete")
    host.bench.close()


def test_a_replay_refuses_other_settings_and_says_which(
    recorded: tuple[Path, list[tuple[Slots, np.ndarray, np.ndarray]]],
) -> None:
    host = Host(ReplayBench(recorded[0]))
    assert "recording was made with pulse_rate_hz=200000" in host.start(1)[1]
    host.command(RECEIVER, "STOP")
    host.command(TRANSMITTER, "SET pulse_rate_hz=200000")
    assert host.start(2) == ["OK", "OK"]  # the refusal did not use up the run


def troubles_of(events: list[Event]) -> list[FramesLost | str]:
    return [e if isinstance(e, FramesLost) else "damaged" for e in events if isinstance(e, FrameDamaged | FramesLost)]


def test_what_was_damaged_on_the_line_is_damaged_again(tmp_path: Path) -> None:
    path = tmp_path / "noisy.qrec"
    writer = RecordingWriter.create(path, {})
    host = Host(Bench(BenchSettings(), 5), writer)
    host.start(1)
    before = clicks(host.shine(0.2))
    host.garble = True
    host.shine(0.1)
    host.garble = False
    after = clicks(host.shine(0.2))
    writer.close()
    troubles = troubles_of(host.heard)
    assert set(troubles[:-1]) == {"damaged"}
    assert troubles[-1] == FramesLost(len(troubles) - 1)

    replay = Host(ReplayBench(path, 0))
    replay.start(1)
    replay.shine(4.0)
    assert troubles_of(replay.heard) == troubles
    assert np.array_equal(clicks(replay.heard)[0], np.concatenate([before[0], after[0]]))


def some_chunks() -> list[Chunk]:
    return [
        Chunk(FROM_HOST, TRANSMITTER, 5, b"abc"),
        Chunk(FROM_CONTROLLER, RECEIVER, 5, bytes(range(256))),
        Chunk(NOTE, 255, 9, b'{"request": "attack none"}'),
        Chunk(FROM_CONTROLLER, RECEIVER, 1 << 50, b""),
    ]


def write(path: Path, chunks: list[Chunk], *, close: bool = True) -> bytes:
    path.unlink(missing_ok=True)
    writer = RecordingWriter.create(path, {"simulated": True})
    for chunk in chunks:
        writer.write(chunk.kind, chunk.port, chunk.data, chunk.time_us)
    if close:
        writer.close()
    else:
        writer.flush()
    return path.read_bytes()


def test_the_format_is_as_documented(tmp_path: Path) -> None:
    """Bytes put together by hand from hardware/bb84/RECORDING.md."""
    about = b'{"simulated": true}'
    header = bytes.fromhex("8951455041726563") + (1).to_bytes(2, "little") + len(about).to_bytes(4, "little") + about
    first = bytes(4) + b"\x02\x00\x00\x00" + (5).to_bytes(8, "little") + (3).to_bytes(4, "little") + b"abc"
    end = b"\x01\0\0\0" + b"\x04\xff\x00\x00" + (5).to_bytes(8, "little") + bytes(4)
    expected = b"".join(part + zlib.crc32(part).to_bytes(4, "little") for part in (header, first, end))
    assert write(tmp_path / "x", some_chunks()[:1]) == expected


def test_chunks_come_back(tmp_path: Path) -> None:
    write(tmp_path / "x", some_chunks())
    with Recording(tmp_path / "x") as recording:
        assert recording.about == {"simulated": True}
        assert list(recording.chunks()) == some_chunks()
        assert recording.ending == "x is complete"


@given(cut=st.integers(0, 520), flip=st.one_of(st.none(), st.integers(0, 4000)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_or_damaged_file_is_good_up_to_there_or_refused(tmp_path: Path, cut: int, flip: int | None) -> None:
    path = tmp_path / "x"
    whole = write(path, some_chunks())
    damaged = bytearray(whole[: len(whole) - cut] if cut < len(whole) else b"")
    if flip is not None and damaged:
        damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    path.write_bytes(damaged)
    try:
        with Recording(path) as recording:
            chunks = list(recording.chunks())
            ending = recording.ending
    except RecordingError:
        assert bytes(damaged[:45]) != whole[:45]  # the header and its CRC are 8 + 2 + 4 + 19 + 4 bytes; 45 reach beyond
        return
    assert chunks == some_chunks()[: len(chunks)]
    assert ending.endswith("is complete") == (bytes(damaged) == whole)


def test_a_recording_that_was_cut_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = write(path, some_chunks(), close=False)
    path.write_bytes(whole[:-30])  # the last chunk has 24 bytes: the note before it is cut, too
    writer = RecordingWriter.resume(path)
    assert writer.time_us == 5
    writer.write(FROM_HOST, RECEIVER, b"more", 8)
    writer.close()
    with Recording(path) as recording:
        *kept, note, more = recording.chunks()
        assert recording.ending == "x is complete"
    assert kept == some_chunks()[:2]
    assert json.loads(note.data) == {"resumed": True, "bytes_removed": 20 + 26 + 4 + 24 - 30}
    assert more == Chunk(FROM_HOST, RECEIVER, 8, b"more")


def test_nothing_is_recorded_over(tmp_path: Path) -> None:
    write(tmp_path / "x", [])
    with pytest.raises(FileExistsError):
        RecordingWriter.create(tmp_path / "x", {})
    (tmp_path / "y").write_text("a letter")
    with pytest.raises(RecordingError, match="no recording"):
        RecordingWriter.resume(tmp_path / "y")
    assert (tmp_path / "y").read_text() == "a letter"


def test_other_versions_are_refused(tmp_path: Path) -> None:
    whole = bytearray(write(tmp_path / "x", []))
    whole[8] = 2
    (tmp_path / "x").write_bytes(whole)
    with pytest.raises(RecordingError, match="version 2"):
        Recording(tmp_path / "x")
