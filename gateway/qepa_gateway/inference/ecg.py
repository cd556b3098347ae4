"""Beats by class, and whether the signal is good enough to tell, from the ECG that consenting patients' boards stream.

A beat is classified once the next one is known, or 2.5 s later, and only while the signal was last judged usable. What
could not be classified counts as unknown, never as normal. Of beats that are not called normal some are explained.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Literal, Protocol

import numpy as np

from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS, ECG_QUALITY
from qepa_uplink.readings import BEATS_F, BEATS_N, BEATS_S, BEATS_V
from qepa_uplink.readings import ECG_QUALITY as QUALITY_CODE
from qepa_wire.measures import NO_DATA, POOR_SIGNAL, SETTLING, UNKNOWN
from qepa_wire.payloads import WAVE_ECG, Wave

from .finding import Explanation, Finding, Reading
from .reasons import NORMAL, Inputs, explain, lead_bytes, thousandths
from .runtime import InferenceError
from .shelf import ModelShelf
from .windows import BeatWindows, Samples, quality_window, reach

BEATS_AT_ONCE: Final = 8  # in one call of work(); a beat takes well under a millisecond
WINDOWS_AT_ONCE: Final = 4
EXPLAINED_EVERY_S: Final = 5  # of one board; of all at most one in a call of work(), as it takes two milliseconds
_MINUTE_S: Final = 60
_WAIT_S: Final = 2.5  # for the beat that follows, as a board waits
_MOST_WAITING: Final = 64  # beats of one board; beyond it the oldest are unknown
_ANSWERS: Final[tuple[Literal["S", "V", "F"], ...]] = ("S", "V", "F")
_CODES: Final = (BEATS_N, BEATS_S, BEATS_V, BEATS_F)
_USABLE = CONTRACTS[ECG_QUALITY].outputs.index("usable")
_NEEDED_S: Final = 12


OnExplained = Callable[[int, Explanation], None]  # board, why


class Waves(Protocol):
    """What this needs of :class:`qepa_gateway.waves.WaveStreams`."""

    def on_wave(self, callback: Callable[[int, Wave], None]) -> None:
        """Have ``callback`` called for each record."""

    def window(self, board: int, channel: int, seconds: float) -> tuple[Samples, int, int] | None:
        """The newest seconds of a channel."""


class EcgReader:
    """Reads the ECG of all boards that stream it."""

    def __init__(
        self, waves: Waves, shelf: ModelShelf, errors: Counter[str], explained: OnExplained | None = None
    ) -> None:
        """``errors`` counts, by name of a model, how often it failed.

        ``explained`` is told why a beat was called S, V or F, and must not raise; without it none is explained.
        """
        self._waves = waves
        self._shelf = shelf
        self._errors = errors
        self._explained = explained
        self._may_explain = False  # still, in this call of work()
        self._hearts: dict[int, _Heart] = {}
        self._turn: deque[int] = deque()
        waves.on_wave(self._take)

    def work(self) -> None:
        """Judge signals and classify beats that are due, boards in turn."""
        beats, windows = BEATS_AT_ONCE, WINDOWS_AT_ONCE
        self._may_explain = True
        for _ in range(len(self._turn)):
            number = self._turn[0]
            self._turn.rotate(-1)
            heart = self._hearts[number]
            if windows and heart.is_quality_due():
                windows -= 1
                self._judge(number, heart)
            while beats and (peak := heart.due()) is not None:
                beats -= 1
                self._classify(number, heart, *peak)
            if not beats and not windows:
                return

    def findings(self, board: int) -> tuple[Finding, ...]:
        """Beats of the last minute by class, and the share of seconds in it with a usable signal."""
        heart = self._hearts.get(board)
        if heart is None:
            return ()
        heard = self._waves.window(board, WAVE_ECG, 1) is not None
        found = []
        for name, readings in ((ECG_BEATS, heart.beats(heard=heard)), (ECG_QUALITY, heart.quality(heard=heard))):
            version = self._shelf.version(name)
            if version:
                t_ms = (1000 * heart.end // heart.fs_hz) % 2**32
                found.append(Finding(model=name, version=version, boots=heart.boots, t_ms=t_ms, readings=readings))
        return tuple(found)

    def forget(self, board: int) -> None:
        """Nothing of this board stays."""
        if self._hearts.pop(board, None) is not None:
            self._turn.remove(board)

    def _take(self, board: int, wave: Wave) -> None:
        if wave.channel != WAVE_ECG:
            return
        heart = self._hearts.get(board)
        if heart is None or (heart.boots, heart.fs_hz) != (wave.boots, wave.fs_hz) or wave.first < heart.end:
            if heart is None:
                self._turn.append(board)
            heart = self._hearts[board] = _Heart(wave)
        heart.take(wave)

    def _judge(self, board: int, heart: "_Heart") -> None:
        heart.judged_at = heart.end
        heart.usable = None
        window = self._waves.window(board, WAVE_ECG, _NEEDED_S)
        if window is None:
            return
        lead = quality_window(window[0][:, 0], window[1])
        if lead is None:
            heart.verdict(usable=None)
            return
        try:
            model, _ = self._shelf.get(ECG_QUALITY)
            answer = model.run(lead)[0]
        except InferenceError:
            self._errors[ECG_QUALITY] += 1
            heart.verdict(usable=None)
            return
        heart.verdict(usable=int(answer.argmax()) == _USABLE)

    def _classify(self, board: int, heart: "_Heart", peak: int, before: int | None, after: int | None) -> None:
        window = self._waves.window(board, WAVE_ECG, _NEEDED_S)
        if window is None:
            heart.classified(peak, None)
            return
        samples, _, first = window
        inputs = heart.windows.read(
            samples, first, peak, _joined(samples, first, before, peak), _joined(samples, first, peak, after, late=True)
        )
        if inputs is None or heart.usable is not True:
            heart.classified(peak, None)
            return
        try:
            model, _ = self._shelf.get(ECG_BEATS)
            answer = int(model.run(*inputs)[0].argmax())
        except InferenceError:
            self._errors[ECG_BEATS] += 1
            heart.classified(peak, None)
            return
        heart.classified(peak, answer)
        if answer != NORMAL and self._explained is not None and self._may_explain and heart.may_explain(peak):
            self._may_explain = False
            heart.explained_at = peak
            why = self._explain(heart, peak, inputs, answer)
            if why is not None:
                self._explained(board, why)

    def _explain(self, heart: "_Heart", peak: int, beat: Inputs, answer: int) -> Explanation | None:
        usual = heart.windows.usual()
        try:
            model, card = self._shelf.get(ECG_BEATS)
            why = explain(model.run_rows, beat, usual, answer)
        except InferenceError:
            self._errors[ECG_BEATS] += 1
            return None
        return Explanation(
            model=ECG_BEATS,
            version=int(card["version"]),
            boots=heart.boots,
            t_ms=(1000 * peak // heart.fs_hz) % 2**32,
            after_ms=1000 * (heart.end - peak) // heart.fs_hz,
            answer=_ANSWERS[answer - 1],
            probabilities=thousandths(why.probabilities),
            shares=thousandths(why.shares),
            numbers=thousandths(beat[1][0]),
            beat=lead_bytes(beat),
            usual=lead_bytes(usual),
        )


class _Heart:
    """One board's beats of one boot."""

    def __init__(self, wave: Wave) -> None:
        self.boots, self.fs_hz = wave.boots, wave.fs_hz
        self.start = self.end = wave.first
        self.windows = BeatWindows(wave.fs_hz)
        self.usable: bool | None = None
        self.judged_at = wave.first
        self.explained_at: int | None = None
        self._peaks: deque[int] = deque(maxlen=_MOST_WAITING)
        self._before: int | None = None
        self._classes: deque[tuple[int, int | None]] = deque()
        self._verdicts: deque[tuple[int, bool | None]] = deque()

    def take(self, wave: Wave) -> None:
        """Peaks and the end of a record that goes on with this one."""
        self.end = wave.first + len(wave.samples) // (2 * wave.axes)
        newest = self._peaks[-1] if self._peaks else -1 if self._before is None else self._before
        self._peaks.extend(peak for peak in wave.peaks if peak > newest)
        oldest = self.end - _MINUTE_S * self.fs_hz
        for kept in (self._classes, self._verdicts):
            while kept and kept[0][0] < oldest:
                kept.popleft()

    def is_quality_due(self) -> bool:
        """Once a second of signal."""
        return bool(self.end - self.judged_at >= self.fs_hz)

    def may_explain(self, peak: int) -> bool:
        """Whether a beat can be held against the usual one, and the last that was is long enough ago."""
        at = self.explained_at
        return self.windows.is_settled and (at is None or peak - at >= EXPLAINED_EVERY_S * self.fs_hz)

    def verdict(self, *, usable: bool | None) -> None:
        """Of the newest seconds; None where there is no telling."""
        self.usable = usable
        self._verdicts.append((self.end, usable))

    def due(self) -> tuple[int, int | None, int | None] | None:
        """The next beat with its neighbours, once its own signal and the beat after it are here."""
        if not self._peaks:
            return None
        peak = self._peaks[0]
        if self.end < peak + reach(self.fs_hz)[1]:
            return None
        if len(self._peaks) > 1:
            return peak, self._before, self._peaks[1]
        return (peak, self._before, None) if self.end - peak > _WAIT_S * self.fs_hz else None

    def classified(self, peak: int, found: int | None) -> None:
        """The beat that was due has this class, or none."""
        self._before = self._peaks.popleft()
        self._classes.append((peak, found))

    def beats(self, *, heard: bool) -> tuple[Reading, ...]:
        """Counts of the last minute. Quality: the share of its beats that a class was found for."""
        known = Counter(found for _, found in self._classes if found is not None)
        if not heard:
            reason = NO_DATA
        elif self.usable is False:
            reason = POOR_SIGNAL
        elif not known:
            reason = SETTLING if not self._classes else POOR_SIGNAL
        else:
            share = 100 * known.total() // len(self._classes)
            return tuple((code, share, known[place]) for place, code in enumerate(_CODES))
        return tuple((code, reason, UNKNOWN) for code in _CODES)

    def quality(self, *, heard: bool) -> tuple[Reading, ...]:
        """Seconds of the last minute with a usable signal, in percent of those that there was a verdict on."""
        told = [usable for _, usable in self._verdicts if usable is not None]
        if not heard or not told:
            return ((QUALITY_CODE, SETTLING if heard else NO_DATA, UNKNOWN),)
        return ((QUALITY_CODE, 100, round(100 * sum(told) / len(told))),)


def _joined(samples: Samples, first: int, a: int | None, b: int | None, *, late: bool = False) -> int | None:
    """``a`` (or ``b``, if late) where no sample between the two is missing, else None."""
    if a is None or b is None or a < first or b - first > len(samples):
        return None
    return None if np.isnan(samples[a - first : b - first, 0]).any() else b if late else a
