"""Online R-peak detection on the slope envelope of dsp.EcgFilter.

The rules are those of Pan and Tompkins (IEEE Trans Biomed Eng 32(3), 1985) as refined by Hamilton (Computers in
Cardiology 2002): a 200 ms refractory period in which the higher peak wins, a threshold between the mean heights of
the last eight QRS and the last eight noise peaks, a slope test against T waves within 360 ms, and a search back with
half the threshold once a beat is overdue.
"""

from array import array

from qepa_kernels import ring_peak, ring_steepest, scan_peaks

FOUND = 16  # beats that one block may bring; the facade empties the list after each block

_HISTORY = 8
_THRESHOLD_Q8 = 88  # 0.34 of the way from noise to QRS
_FLOOR = 500  # envelope of a QRS of about 0.1 mV; less is never a beat
_LEARN_SECONDS = 3
_LEARN_PEAKS = 24
_TOP_AT = 2  # places in scan_peaks' state
_DUE = 4
_ENDED = 5


class RPeakDetector:
    """Finds R peaks; `found[0:n_found]` are their input sample numbers since `clear()`.

    A beat is reported about 0.3 s after its R peak, one found by search back later. The number is aligned to the
    largest deflection in the QRS band.
    """

    def __init__(self, ecg):
        fs_hz = ecg.fs_hz
        self._ecg = ecg
        self.found = array("i", bytes(4 * FOUND))
        self.n_found = 0
        self.missed = 0  # beats dropped because `found` was full: a block longer than FOUND beats
        self._fs_hz = fs_hz
        self._refractory = fs_hz * 200 // 1000
        self._p_wave = fs_hz * 280 // 1000
        self._t_wave = fs_hz * 360 // 1000
        self._window = fs_hz * 80 // 1000
        self._step = max(2, (fs_hz * 10 + 500) // 1000)
        self._scan = array(
            "i", (0, 0, 0, fs_hz * 95 // 1000, 0, 0)
        )  # scan_peaks' state; places count from the block's first
        self._early = array("i", bytes(8 * _LEARN_PEAKS))
        self._qrs = array("i", bytes(4 * _HISTORY))
        self._noise = array("i", bytes(4 * _HISTORY))
        self._rr = array("i", bytes(4 * _HISTORY))
        self._relearn(0)

    def clear(self):
        """Forget the reported beats."""
        self.n_found = 0

    def restart(self, start):
        """The signal begins anew at sample `start`."""
        scan = self._scan
        scan[0] = scan[1] = scan[_TOP_AT] = scan[_DUE] = scan[_ENDED] = 0
        self._relearn(start)

    def has_learnt(self):
        """False during the first seconds, and after four seconds without a beat, while thresholds are learnt."""
        return not self._learning

    def noise_percent(self):
        """Mean height of noise peaks in percent of that of QRS peaks; 100 while nothing is learnt."""
        if self._learning or not self._qrs_sum:
            return 100
        return min(100, 100 * self._noise_sum // self._qrs_sum)

    def _relearn(self, start):
        self._learning = True
        self._learn_from = start
        self._n_early = 0
        self._pending = 0
        self._pending_at = 0
        self._spare = 0  # best noise peak since the last beat, for the search back
        self._spare_at = 0
        self._beat_at = -1
        self._beat_slope = 0
        self._beat_height = 0
        self._qrs_sum = 0
        self._noise_sum = 0
        self._qrs_next = 0
        self._noise_next = 0
        self._rr_next = 0
        self._rr_count = 0
        self._rr_sum = 0
        self._due = start + _LEARN_SECONDS * self._fs_hz

    def run(self, envelope, first, n):
        """Look at envelope[0:n], whose first word belongs to sample number `first`."""
        scan = self._scan
        k = 0
        while True:
            scan[_DUE] = min(self._due - first, n)
            k = scan_peaks(envelope, k, n, scan)
            if k >= n:
                break
            if scan[_ENDED]:
                self._candidate(scan[_ENDED], first + scan[_TOP_AT])
            if first + k >= self._due:
                self._settle(first + k)
            k += 1
        scan[_TOP_AT] -= n

    def _candidate(self, height, at):
        if self._learning:
            k = self._n_early
            if k and at - self._early[2 * k - 1] < self._refractory:
                if height <= self._early[2 * k - 2]:
                    return
                k -= 1
            if k < _LEARN_PEAKS:
                self._early[2 * k] = height
                self._early[2 * k + 1] = at
                self._n_early = k + 1
            return
        if self._beat_at >= 0 and at - self._beat_at < self._refractory:
            return
        if self._pending and at - self._pending_at >= self._refractory:
            if 2 * height < 3 * self._pending:
                self._classify(self._pending, self._pending_at)
                if at - self._beat_at < self._refractory:
                    self._pending = 0
                    return
            self._pending = 0
        if height > self._pending:
            self._pending = height
            self._pending_at = at
            self._due = self._decided_at()

    def _decided_at(self):
        """When the pending peak may be judged: a low one may be a P wave and waits for its QRS."""
        low = 4 * _HISTORY * self._pending < 3 * self._qrs_sum
        return self._pending_at + (self._p_wave if low else self._refractory)

    def _settle(self, now):
        """Decide what has become due: the end of learning, the pending peak, or an overdue beat."""
        if self._learning:
            self._learn(now)
            return
        if self._pending and now >= self._decided_at():
            height = self._pending
            at = self._pending_at
            self._pending = 0
            self._classify(height, at)
        overdue = self._overdue()
        if not self._pending and now >= overdue:
            if self._spare > max(self._threshold() >> 1, _FLOOR):
                self._accept(self._spare, self._spare_at)
            elif now - self._beat_at >= 4 * self._fs_hz:
                self._relearn(now)
                return
            overdue = self._overdue()
            if now >= overdue:
                overdue = now + self._fs_hz // 8
        self._due = self._decided_at() if self._pending else overdue

    def _learn(self, now):
        early = self._early
        fs_hz = self._fs_hz
        highest = 0
        total = 0
        for second in range(_LEARN_SECONDS):
            best = 0
            for k in range(self._n_early):
                if early[2 * k] > best and (early[2 * k + 1] - self._learn_from) // fs_hz == second:
                    best = early[2 * k]
            total += best
            highest = max(highest, best)
        # The lowest of three maxima may be a second without a beat, the highest an artefact: take the middle.
        mean = total // _LEARN_SECONDS
        if mean < _FLOOR:
            self._relearn(now)
            return
        for k in range(_HISTORY):
            self._qrs[k] = mean
            self._noise[k] = 0
        self._qrs_sum = _HISTORY * mean
        self._learning = False
        self._beat_at = -1
        for k in range(self._n_early):
            if now - early[2 * k + 1] >= self._refractory:
                self._classify(early[2 * k], early[2 * k + 1])
            else:
                self._pending = early[2 * k]
                self._pending_at = early[2 * k + 1]
        if self._beat_at < 0:
            self._beat_at = self._learn_from
        self._due = now + 1

    def _threshold(self):
        noise = self._noise_sum // _HISTORY
        return noise + ((self._qrs_sum // _HISTORY - noise) * _THRESHOLD_Q8 >> 8)

    def _overdue(self):
        rr = self._rr_sum // self._rr_count if self._rr_count else self._fs_hz
        return self._beat_at + self._refractory + rr + (rr >> 1)

    def _steepest(self, at):
        """Largest slope in the window that made the envelope peak at `at`."""
        return ring_steepest(self._ecg.band, at - self._window, self._window + 1, self._step)

    def _classify(self, height, at):
        if height > self._threshold() and height > _FLOOR:
            early = self._beat_at >= 0 and at - self._beat_at < self._t_wave
            if early and 2 * self._steepest(at) < self._beat_slope:
                self._reject(height, at, False)
            else:
                self._accept(height, at)
        else:
            self._reject(height, at, True)

    def _reject(self, height, at, searchable):
        k = self._noise_next
        self._noise_sum += height - self._noise[k]
        self._noise[k] = height
        self._noise_next = (k + 1) % _HISTORY
        if searchable and height > self._spare and (self._beat_at < 0 or at - self._beat_at >= self._t_wave):
            self._spare = height
            self._spare_at = at

    def _accept(self, height, at):
        if self._beat_at >= 0 and at - self._beat_at < self._p_wave and 2 * height > 3 * self._beat_height:
            self._demote()
        k = self._qrs_next
        self._beat_height = height
        self._qrs_sum += height - self._qrs[k]
        self._qrs[k] = height
        self._qrs_next = (k + 1) % _HISTORY
        self._spare = 0
        self._beat_slope = self._steepest(at)
        if self._beat_at >= 0:
            k = self._rr_next
            rr = at - self._beat_at
            self._rr_sum += rr - (self._rr[k] if self._rr_count == _HISTORY else 0)
            self._rr[k] = rr
            self._rr_next = (k + 1) % _HISTORY
            if self._rr_count < _HISTORY:
                self._rr_count += 1
        self._beat_at = at
        if self.n_found < FOUND:
            self.found[self.n_found] = self._r_peak(at)
            self.n_found += 1
        else:
            self.missed += 1

    def _demote(self):
        """The last beat was a P wave: its height belongs to the noise, so that the next one stays below threshold."""
        k = (self._qrs_next - 1) % _HISTORY
        mean = (self._qrs_sum - self._qrs[k]) // (_HISTORY - 1)
        self._qrs_sum += mean - self._qrs[k]
        self._qrs[k] = mean
        self._reject(self._beat_height, self._beat_at, False)

    def _r_peak(self, at):
        """Input sample number of the largest deflection of the QRS band behind the envelope peak at `at`."""
        first = at - self._window - self._step
        place = first + ring_peak(self._ecg.band, first, at + 1 - first)
        return place - self._ecg.band_delay - self._ecg.clean_delay
