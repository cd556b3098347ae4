"""Coincidence: from time tags to detections by slot, through clock recovery and a gate around each pulse.

`TagSlots` takes blocks of tags and gives blocks of detections as a controller that counts slots itself would, so that
what follows does not know which it was. Sans-IO. Tags before the clock is found are kept and told then.
"""

from dataclasses import replace
from math import ceil, pi
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.clock_recovery import MOST_PPM, PERIOD_NOISE, PhaseLock, SlotClock, acquire, from_sync
from qepa_qkd.errors import NoKey
from qepa_qkd.serial_protocol import SYNC_CHANNEL, Detections, Nibbles, Slots, TimeTags

ACQUISITION_TAGS: Final = 2048
ACQUISITION_SYNCS: Final = 16
MOST_KEPT_TAGS: Final = 1 << 17
FOLLOW_TAGS: Final = 64
"""Tags that one step of the phase lock averages; their mean is eight times as sharp as a tag."""
PHASE_SMOOTHING: Final = 0.1
LOST_AFTER: Final = 8
"""Steps in a row without a sign of the clock, after which it is lost. Noise gives one of them by chance."""
BRIDGE_SIGMAS: Final = 5.0
"""How far the pulses may be from where the clock went on to expect them, when light comes back after a pause."""
_BRIDGE_SMOOTHING: Final = 1 / 16
_AROUND: Final = 1 / 8
_ONSET_TAGS: Final = 32
_SYNC_WINDOW: Final = 0.4
_SYNC_STEP_PS: Final = 1e9


