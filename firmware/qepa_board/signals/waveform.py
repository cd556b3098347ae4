"""What of a channel goes into the next record of the care stream; the samples stay in the ring of who made them."""

from qepa_wire.payloads import MAX_WAVE_PEAKS


class Waveform:
    """How far one channel has been sent.

    ``fresh``: number of the first sample that may be: those before are lost, or of an electrode that was off.
    """

    def __init__(self):
        self.fresh = 0
        self._next = 0
        self._told = -1  # newest R peak that was sent

    def take(self, kind, ring, end, delay, peaks):
        """The fields of a Wave of at most a second, of samples that no earlier one had; None if there are none.

        kind: (channel, axes, fs_hz, boots). Samples up to number ``end`` are in ``ring``, array('h') with axes
        interleaved, sample i in the place of number i + ``delay``; peaks: numbers of R peaks, rising. Where more than
        two seconds wait, all but the last is left out.
        """
        _, axes, fs_hz, _ = kind
        first = max(self._next, self.fresh)
        if end - first > 2 * fs_hz:
            first = end - fs_hz
        stop = min(first + fs_hz, end)
        if stop <= first:
            return None
        self._next = stop
        peaks = [peak for peak in peaks if self._told < peak < stop][:MAX_WAVE_PEAKS]
        if peaks:
            self._told = peaks[-1]
        start = (first + delay) * axes % len(ring)
        stop = start + (stop - first) * axes
        return kind + (first, peaks, bytes(ring[start:stop]) + bytes(ring[: max(0, stop - len(ring))]))  # noqa: RUF005
