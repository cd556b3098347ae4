"""The ECG that somebody looks at: asked for while they do, opened under the consent, in memory for seconds only."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qepa_uplink.messages import Message, WaveRecord, WaveWatch
from qepa_wire.keys import care_key
from qepa_wire.payloads import WAVE_ECG, WAVE_UNITS_PER_MV, Wave, care_consent, decode_wave

from ..enrolment.register import BoardRegister
from ..errors import RefusedError
from .arrival import SequenceGuard
from .consents import ConsentDesk
from .memory import CareMemory

WATCH_S = 30
STALE_MS = 8000
_KEPT = 8  # records of a second


@dataclass(frozen=True, slots=True)
class WatchedWave:
    """A record, numbered in order of arrival; ``at_ms`` by the clock that makes it look older."""

    number: int
    wave: Wave
    at_ms: int

    def shown(self) -> dict[str, object]:
        """As the ward page draws it: the first lead."""
        wave = self.wave
        leads = np.frombuffer(wave.samples, "<i2").reshape(-1, wave.axes)
        return {
            "number": self.number,
            "boots": wave.boots,
            "first": wave.first,
            "fs_hz": wave.fs_hz,
            "units_per_mv": WAVE_UNITS_PER_MV,
            "peaks": list(wave.peaks),
            "samples": leads[:, 0].tolist(),
        }


class WaveMonitor:
    """Waveforms of boards that are watched. ``send(gateway, message)`` seals; false where the gateway is not there."""

    def __init__(
        self,
        *,
        register: BoardRegister,
        consents: ConsentDesk,
        clock_ms: Callable[[], int],
        send: Callable[[str, Message], object],
    ) -> None:
        self._register = register
        self._consents = consents
        self._clock_ms = clock_ms
        self._send = send
        self._kept: CareMemory[deque[WatchedWave]] = CareMemory(consents)
        self._watched_until_ms: dict[int, int] = {}
        self._seen = SequenceGuard()
        self._count = 0

    def watch(self, number: int) -> None:
        """Somebody looks at ``number`` for WATCH_S from now on; raises RefusedError (board, consent)."""
        now_ms = self._clock_ms()
        board = self._register.get(number)
        if board is None:
            raise RefusedError("board", f"{number:08x} is not enrolled")
        if not self._consents.watched(number, now_ms):
            raise RefusedError("consent", f"no consent in force covers {number:08x}")
        self._watched_until_ms[number] = now_ms + 1000 * WATCH_S
        self._send(board.gateway, WaveWatch(board=number, seconds=WATCH_S))

    def accept(self, gateway: str, record: WaveRecord) -> None:
        """Take a record; raises WireError (payload, mac) or RefusedError (board, consent, replay, payload)."""
        now_ms = self._clock_ms()
        consent_id = care_consent(record.payload)
        board = self._consents.admit(gateway, record.board, consent_id, now_ms)
        wave = decode_wave(care_key(board.end_key, consent_id), record.board, record.seq, record.payload)
        if wave.channel != WAVE_ECG:
            raise RefusedError("payload", f"a waveform of {record.board:08x} that nobody shows")
        self._seen.take(record.board, consent_id, record.seq)
        if self._is_watched(record.board, now_ms):
            self._count += 1
            kept = self._kept.get(record.board, now_ms, consent_id=consent_id)
            if kept is None:
                kept = deque(maxlen=_KEPT)
                self._kept.put(record.board, consent_id, kept)
            kept.append(WatchedWave(self._count, wave, min(now_ms, record.received_ms)))

    def since(self, number: int, after: int) -> list[WatchedWave] | None:
        """Records of ``number`` that came after the one numbered ``after``, oldest first; None without a consent."""
        now_ms = self._clock_ms()
        if not self._consents.watched(number, now_ms):
            return None
        kept = self._kept.get(number, now_ms) if self._is_watched(number, now_ms) else None
        return [each for each in kept or () if each.number > after and _is_of_now(each, now_ms)]

    def tick(self) -> None:
        """Forget what nobody looks at any more, what is old, and what has no consent any more."""
        now_ms = self._clock_ms()
        for number in list(self._watched_until_ms):
            if not self._is_watched(number, now_ms):
                del self._watched_until_ms[number]
                self._kept.drop(number)
        for kept in self._kept.items(now_ms).values():
            while kept and not _is_of_now(kept[0], now_ms):
                kept.popleft()

    def _is_watched(self, number: int, now_ms: int) -> bool:
        left_ms = self._watched_until_ms.get(number, 0) - now_ms
        return 0 < left_ms <= 1000 * WATCH_S  # and not longer after the clock was set back


def _is_of_now(wave: WatchedWave, now_ms: int) -> bool:
    return 0 <= now_ms - wave.at_ms <= STALE_MS
