"""A connection over a serial line: bytes in order, each once, or an end that both notice. Sans-IO.

A line has no connections of its own, loses what nobody reads in time, and carries garbage while a plug is moved. Frames
are those of the controllers (`qepa_wire.link_frames`: COBS, CRC-32, a zero between two):

| kind | payload | meaning |
| --- | --- | --- |
| 40 OPEN | `own u64, heard u64, stands u8` | the nonce this end drew, and the other's or 0; repeated until it stands |
| 41 DATA | `connection u64, number u64, bytes` | `WINDOW` of them at most go ahead of what is acknowledged |
| 42 ACK | `connection u64, next u64, again u8` | everything before `next` has arrived; again: send the rest once more |
| 43 CLOSE | `connection u64` | it has ended, or never was one here |

Either end draws a nonce for each connection and both together name it (their XOR), so frames of an earlier one, left
over in some buffer, are told from frames of this one, and an end that was started again is noticed at its first OPEN.
DATA that is lost is sent again in order (go-back-N). That is for errors, not for attackers: the bytes carry their own
authentication, and whoever makes frames can end a connection, as whoever holds the cable can.
"""

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from qepa_wire import link_frames as frames

OPEN, DATA, ACK, CLOSE = 0x40, 0x41, 0x42, 0x43

CHUNK_BYTES: Final = 440
WINDOW: Final = 8
"""With `CHUNK_BYTES`: what is under way fits the 4,096 bytes that a kernel keeps for a program that does not read."""
OPEN_AGAIN_S: Final = 0.5
CLOSE_WITHIN_S: Final = 2.0
"""How long the last bytes may take after `end`."""
_MOST_RETRY_S: Final = 8.0

