"""What light tells of one patient: pulse rate, perfusion, oxygen saturation, and breathing from the pulses."""

from .oximetry import PULSES, Oximeter
from .respiration import DerivedRespiration


class Optics:
    """An Oximeter whose pulses are also looked at for breaths; set ``moving`` as there."""

    def __init__(self, fs_hz):
        self._oximeter = Oximeter(fs_hz)
        self._breaths = DerivedRespiration(fs_hz)
        self._told = 0

    @property
    def moving(self):
        """Whether the patient moves too much for optics."""
        return self._oximeter.moving

    @moving.setter
    def moving(self, moving):
        self._oximeter.moving = moving

    def push(self, red, infrared, n):
        """Take red[0:n] and infrared[0:n]; without a red LED give infrared twice."""
        oximeter = self._oximeter
        oximeter.push(red, infrared, n)
        self._told = max(self._told, oximeter.pulses - PULSES)
        while self._told < oximeter.pulses:
            k = self._told % PULSES
            self._breaths.beat(oximeter.pulse_at[k], oximeter.pulse_height[k], oximeter.pulse_level[k])
            self._told += 1

    def gap(self, n):
        """n samples were lost."""
        self._oximeter.gap(n)
        self._breaths.gap(n)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._oximeter.fault(reason)
        self._breaths.fault(reason)

    def measures(self, out):
        """Append pulse rate, perfusion, oxygen saturation and the derived respiration rate."""
        self._oximeter.measures(out)
        self._breaths.measures(out)
