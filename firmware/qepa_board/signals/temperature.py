"""Skin temperature: what a sensor on skin can't have measured is no temperature."""

from qepa_wire.measures import NO_DATA, POOR_SIGNAL, SENSOR_FAULT, SETTLING, TEMPERATURE, UNKNOWN

LOW_CENTI = 1500  # a sensor that fell off in a cold room; below the skin of any patient
HIGH_CENTI = 4500
SETTLE_S = 60  # a sensor put on follows the skin within minutes; the rate limit takes over after that

_RATE_CENTI = 20  # a second: more is a hand on the sensor, or the sensor coming off
_STUCK_S = 1800  # one and the same word of a sensor with 1/128 degree is a stuck bus


class SkinTemperature:
    """Takes hundredths of a degree Celsius, one sample in `period_s` seconds."""

    def __init__(self, period_s=1):
        self._period_s = period_s
        self._settle = max(2, SETTLE_S // period_s)
        self.fault(NO_DATA)

    def push(self, centi, n):
        """Take centi[0:n]."""
        self._reason = 0
        for k in range(n):
            self._take(centi[k])

    def gap(self, n):
        """n samples were lost."""
        if n:
            self.fault(SETTLING)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._reason = reason
        self._good = 0  # plausible samples in a row
        self._value = None
        self._sum = 0
        self._same = 0
        self._wrong = False

    def _take(self, centi):
        before = self._value
        self._value = centi
        self._wrong = not LOW_CENTI <= centi <= HIGH_CENTI
        if self._wrong or before is None or abs(centi - before) > _RATE_CENTI * self._period_s:
            self._good = 0
            self._same = 0
        self._same = self._same + 1 if centi == before else 0
        # A mean of about four samples: the converter's noise is a hundredth or two.
        self._sum = centi << 2 if self._good == 0 else self._sum + centi - (self._sum >> 2)
        if not self._wrong:
            self._good += 1

    def measures(self, out):
        """Append (TEMPERATURE, quality, hundredths of a degree Celsius)."""
        reason = self._reason
        if not reason:
            if self._wrong or self._same * self._period_s >= _STUCK_S:
                reason = SENSOR_FAULT
            elif self._good < self._settle:
                reason = SETTLING if self._good > 1 else POOR_SIGNAL
        if reason:
            out.append((TEMPERATURE, reason, UNKNOWN))
        else:
            out.append((TEMPERATURE, 100, (self._sum + 2) >> 2))
