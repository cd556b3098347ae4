"""What both controllers share: frames, the command line, settings, the run, the watchdog. Sans-IO.

Bytes from the host go into `receive`, what is to be sent back accumulates in `outgoing`; the caller's clock is passed
in.
"""

from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames
from qepa_wire.errors import WireError

from .kernels import stuff

_LONGEST_TEXT = 1024


class RefusedError(Exception):
    """A command that is answered with `ERR code sentence`."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__("%d %s" % (code, sentence))


class Controller:
    """One controller. A role gives `role` and overrides what stands at the end of this class."""

    role = ""
    identity = ""  # further fields of *IDN?

    def __init__(self) -> None:
        self.run: "int | None" = None  # number of the run under way
        self.fault = ""  # why the last run ended by itself
        self.outgoing: "list[bytes]" = []
        self._table = commands.settings_of(self.role)
        self.settings = {s.name: s.parse(s.default) for s in self._table}
        self._reader = frames.FrameReader()
        self._writer = frames.FrameWriter(_encode)
        self._heard_ms = 0

    def receive(self, data: bytes, now_ms: float) -> None:
        """Take bytes from the host."""
        for kind, payload, _ in self._reader.feed(data):
            if kind < 0:
                continue  # counted by the reader
            self._heard_ms = now_ms
            if kind == frames.COMMAND:
                self.send(frames.REPLY, self.answer(payload, now_ms).encode())
            else:
                self.frame(kind, payload)

    def send(self, kind: int, payload: bytes) -> None:
        """Queue one frame for the host."""
        self.outgoing.append(self._writer.frame(kind, payload))

    def poll(self, now_ms: float) -> None:
        """Let time pass: a host that died must not leave the laser on."""
        if self.run is not None and now_ms - self._heard_ms > commands.HOST_SILENCE_LIMIT_MS:
            self.stop("host")

    def stop(self, fault: str = "") -> None:
        """End the run; `fault` is one word for STATUS?, empty when the host asked."""
        if self.run is not None:
            self.run = None
            self.end()
        self.fault = fault

    def answer(self, payload: bytes, now_ms: float) -> str:
        """Return the reply to one command."""
        try:
            text = self._execute(_printable(payload), now_ms)
        except RefusedError as error:
            return "ERR " + str(error)
        except WireError as error:
            code = commands.BAD_SETTING if error.reason == "setting" else commands.UNKNOWN_COMMAND
            return "ERR %d %s" % (code, error)
        return "OK " + text if text else "OK"

    def _execute(self, line, now_ms):
        word, _, rest = line.partition(" ")
        if word in ("*IDN?", "STATUS?", "SETTINGS?", "TEST?", "STOP") and rest:
            raise RefusedError(commands.UNKNOWN_COMMAND, "%s takes nothing" % word)
        if word == "*IDN?":
            return "QEPA %s protocol=%d%s" % (self.role, frames.PROTOCOL_VERSION, self.identity)
        if word == "STATUS?":
            return self._status()
        if word == "SETTINGS?":
            return " ".join("%s=%s" % (s.name, s.text(self.settings[s.name])) for s in self._table)
        if word == "STOP":
            self.stop()
            return ""
        if word not in ("SET", "START", "TEST?"):
            raise RefusedError(commands.UNKNOWN_COMMAND, "unknown command")
        if self.run is not None:
            raise RefusedError(commands.RUNNING, "a run is under way: stop first")
        if word == "TEST?":
            return "pass " + self.self_test()
        return self._set(rest) if word == "SET" else self._start(rest, now_ms)

    def _start(self, argument, now_ms):
        run = commands.run_of(argument)
        self.fault = ""
        self._heard_ms = now_ms
        self.begin(now_ms)
        self.run = run
        return ""

    def _set(self, argument):
        name, _, text = argument.partition("=")
        if name not in self.settings:
            raise RefusedError(commands.BAD_SETTING, "the %s has no such setting" % self.role)
        (setting,) = (s for s in self._table if s.name == name)
        value = setting.parse(text)
        self.accept(name, value)
        self.settings[name] = value
        return ""

    def _status(self):
        state = "idle" if self.run is None else "running"
        text = "state=%s damaged=%d lost=%d" % (state, self._reader.frames_damaged, self._reader.frames_lost)
        if self.fault:
            text += " fault=" + self.fault
        return text + self.details()

    def begin(self, now_ms: float) -> None:
        """Begin a run. Raises RefusedError when the hardware does not."""

    def end(self) -> None:
        """The run is over."""

    def frame(self, kind: int, payload: bytes) -> None:
        """A frame that is no command; one that is not understood is ignored."""

    def details(self) -> str:
        """Further fields of STATUS?, each with a blank before it."""
        return ""

    def self_test(self) -> str:
        """Return details for `pass`. Raises RefusedError with FAULT."""
        return ""

    def accept(self, name: str, value: object) -> None:
        """Raise RefusedError with NOT_HERE when the hardware cannot have this setting."""


def _printable(payload):
    if not 0 < len(payload) <= _LONGEST_TEXT or any(not 32 <= byte < 127 for byte in payload):
        raise RefusedError(commands.UNKNOWN_COMMAND, "a command is 1 to 1,024 printable characters")
    return payload.decode()


def _encode(data):
    out = bytearray(len(data) + len(data) // 254 + 1)
    return bytes(memoryview(out)[: stuff(data, len(data), out)])
