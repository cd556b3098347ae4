"""Waveforms of consenting patients, in memory only: the last seconds of each channel, for models at the bedside.

Boards are asked for them while somebody wants them, again and again: a request lasts ASKED_S and nothing of it is
kept. Samples leave this class through :meth:`WaveStreams.window`, the callbacks and, sealed as they came, towards a
server that says that somebody looks at that board; none is stored or logged.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.messages import WaveRecord, WaveWatch
from qepa_wire.frame import WAVES_WANTED, Frame
from qepa_wire.payloads import WAVE_ECG, Wave, decode_wave, encode_waves_wanted

from .boards import Board, Boards
from .care import CareStreams
from .domain.keyring import EpochKeys
from .domain.wave_ring import WaveRing
from .errors import Refused
from .server_link import ServerLink
from .transport import Clock

KEPT_S: Final = 12
ASKED_S: Final = 120
_AGAIN_MS: Final = 60_000
_SILENT_MS: Final = 5000  # without a record: the board may have restarted, or does not know the consent yet
_BOOTS_MASK = 0xFFFF
_LONGEST_WATCH_MS: Final = 600_000

OnWave = Callable[[int, Wave], None]


class WaveStreams:
    """The waveforms that boards stream now. ``wanted``: whether all are to be asked for them, watched or not."""

    def __init__(
        self, boards: Boards, care: CareStreams, link: ServerLink, clock: Clock, *, wanted: bool = False
    ) -> None:
        self._boards = boards
        self._care = care
        self._link = link
        self._clock = clock
        self._rings: dict[tuple[int, int], WaveRing] = {}
        self._received_ms: dict[int, int] = {}
        self._asked_ms: dict[int, int] = {}
        self._watched_until_ms: dict[int, int] = {}
        self._callbacks: list[OnWave] = []
        self.wanted = wanted
        care.on_end.append(self.forget)
        link.handlers[WaveWatch] = self._take_watch

    def on_wave(self, callback: OnWave) -> None:
        """Have ``callback(board, wave)`` called for each record, after it is in the window. It must not raise."""
        self._callbacks.append(callback)

    def window(self, board: int, channel: int, seconds: float) -> tuple[NDArray[np.float32], int, int] | None:
        """The newest ``seconds`` (at most KEPT_S) of a channel: (samples [n, axes], fs_hz, number of the first moment).

        Samples are in the wire's units (ECG: WAVE_UNITS_PER_MV a millivolt; acceleration: mg), NaN where none came.
        n is less than asked for while the stream is young. None where nothing came within KEPT_S.
        """
        ring = self._rings.get((board, channel))
        return None if ring is None or self._is_stale(board) else ring.window(seconds)

    def peaks(self, board: int) -> tuple[int, ...]:
        """Numbers of the R peaks that the board told of within KEPT_S of its newest sample, rising."""
        if self._is_stale(board):
            return ()
        ring = self._rings.get((board, WAVE_ECG))
        return () if ring is None else ring.peaks

    def take(self, board: Board, _keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic WAVE frame.

        Raises Refused("consent") if none is in force, Refused("boots") for one of another boot, Refused("late") if
        newer samples are here already, WireError for a bad record.
        """
        consent = self._care.in_force(board, frame.payload)
        wave = decode_wave(consent.key, board.number, frame.seq, frame.payload)
        if wave.boots != board.row.boots & _BOOTS_MASK:
            raise Refused("boots", f"waveform of boot {wave.boots} of board {board.number:08x}")
        place = board.number, wave.channel
        ring = self._rings.get(place)
        if ring is not None and ring.is_past(wave):
            raise Refused("late", f"waveform of board {board.number:08x}")
        self._received_ms[board.number] = self._clock()
        if ring is None or not ring.fits(wave):
            ring = self._rings[place] = WaveRing(wave, seconds=KEPT_S)
        ring.push(wave)
        if wave.channel == WAVE_ECG and self._is_watched(board.number):
            now_ms = self._clock()
            record = WaveRecord(board=board.number, seq=frame.seq, payload=frame.payload, received_ms=now_ms)
            self._link.send_sealed(record)
        for callback in self._callbacks:
            callback(board.number, wave)

    def forget(self, board: int) -> None:
        """The consent is over: nothing of its waveforms stays."""
        for place in [place for place in self._rings if place[0] == board]:
            del self._rings[place]
        self._received_ms.pop(board, None)
        self._asked_ms.pop(board, None)
        self._watched_until_ms.pop(board, None)

    def tick(self) -> None:
        """Ask boards that stream care records for waveforms, or to send none any more."""
        for number, consent in self._care.streaming().items():
            if self._is_due(number):
                try:
                    board = self._boards.get(number)
                except Refused:
                    continue  # not served at the moment
                wanted = self._is_wanted(number)
                seconds = ASKED_S if wanted else 0
                self._boards.send_down(board, WAVES_WANTED, encode_waves_wanted(consent.consent_id, seconds))
                if wanted:
                    self._asked_ms[number] = self._clock()
                else:
                    self.forget(number)

    def _is_due(self, board: int) -> bool:
        """Whether the board is to be told (again) what is wanted of it."""
        asked_ms = self._asked_ms.get(board)
        if not self._is_wanted(board):
            return asked_ms is not None
        if asked_ms is None:
            return True
        since_ms = self._clock() - max(asked_ms, self._received_ms.get(board, 0))
        return since_ms >= _SILENT_MS or self._clock() - asked_ms >= _AGAIN_MS

    def _take_watch(self, message: WaveWatch, _sender: str) -> None:
        """Raises Refused("consent"), Refused("unknown_board")."""
        number = self._boards.get(message.board).number
        if not self._care.has_consent(number):
            raise Refused("consent", "none is in force for this board")
        self._watched_until_ms[number] = self._clock() + 1000 * message.seconds

    def _is_wanted(self, board: int) -> bool:
        return self.wanted or self._is_watched(board)

    def _is_watched(self, board: int) -> bool:
        left_ms = self._watched_until_ms.get(board, 0) - self._clock()
        return 0 < left_ms <= _LONGEST_WATCH_MS  # and not longer after the clock was set back

    def _is_stale(self, board: int) -> bool:
        received_ms = self._received_ms.get(board)
        return received_ms is None or abs(self._clock() - received_ms) > 1000 * KEPT_S