class TagSlots:
    """One run. `gate_ps`: width of the window in which a click counts, centred on the pulses.

    `sync_every` is the number of slots between sync pulses, None where the clicks are all there is; then slot 0 is
    where light seems to begin, within about a thousand slots.
    """

    def __init__(self, period_ps: float, gate_ps: float, sync_every: int | None) -> None:
        self._period_ps = period_ps
        self._gate_ps = min(gate_ps, period_ps)
        self._sync_every = sync_every
        self._step = FOLLOW_TAGS if sync_every is None else ceil(_SYNC_STEP_PS / (sync_every * period_ps))
        self._lock: PhaseLock | None = None
        self._kept: list[TimeTags] = []
        self._phase_ps = 0.0
        """Of the pulses' arrival after the middle of the lock's slots; moves only where sync pulses hold the lock."""
        self._errors: list[npt.NDArray[np.float64]] = []
        self._end_slot = self._end_ps = 0
        self._waiting: Slots = np.empty(0, np.int64)
        self._without_sign = 0
        self._bridge = _Bridge()

    @property
    def clock(self) -> SlotClock | None:
        """The newest estimate, once there is one."""
        return self._lock.clock if self._lock else None

    @property
    def drift_ppm(self) -> float:
        """By how much the receiver's clock seems to run fast."""
        return 1e6 * (self._lock.clock.period_ps / self._period_ps - 1) if self._lock else 0.0

    def feed(self, tags: TimeTags) -> Detections | None:
        """Return the detections that `tags` complete; None before the clock is found.

        Raises NoKey when the clock is not found or lost: the run is void, slots can no longer be counted.
        """
        if self._lock is None:
            self._kept.append(tags)
            tags = _joined(self._kept)
            clock = self._find(tags)
            if clock is None:
                if len(tags.times_ps) > MOST_KEPT_TAGS:
                    raise NoKey("no clock is found in the time tags")
                return None
            self._lock = PhaseLock(clock)
            self._kept.clear()
            tags = _since(tags, clock.at_ps - round(clock.period_ps / 2))
            self._end_ps = tags.first_ps
        return self._detections(tags)

    def _find(self, tags: TimeTags) -> SlotClock | None:
        """Try to find the clock in the first tags of a run; its slot 0 is the first that counts."""
        sync = tags.channels == SYNC_CHANNEL
        clicks = tags.times_ps[~sync]
        if self._sync_every is not None:
            if np.count_nonzero(sync) < ACQUISITION_SYNCS or len(clicks) < ACQUISITION_TAGS:
                return None
            clock = from_sync(tags.times_ps[sync], self._period_ps, self._sync_every)
            self._phase_ps = _mean_phase(clock.slots(clicks)[1], clock.period_ps)
            self._sharpen(clock.slots(clicks - round(self._phase_ps))[1], 1.0)
            return clock
        if len(clicks) < ACQUISITION_TAGS:
            return None
        try:
            return _from_onset(acquire(clicks[-ACQUISITION_TAGS:], self._period_ps), clicks, self._gate_ps)
        except NoKey:
            return None

    def _detections(self, tags: TimeTags) -> Detections:
        assert self._lock is not None  # noqa: S101
        sync = tags.channels == SYNC_CHANNEL
        times, detectors = tags.times_ps[~sync], tags.channels[~sync]
        guides = tags.times_ps[sync] if self._sync_every is not None else times
        slots, in_gate = np.empty(len(times), np.int64), np.empty(len(times), np.bool_)
        done = 0
        self._waiting = np.concatenate([self._waiting, guides])
        step = self._step
        while len(self._waiting) >= step:
            stretch, self._waiting = self._waiting[:step], self._waiting[step:]
            self._follow(stretch)
            until = int(np.searchsorted(times, stretch[-1], side="right"))
            slots[done:until], in_gate[done:until] = self._place(times[done:until])
            done = max(done, until)
        slots[done:], in_gate[done:] = self._place(times[done:])
        return self._block(tags, slots[in_gate], detectors[in_gate])

    def _follow(self, stretch: Slots) -> None:
        assert self._lock is not None  # noqa: S101
        if self._sync_every is not None:
            # Sync pulses are few: seen from their own distance, one that is late or missing still finds its slot.
            found = self._lock.follow(stretch, _SYNC_WINDOW * self._period_ps) > 0
        else:
            _, errors = self._lock.clock.slots(stretch)
            mean_turn = np.exp(2j * pi * errors / self._lock.clock.period_ps).mean()
            found = abs(mean_turn) > 3 / len(stretch) ** 0.5
            if found:
                near = errors[np.abs(errors) <= self._gate_ps / 2]
                self._bridge.cross(stretch, float(near.mean()) if len(near) else 0.0, self._lock.clock.period_ps)
                if len(near) < abs(mean_turn) * len(stretch) / 2:
                    self._recentre(errors, float(np.angle(mean_turn)) / (2 * pi))
                self._lock.follow(stretch, self._gate_ps)
        self._without_sign = 0 if found else self._without_sign + 1
        if self._without_sign >= LOST_AFTER:
            raise NoKey("the clock is lost: time tags no longer follow the pulses")
        if abs(self.drift_ppm) > MOST_PPM:
            raise NoKey(f"the clocks drift apart by more than {MOST_PPM:.0f} ppm")

    def _recentre(self, errors: npt.NDArray[np.float64], turns: float) -> None:
        """After a pause the pulses may lie beside the gate: move it to them."""
        assert self._lock is not None  # noqa: S101
        clock = self._lock.clock
        aside = (errors / clock.period_ps - turns + 0.5) % 1 - 0.5
        turns += float(np.median(aside[np.abs(aside) < _AROUND]))
        self._lock.clock = replace(clock, at_ps=clock.at_ps + round(turns * clock.period_ps))

    def _place(self, times: Slots) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Slot of each click, and whether it lies in the gate."""
        assert self._lock is not None  # noqa: S101
        slots, errors = self._lock.clock.slots(times - round(self._phase_ps))
        in_gate = np.abs(errors) <= self._gate_ps / 2
        if self._sync_every is not None:
            self._errors.append(errors[in_gate])
            if sum(map(len, self._errors)) >= FOLLOW_TAGS:
                self._sharpen(np.concatenate(self._errors), PHASE_SMOOTHING)
                self._errors.clear()
        return slots, in_gate

    def _sharpen(self, errors: npt.NDArray[np.float64], gain: float) -> None:
        """Move the gate to the mean of the clicks in it; all that follows a mean phase that noise makes blunt."""
        near = errors[np.abs(errors) <= self._gate_ps / 2]
        if len(near):
            self._phase_ps += gain * float(near.mean())

    def _block(self, tags: TimeTags, slots: Slots, detectors: Nibbles) -> Detections:
        assert self._lock is not None  # noqa: S101
        end = int(self._lock.clock.slots(np.array([tags.end_ps - round(self._phase_ps)]))[0][0])
        if tags.first_ps > self._end_ps:  # frames were lost: their slots were not seen
            seen_from = self._lock.clock.slots(np.array([tags.first_ps - round(self._phase_ps)]))[0][0]
            self._end_slot = max(self._end_slot, int(seen_from))
        self._end_ps = tags.end_ps
        first, self._end_slot = self._end_slot, max(self._end_slot, end, int(slots[-1]) + 1 if len(slots) else 0)
        # A click whose slot was told as over by a frame before can no longer be told; jitter at a frame's edge does it.
        kept = slots >= first
        slots, detectors = slots[kept], detectors[kept]
        order = np.argsort(slots, kind="stable")
        return Detections(tags.run, first, self._end_slot, tags.overflow, slots[order], detectors[order])


class _Bridge:
    """Knows how long the light may stay away before a slot could be lost or gained unseen."""

    def __init__(self) -> None:
        self._seen_ps: int | None = None
        self._step_ps = self._variance = 0.0

    def cross(self, stretch: Slots, error_ps: float, period_ps: float) -> None:
        """Take clicks that follow the clock but for `error_ps`. Raises NoKey if that may be a slot more."""
        end_ps = int(stretch[-1])
        span_ps = end_ps - (int(stretch[0]) if self._seen_ps is None else self._seen_ps)
        if self._seen_ps is None:
            self._step_ps, self._variance = float(span_ps), error_ps**2
        doubt_ps = BRIDGE_SIGMAS * PERIOD_NOISE * self._variance**0.5 * span_ps / max(self._step_ps, 1.0)
        if doubt_ps > period_ps / 4:
            raise NoKey(f"the clock is lost: {span_ps * 1e-12:.2g} s without light are too many to count slots over")
        self._seen_ps = end_ps
        self._step_ps += _BRIDGE_SMOOTHING * (span_ps - self._step_ps)
        self._variance += _BRIDGE_SMOOTHING * (error_ps**2 - self._variance)


def _mean_phase(errors_ps: npt.NDArray[np.float64], period_ps: float) -> float:
    return float(np.angle(np.exp(2j * pi * errors_ps / period_ps).sum()) / (2 * pi) * period_ps)


def _from_onset(clock: SlotClock, clicks: Slots, gate_ps: float) -> SlotClock:
    """Count slots from where the clicks begin to follow the clock."""
    slots, errors = clock.slots(clicks)
    follows = np.abs(errors) <= min(gate_ps, clock.period_ps / 2) / 2
    share = follows[-ACQUISITION_TAGS:].mean() / 2 + min(gate_ps / clock.period_ps, 0.5) / 2
    if len(slots) > _ONSET_TAGS:
        running = np.convolve(follows, np.full(_ONSET_TAGS, 1 / _ONSET_TAGS), "valid")
        # Half of that window may lie before the light.
        first = int(slots[int(np.argmax(running > share)) + round(_ONSET_TAGS * (1 - share))])
    else:
        first = int(slots[0])
    moved = clock.moved(first - clock.slot)
    return SlotClock(moved.at_ps, 0, moved.period_ps)


def _since(tags: TimeTags, start_ps: int) -> TimeTags:
    later = tags.times_ps >= start_ps
    return replace(
        tags, first_ps=max(tags.first_ps, start_ps), times_ps=tags.times_ps[later], channels=tags.channels[later]
    )


def _joined(parts: list[TimeTags]) -> TimeTags:
    first, last = parts[0], parts[-1]
    times = np.concatenate([part.times_ps for part in parts])
    channels = np.concatenate([part.channels for part in parts])
    return TimeTags(last.run, first.first_ps, last.end_ps, last.overflow, last.tick_ps, times, channels)
