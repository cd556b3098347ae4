"""A bench that replays a recording: the same two controllers, the light of another day.

Runs are replayed in order, one for each START of the host. Frames of the receiver come when they came, or as fast as
the hosts keep up (`pacing`); the transmitter answers for the slots it was asked about then and has forgotten all
others. What was lost or damaged on the line is lost or damaged again.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from link_terminal.controller import Controller as Firmware
from link_terminal.controller import RefusedError
from qepa_qkd import cobs_compiled
from qepa_qkd.serial_protocol import (
    STATE_GONE,
    Nibbles,
    SerialProtocolError,
    Slots,
    StateQuery,
    States,
    decode_message,
    encode_message,
)
from qepa_tools.bench import recording as files
from qepa_tools.bench.pacing import Pacing
from qepa_tools.bench.recording import Recording
from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames
from qepa_wire.errors import WireError

QUEUE_LIMIT_BYTES: Final = 1 << 18
"""Frames wait in the file rather than in a longer queue."""
HURRIED_HOST_S: Final = 10.0
"""How long a receiver keeps running, and is silent, after a run that was not replayed at its own speed."""
_REMEMBERED_BLOCKS: Final = 2000
_GARBAGE: Final = b"\x02\x00"
_ROLES = {files.TRANSMITTER: commands.TRANSMITTER, files.RECEIVER: commands.RECEIVER}


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that went over a line; `kind` may be LOST or DAMAGED, then `count` frames did not."""

    time_us: int
    port: int
    from_host: bool
    kind: int
    payload: bytes
    count: int

    def run_started(self) -> int | None:
        """The run that this frame starts at the transmitter."""
        if self.from_host and self.port == files.TRANSMITTER and self.kind == frames.COMMAND:
            word, _, argument = self.payload.decode("ascii", "replace").partition(" ")
            if word == "START":
                try:
                    return int(commands.run_of(argument))
                except WireError:
                    return None
        return None


def frames_of(recording: Recording) -> Iterator[Seen]:
    """Yield the frames of all four directions, in the order in which they were complete."""
    readers = {(port, kind): frames.FrameReader(cobs_compiled.decode) for port in _ROLES for kind in (1, 2)}
    for chunk in recording.chunks():
        reader = readers.get((chunk.port, chunk.kind))
        if reader is not None:
            for kind, payload, count in reader.feed(chunk.data):
                yield Seen(chunk.time_us, chunk.port, chunk.kind == files.FROM_HOST, kind, payload, count)


class StateMemory:
    """Which states the transmitter told in one recorded run; reads ahead in the file as far as it is asked for."""

    def __init__(self, path: Path, run_index: int) -> None:
        """`run_index` counts the transmitter's starts in the file."""
        self._recording = Recording(path)
        self._events = frames_of(self._recording)
        self._runs_to_come = run_index + 1
        self._asked: dict[int, Slots] = {}
        self._blocks: list[tuple[Slots, Nibbles]] = []
        self._reached = -1
        self._over = False

    def states(self, slots: Slots) -> Nibbles:
        """Return a nibble for each of `slots` (not decreasing); STATE_GONE where the recording has none."""
        first, last = int(slots[0]), int(slots[-1])
        while not self._over and self._reached < last:
            self._read_on()
        found = np.full(len(slots), STATE_GONE, np.uint8)
        for known, states in self._blocks:
            if known[0] <= last and known[-1] >= first:
                at = np.minimum(np.searchsorted(known, slots), len(known) - 1)
                hit = known[at] == slots
                found[hit] = states[at[hit]]
        return found

    def close(self) -> None:
        """Close the file."""
        self._recording.__exit__()

    def _read_on(self) -> None:
        event = next(self._events, None)
        if event is None:
            self._over = True
        elif event.run_started() is not None:
            self._runs_to_come -= 1
            self._over = self._runs_to_come < 0
        elif event.port == files.TRANSMITTER and not self._runs_to_come:
            self._remember(event)

    def _remember(self, event: Seen) -> None:
        if event.kind not in (frames.STATE_QUERY, frames.STATES):
            return
        try:
            message = decode_message(event.kind, event.payload)
        except SerialProtocolError:
            return
        if isinstance(message, StateQuery):
            self._asked[message.tag] = message.slots
        elif isinstance(message, States):
            slots = self._asked.pop(message.tag, None)
            if slots is not None and len(slots) == len(message.states):
                self._blocks.append((slots, message.states))
                del self._blocks[:-_REMEMBERED_BLOCKS]
                self._reached = max(self._reached, int(slots[-1]))


