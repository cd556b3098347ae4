"""Glucose of a continuous monitor: the last reading, its trend, and the levels that call for someone.

Trend: least squares over the readings of the latest 20 minutes. Levels: below 70 and below 54 mg/dL (level 1 and 2
hypoglycaemia) and above 250 mg/dL (level 2 hyperglycaemia) of the international consensus, Battelino et al., Diabetes
Care 42(8), 2019.
"""

from array import array

from qepa_wire.measures import GLUCOSE, GLUCOSE_TREND, NO_DATA, SENSOR_FAULT, SETTLING, STALE, UNKNOWN

TREND_S = 1200
STALE_S = 900  # two readings missed
LOW = 1  # conditions, by bit
VERY_LOW = 2
VERY_HIGH = 4

_KEPT = 32
_NEEDED = 3  # readings for a trend, over at least half its span
_LEAST_MG_DL = 20  # what monitors report at all
_MOST_MG_DL = 600
_ENDS = (_LEAST_MG_DL, _MOST_MG_DL)
_STEEPEST = 300  # tenths of mg/dL a minute: no blood changes so
# condition, begins at, has ended at (mg/dL): between the two the condition stays as it was
_LEVELS = ((LOW, 69, 75), (VERY_LOW, 53, 59), (VERY_HIGH, -251, -240))


class Glucose:
    """Takes mg/dL; `clock_s()` is the seconds of any clock that never goes back.

    The last reading of a push is from now, those before it `period_s` apart or as `minutes` says.

    `conditions` is the sum of those of LOW, VERY_LOW, VERY_HIGH that hold, as of the last `measures`; None while the
    value is unknown, which ends nothing. 20 and 600 mg/dL are a monitor's "low" and "high": readings, but none to draw
    a trend through.
    """

    def __init__(self, clock_s, period_s=300):
        self._clock_s = clock_s
        self._period_s = period_s
        self._at = array("i", bytes(4 * _KEPT))
        self._values = array("i", bytes(4 * _KEPT))
        self.conditions = None
        self.fault(NO_DATA)

    def push(self, values, minutes, n):
        """Take values[0:n], measured at minutes[0:n] of the sensor's session (None: `period_s` apart).

        One outside 20 to 600 mg/dL is the sensor's way to say that it has none.
        """
        now = self._clock_s()
        for k in range(n):
            age = 60 * (minutes[n - 1] - minutes[k]) if minutes else (n - 1 - k) * self._period_s
            self._take(values[k], now - age)

    def gap(self, n):
        """n readings were lost: the trend starts afresh, the value is as old as it is."""
        if n:
            self._n = min(self._n, 1)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next reading."""
        self._reason = reason
        self._n = 0

    def _take(self, value, at):
        if not _LEAST_MG_DL <= value <= _MOST_MG_DL:
            self.fault(SENSOR_FAULT)
            return
        self._reason = 0
        if self._n:
            last = (self._next - 1) % _KEPT
            if at <= self._at[last]:
                return  # told twice
            before = self._values[last]
            elapsed_s = at - self._at[last]
            too_steep = 600 * abs(value - before) > _STEEPEST * elapsed_s
            if elapsed_s > STALE_S or too_steep or value in _ENDS or before in _ENDS:
                self._n = 0
        if self._n == 0:
            self._next = 0
        self._at[self._next] = at
        self._values[self._next] = value
        self._next = (self._next + 1) % _KEPT
        self._n = min(_KEPT, self._n + 1)

    def measures(self, out):
        """Append the glucose and its trend, tenths of mg/dL a minute, and judge the conditions."""
        reason = self._reason
        if not reason and self._clock_s() - self._at[(self._next - 1) % _KEPT] > STALE_S:
            reason = STALE
        if reason:
            self.conditions = None
            out.append((GLUCOSE, reason, UNKNOWN))
            out.append((GLUCOSE_TREND, reason, UNKNOWN))
            return
        value = self._values[(self._next - 1) % _KEPT]
        self._judge(value)
        out.append((GLUCOSE, 100, value))
        trend = self._trend()
        out.append((GLUCOSE_TREND, SETTLING, UNKNOWN) if trend is None else (GLUCOSE_TREND, 100, trend))

    def _judge(self, value):
        conditions = self.conditions or 0
        for condition, begins, ended in _LEVELS:
            level = -value if begins < 0 else value
            if level <= begins:
                conditions |= condition
            elif level >= ended:
                conditions &= ~condition
        self.conditions = conditions

    def _trend(self):
        """Slope of the least-squares line through the latest 20 minutes, tenths of mg/dL a minute, or None."""
        last = (self._next - 1) % _KEPT
        until = self._at[last]
        n = span = st = sv = stt = stv = 0
        for back in range(self._n):
            k = (last - back) % _KEPT
            t = self._at[k] - until
            if t < -TREND_S:
                break
            n += 1
            span = -t
            st += t
            sv += self._values[k]
            stt += t * t
            stv += t * self._values[k]
        if n < _NEEDED or 2 * span < TREND_S:
            return None
        across = n * stt - st * st
        slope = (600 * 2 * (n * stv - st * sv) + across) // (2 * across)
        return max(-_STEEPEST, min(_STEEPEST, slope))