_OPEN = struct.Struct("<QQB")
_DATA = struct.Struct("<QQ")
_ACK = struct.Struct("<QQB")
_CLOSE = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection stands."""


@dataclass(frozen=True, slots=True)
class Received:
    """The next bytes of the other end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection that stood, or was ended here, is over; `begin` makes the next one."""

    reason: str


Event = Opened | Received | Ended
_State = Literal["idle", "opening", "standing", "ending"]


class LineConnection:
    """One end. Idle until `begin`; the caller sends what `outgoing` returns and calls `tick` when `due_s` has come."""

    def __init__(self, new_nonce: Callable[[], int], bits_per_s: int) -> None:
        """`new_nonce` returns 64 random bits. Times in seconds are those of any monotonic clock the caller keeps to."""
        self._new_nonce = new_nonce
        # Ten bits a byte on the line; the answer takes its time too, and a program may be busy.
        self._window_s = 10 * WINDOW * (CHUNK_BYTES + 32) / bits_per_s
        self._first_retry_s = 0.5 + 2 * self._window_s
        self._reader, self._writer = frames.FrameReader(), frames.FrameWriter()
        self._state: _State = "idle"
        self._own = self._heard = 0
        self._outgoing = bytearray()
        self._unsent = bytearray()
        self._flight: deque[bytes] = deque()
        self._first_in_flight = self._expected = 0
        self._retry_s = self._first_retry_s
        self._went_back_s = -inf
        self._held = self._arrived = self._missing = False
        self._closing_s = 0.0
        self.due_s: float | None = None
        """When `tick` has something to do; None: not before the next call."""
        self.resent = 0
        """Frames sent again."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the other end has not acknowledged."""
        return len(self._unsent) + sum(len(chunk) for chunk in self._flight)

    def begin(self, now_s: float) -> None:
        """Ask the other end for a connection, again and again."""
        self._reset("opening")
        self._own = self._new_nonce() or 1
        self._say_open(now_s)

    def end(self, now_s: float, *, at_once: bool = False) -> list[Event]:
        """End the connection once what was sent has arrived, or after a while."""
        if self._state in ("idle", "opening"):
            return self._over("closed")
        if at_once or not self._flight:
            return self._close("closed")
        if self._state == "ending":
            return []
        self._state = "ending"
        self._closing_s = now_s + CLOSE_WITHIN_S
        self._schedule(now_s)
        return []

    def lost(self, reason: str) -> list[Event]:
        """The line itself is gone, with all that was under way."""
        self._outgoing.clear()
        self._reader = frames.FrameReader()
        return self._over(reason)

    def send(self, data: bytes, now_s: float) -> None:
        """Queue bytes; they are dropped unless the connection stands."""
        if self._state == "standing":
            self._unsent += data
            self._fill_window(now_s)

    def hold(self, *, held: bool) -> None:
        """While `held`, nothing is received: the other end keeps what it has and tries again."""
        if self._held and not held and self._state == "standing":
            self._acknowledge(again=True)
        self._held = held

    def outgoing(self) -> bytes:
        """Take the bytes that are to go out now."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """Take bytes of the line. Never raises, whatever they are."""
        events: list[Event] = []
        self._arrived = self._missing = False
        for kind, payload, _ in self._reader.feed(data):
            if kind == frames.DAMAGED:
                self._missing = True
            elif kind == OPEN and len(payload) == _OPEN.size:
                nonce, heard, stands = _OPEN.unpack(payload)
                events += self._on_open(nonce, heard, now_s, stands=bool(stands))
            elif kind in (DATA, ACK, CLOSE) and len(payload) >= _CLOSE.size:
                events += self._on_frame(kind, payload, now_s)
        if self._state in ("standing", "ending") and (self._arrived or self._missing) and not self._held:
            self._acknowledge(again=self._missing)
        self._schedule(now_s)
        return events

    def tick(self, now_s: float) -> list[Event]:
        """Do what is due."""
        if self.due_s is None or now_s < self.due_s:
            return []
        if self._state == "opening":
            self._say_open(now_s)
        elif self._state == "ending" and now_s >= self._closing_s:
            return self._close("closed before all had arrived")
        else:
            self._retry_s = min(_MOST_RETRY_S, 2 * self._retry_s)
            self._go_back(now_s)
        return []

    def _reset(self, state: _State) -> None:
        self._state = state
        self._heard = 0
        self._unsent.clear()
        self._flight.clear()
        self._first_in_flight = self._expected = 0
        self._retry_s = self._first_retry_s
        self._went_back_s = -inf
        self._held = self._arrived = self._missing = False
        self.due_s = None

    def _over(self, reason: str) -> list[Event]:
        was = self._state
        self._reset("idle")
        return [] if was == "idle" else [Ended(reason)]

    def _close(self, reason: str) -> list[Event]:
        self._say(CLOSE, _CLOSE.pack(self._connection))
        return self._over(reason)

    @property
    def _connection(self) -> int:
        return self._own ^ self._heard

    def _say(self, kind: int, payload: bytes) -> None:
        self._outgoing += self._writer.frame(kind, payload)

    def _say_open(self, now_s: float) -> None:
        stands = self._state == "standing"
        # A zero first: what garbage stands on the line ends there, and this frame is whole.
        self._outgoing += b"\0"
        self._say(OPEN, _OPEN.pack(self._own, self._heard, stands))
        if not stands:
            self.due_s = now_s + OPEN_AGAIN_S

    def _on_open(self, nonce: int, heard: int, now_s: float, *, stands: bool) -> list[Event]:
        if self._state in ("idle", "ending") or nonce in (0, self._own):  # a line may echo
            return []
        if self._state == "standing":
            if nonce != self._heard:
                return self._over("the other end began anew")
            if not stands:
                self._say_open(now_s)
            return []
        self._heard = nonce
        if heard != self._own:
            self._say_open(now_s)
            return []
        events = self._stand()
        if not stands:
            self._say_open(now_s)
        return events

    def _stand(self) -> list[Event]:
        self._state = "standing"
        return [Opened()]

    def _on_frame(self, kind: int, payload: bytes, now_s: float) -> list[Event]:
        (connection,) = _CLOSE.unpack_from(payload)
        if self._state == "idle" or not self._heard or connection != self._connection:
            if kind != CLOSE:
                self._say(CLOSE, _CLOSE.pack(connection))
            return []
        if kind == CLOSE:
            return [] if self._state == "opening" else self._over("the other end closed")
        # The other end has heard both nonces, or it could not name the connection.
        events = self._stand() if self._state == "opening" else []
        if kind == DATA and len(payload) >= _DATA.size:
            return events + self._on_data(payload)
        if kind == ACK and len(payload) == _ACK.size:
            _, following, again = _ACK.unpack(payload)
            return events + self._on_ack(following, again, now_s)
        return events

    def _on_data(self, payload: bytes) -> list[Event]:
        _, number = _DATA.unpack_from(payload)
        self._arrived = True
        if number > self._expected:
            self._missing = True
        if number != self._expected or self._held:
            return []
        self._expected += 1
        return [Received(payload[_DATA.size :])] if self._state == "standing" else []

    def _on_ack(self, following: int, again: int, now_s: float) -> list[Event]:
        arrived = following - self._first_in_flight
        if not 0 <= arrived <= len(self._flight):
            return []
        for _ in range(arrived):
            self._flight.popleft()
        self._first_in_flight = following
        if arrived:
            self._retry_s = self._first_retry_s
            self.due_s = None
        if again and now_s - self._went_back_s > self._window_s:
            self._go_back(now_s)
        self._fill_window(now_s)
        return self._close("closed") if self._state == "ending" and not self._flight else []

    def _fill_window(self, now_s: float) -> None:
        while self._unsent and len(self._flight) < WINDOW:
            chunk = bytes(self._unsent[:CHUNK_BYTES])
            del self._unsent[:CHUNK_BYTES]
            self._flight.append(chunk)
            self._send_chunk(len(self._flight) - 1)
        self._schedule(now_s)

    def _go_back(self, now_s: float) -> None:
        self._went_back_s = now_s
        for index in range(len(self._flight)):
            self._send_chunk(index)
        self.resent += len(self._flight)
        self.due_s = None
        self._schedule(now_s)

    def _send_chunk(self, index: int) -> None:
        self._say(DATA, _DATA.pack(self._connection, self._first_in_flight + index) + self._flight[index])

    def _acknowledge(self, *, again: bool) -> None:
        self._say(ACK, _ACK.pack(self._connection, self._expected, again))

    def _schedule(self, now_s: float) -> None:
        """Set `due_s` where it is not set, or has nothing to wait for any more."""
        if self._state == "opening":
            return
        if not self._flight:
            self.due_s = None
        elif self.due_s is None:
            self.due_s = now_s + self._retry_s
        if self._state == "ending":
            self.due_s = self._closing_s if self.due_s is None else min(self.due_s, self._closing_s)