class ReplayBench:
    """Both controllers over a recording. `speed` 1 is as it was, 2 twice as fast, 0 as fast as the hosts keep up."""

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        """Raises RecordingError if this is no recording."""
        self.recording = Recording(path)
        self.speed = speed
        self.runs_replayed = 0
        self.transmitter = ReplayTransmitter(self)
        self.receiver = ReplayController(self, files.RECEIVER)
        self.over = False
        """Whether all that can be read has been replayed."""
        self._events = frames_of(self.recording)
        self._next: Seen | None = next(self._events, None)
        self._recorded = 0
        """Number that the run being replayed had."""
        self._recorded_settings = {role: _defaults(role) for role in _ROLES.values()}
        self._run_us = 0
        self._started_s = 0.0
        self._sent_s: float | None = None
        self.pacing = Pacing()

    @property
    def running(self) -> bool:
        """Whether the clock is needed."""
        return self.transmitter.run is not None

    def begin(self, now_s: float) -> None:
        """Go to the next recorded run. Raises RefusedError if there is none or it was made with other settings."""
        while self._next is not None and self._next.run_started() is None:
            self._take_setting(self._next)
            self._next = next(self._events, None)
        if self._next is None:
            self.over = True
            raise RefusedError(commands.FAULT, "no further run in this recording")
        for controller in (self.transmitter, self.receiver):
            controller.check_settings(self._recorded_settings[controller.role])
        self._recorded = self._next.run_started() or 0
        self._run_us, self._started_s, self._sent_s = self._next.time_us, now_s, None
        self.pacing = Pacing()
        self._next = next(self._events, None)
        self.runs_replayed += 1

    def advance(self, now_s: float) -> None:
        """Send what is due."""
        for controller in (self.transmitter, self.receiver):
            controller.poll(1000 * now_s)
        if not self.running or self.receiver.run is None:
            return
        due_us = self._run_us + (now_s - self._started_s) * self.speed * 1e6 if self.speed else float("inf")
        while self._next is not None and self._next.run_started() is None and self._next.time_us <= due_us:
            if sum(map(len, self.receiver.outgoing)) > QUEUE_LIMIT_BYTES:
                return
            if not self.speed and not self.pacing.admits(now_s):
                return
            self._take_setting(self._next)
            if self._next.port == files.RECEIVER and not self._next.from_host:
                self.receiver.replay(self._next, self._recorded)
                self.pacing.sent(self._next.kind, self._next.payload)
            self._next = next(self._events, None)
        if self._next is None or self._next.run_started() is not None:
            self._end_run(now_s)

    def _end_run(self, now_s: float) -> None:
        """All is sent; a host that was sent it faster than it came is still at work on it."""
        if self._sent_s is None:
            self._sent_s = now_s
        if self.receiver.outgoing or now_s - self._sent_s < (HURRIED_HOST_S if self.speed != 1 else 0):
            return
        self.over = self._next is None
        self.receiver.stop("recording")

    def close(self) -> None:
        """Close the file."""
        self.recording.__exit__()
        self.transmitter.forget()

    def _take_setting(self, seen: Seen) -> None:
        """Follow what the recorded host set, as the controllers of that day did."""
        if not seen.from_host or seen.kind != frames.COMMAND:
            return
        word, _, assignment = seen.payload.decode("ascii", "replace").partition(" ")
        name, _, text = assignment.partition("=")
        for setting in commands.settings_of(_ROLES[seen.port]):
            if word == "SET" and setting.name == name:
                try:
                    self._recorded_settings[_ROLES[seen.port]][name] = setting.parse(text)
                except WireError:
                    return


def _defaults(role: str) -> dict[str, Any]:
    return {setting.name: setting.parse(setting.default) for setting in commands.settings_of(role)}


class ReplayController(Firmware):
    """One controller: the firmware's command line, and the frames of the recording."""

    settings: dict[str, Any]

    def __init__(self, bench: ReplayBench, port: int) -> None:
        self.role = _ROLES[port]
        super().__init__()
        self._reader = frames.FrameReader(cobs_compiled.decode)
        self._writer = frames.FrameWriter(cobs_compiled.encode)
        self.bench = bench

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host; what is to be sent back is added to `outgoing`."""
        super().receive(data, 1000 * now_s)

    def check_settings(self, recorded: dict[str, Any]) -> None:
        """Refuse to show the light of other settings than those that are set."""
        for setting in commands.settings_of(self.role):
            if self.settings[setting.name] != recorded[setting.name]:
                text = f"this recording was made with {setting.name}={setting.text(recorded[setting.name])}"
                raise RefusedError(commands.BAD_SETTING, text)

    def replay(self, seen: Seen, recorded_run: int) -> None:
        """Send a recorded frame under the number of the present run."""
        if seen.kind == frames.LOST:
            for _ in range(seen.count):
                self._writer.frame(frames.REPLY, b"")  # takes up the sequence number of a frame that never arrives
        elif seen.kind == frames.DAMAGED:
            self.outgoing.append(_GARBAGE)
        elif seen.kind not in (frames.COMMAND, frames.REPLY) and self.run is not None:
            (run,) = struct.unpack_from("<I", seen.payload)
            if run == recorded_run:
                self.send(seen.kind, struct.pack("<I", self.run) + seen.payload[4:])


class ReplayTransmitter(ReplayController):
    """Answers for the slots it answered for when it was recorded."""

    def __init__(self, bench: ReplayBench) -> None:
        super().__init__(bench, files.TRANSMITTER)
        self._memory: StateMemory | None = None

    def begin(self, now_ms: float) -> None:
        """Begin the next recorded run."""
        self.bench.begin(now_ms / 1000)
        self.forget()
        self._memory = StateMemory(self.bench.recording.path, self.bench.runs_replayed - 1)

    def frame(self, kind: int, payload: bytes) -> None:
        """Answer a query for states."""
        try:
            query = decode_message(kind, payload)
        except SerialProtocolError:
            return
        if isinstance(query, StateQuery) and self._memory is not None and query.run == self.run:
            self.bench.pacing.asked(query.slots)
            self.send(*encode_message(States(query.run, query.tag, self._memory.states(query.slots))))

    def forget(self) -> None:
        """Close what was read ahead."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
