"""Steps, posture and activity from an accelerometer.

Steps: peaks of the acceleration's size in a walking rhythm; fewer than three in a row are no walk and are not counted.
Posture: which way is up in axes of the body, while the wearer is still. Values settle within 2 s.
"""

from array import array

from qepa_wire.measures import (
    ACTIVITY,
    NO_DATA,
    POSTURE,
    POSTURES,
    SENSOR_FAULT,
    SETTLING,
    STEPS,
    UNKNOWN,
)
from qepa_wire.payloads import WAVE_ACCEL

from ..fixed_point import isqrt
from .waveform import Waveform

STEPS_MOD = 32768
MOVING_MG = 80  # mean dynamic acceleration from which on posture and optics are not to be trusted

_RATE_HZ = 25  # at least; what steps are looked for at
_SETTLE_S = 2
_GRAVITY_SHIFT = 5  # time constant of 32 samples, 1.3 s
_ACTIVITY_SHIFT = 5
_SMOOTH_MS = 200
_LEAST_STEP_MG = 60
_SHORTEST_MS = 280  # between steps
_LONGEST_MS = 1300
_STREAK = 3
_LIMIT_MG = 16000
_TOTAL_LOW_MG = 500  # a mean size that no accelerometer on earth reports
_TOTAL_HIGH_MG = 2500


class StepCounter:
    """Counts steps in the size of the acceleration; `steps` since the start, mod 32768."""

    def __init__(self, rate_hz):
        self._shortest = rate_hz * _SHORTEST_MS // 1000
        self._longest = rate_hz * _LONGEST_MS // 1000
        self._line = array("i", bytes(4 * max(1, rate_hz * _SMOOTH_MS // 1000)))
        self.steps = 0
        self.clear()

    def clear(self):
        """A break: no walk goes on over it."""
        self._index = 0
        self._sum = 0
        for k in range(len(self._line)):
            self._line[k] = 0
        self._low = 0
        self._top = 0
        self._top_at = 0
        self._rising = False
        self._height = 0
        self._step_at = -1
        self._interval = 0
        self._streak = 0

    def add(self, dynamic):
        """Take a sample: size of the acceleration without gravity, in mg."""
        index = self._index
        self._index = index + 1
        k = index % len(self._line)
        self._sum += dynamic - self._line[k]
        self._line[k] = dynamic
        value = self._sum // len(self._line)
        least = max(_LEAST_STEP_MG, self._height >> 1)
        if self._rising:
            if value > self._top:
                self._top = value
                self._top_at = index
            elif self._top - value > least >> 1:
                self._rising = False
                self._peak(self._top_at, self._top - self._low)
                self._low = value
        elif value < self._low:
            self._low = value
        elif value - self._low > least:
            self._rising = True
            self._top = value
            self._top_at = index
        if self._step_at >= 0 and index - self._step_at > self._longest:
            self._step_at = -1
            self._streak = 0
            self._interval = 0
            self._height = 0

    def _peak(self, at, height):
        interval = at - self._step_at
        if self._step_at >= 0 and interval < self._shortest:
            return
        self._height = height if not self._height else (3 * self._height + min(height, 2 * self._height)) >> 2
        if self._step_at < 0:
            self._streak = 1
        else:
            # A rhythm: neither half nor twice the last distance.
            even = not self._interval or (5 * interval > 3 * self._interval and 3 * interval < 5 * self._interval)
            self._streak = self._streak + 1 if even else 1
            self._interval = interval
        self._step_at = at
        if self._streak == _STREAK:
            self.steps = (self.steps + _STREAK) % STEPS_MOD
        elif self._streak > _STREAK:
            self.steps = (self.steps + 1) % STEPS_MOD


class Motion:
    """Takes milli-g of three axes, `fs_hz` (25 to 500) samples a second.

    `up` and `front` say how the sensor is worn: the directions of the wearer's head and chest in the sensor's axes, at
    right angles, of any length up to 1000.
    """

    def __init__(self, fs_hz, up=(0, 1, 0), front=(0, 0, 1)):
        if not 25 <= fs_hz <= 500:
            raise ValueError("fs_hz must be 25 to 500")
        left = (
            up[1] * front[2] - up[2] * front[1],
            up[2] * front[0] - up[0] * front[2],
            up[0] * front[1] - up[1] * front[0],
        )
        if up[0] * front[0] + up[1] * front[1] + up[2] * front[2] or not any(left):
            raise ValueError("up and front must be at right angles")
        self._axes = tuple((axis, isqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)) for axis in (up, front, left))
        self._fs_hz = fs_hz
        self._step = fs_hz // _RATE_HZ
        self._rate_hz = fs_hz // self._step
        self._counter = StepCounter(self._rate_hz)
        self._sums = array("i", (0, 0, 0))
        self._gravity = array("i", (0, 0, 0))
        self._size = 0
        self._activity = 0
        self._count = 0
        self._n = 0  # samples seen or lost
        self._ring = array("h", bytes(12 * fs_hz))  # two seconds
        self._waveform = Waveform()
        self.fault(NO_DATA)

    def push(self, ax, ay, az, n):
        """Take ax[0:n], ay[0:n], az[0:n]."""
        self._reason = 0
        sums = self._sums
        step = self._step
        count = self._count
        ring = self._ring
        at = 3 * self._n % len(ring)
        self._n += n
        for k in range(n):
            ring[at] = _clip(ax[k])
            ring[at + 1] = _clip(ay[k])
            ring[at + 2] = _clip(az[k])
            at = (at + 3) % len(ring)
            sums[0] += ax[k]
            sums[1] += ay[k]
            sums[2] += az[k]
            count += 1
            if count == step:
                self._take(sums[0] // step, sums[1] // step, sums[2] // step)
                sums[0] = sums[1] = sums[2] = count = 0
        self._count = count

    def gap(self, n):
        """n samples were lost: no walk goes on over them."""
        if n:
            self._n += n
            self._waveform.fresh = self._n
            self.fault(SETTLING)

    def wave(self, boots):
        """The next Wave of the three axes in mg, as a tuple; None without one."""
        return self._waveform.take((WAVE_ACCEL, 3, self._fs_hz, boots), self._ring, self._n, 0, ())

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._counter.clear()
        self._seen = 0
        self._count = 0
        for k in range(3):
            self._sums[k] = 0
        self._reason = reason

    def _take(self, x, y, z):
        x = _clip(x)
        y = _clip(y)
        z = _clip(z)
        gravity = self._gravity
        size = isqrt(x * x + y * y + z * z)
        if self._seen == 0:
            gravity[0] = x << _GRAVITY_SHIFT
            gravity[1] = y << _GRAVITY_SHIFT
            gravity[2] = z << _GRAVITY_SHIFT
            self._size = size << _GRAVITY_SHIFT
            self._activity = 0
        self._seen += 1
        x -= gravity[0] >> _GRAVITY_SHIFT
        y -= gravity[1] >> _GRAVITY_SHIFT
        z -= gravity[2] >> _GRAVITY_SHIFT
        gravity[0] += x
        gravity[1] += y
        gravity[2] += z
        size -= self._size >> _GRAVITY_SHIFT
        self._size += size
        x = _clip(x)
        y = _clip(y)
        z = _clip(z)
        self._activity += isqrt(x * x + y * y + z * z) - (self._activity >> _ACTIVITY_SHIFT)
        self._counter.add(size)

    @property
    def activity_mg(self):
        """Mean dynamic acceleration of about the last second."""
        return self._activity >> _ACTIVITY_SHIFT

    @property
    def moving(self):
        """Whether the wearer moves too much for posture and optics."""
        return self.activity_mg > MOVING_MG

    @property
    def steps(self):
        """Steps since the start, mod 32768."""
        return self._counter.steps

    def _why_not(self):
        if self._reason:
            return self._reason
        if self._seen < _SETTLE_S * self._rate_hz:
            return SETTLING
        return 0 if _TOTAL_LOW_MG <= self._size >> _GRAVITY_SHIFT <= _TOTAL_HIGH_MG else SENSOR_FAULT

    def measures(self, out):
        """Append steps, posture and activity. The quality of a posture is how near it is to the named one."""
        reason = self._why_not()
        if reason:
            for code in (STEPS, POSTURE, ACTIVITY):
                out.append((code, reason, UNKNOWN))
            return
        out.append((STEPS, 100, self.steps))
        out.append(self.posture())
        out.append((ACTIVITY, 100, min(16000, self.activity_mg)))

    def posture(self):
        """(POSTURE, quality, index into POSTURES), whether settled or not."""
        if self.moving:
            return POSTURE, 100, POSTURES.index("moving")
        up, front, left = [
            sum([axis[k] * (self._gravity[k] >> _GRAVITY_SHIFT) for k in range(3)]) // length
            for axis, length in self._axes
        ]
        most = max(abs(up), abs(front), abs(left))
        if most == abs(front):
            name = "supine" if front > 0 else "prone"
        elif most == abs(left):
            name = "right" if left > 0 else "left"
        else:
            name = "upright"  # head down as well, which no patient stays in
        return POSTURE, min(100, most * 100 // 1000), POSTURES.index(name)


def _clip(mg):
    return max(-_LIMIT_MG, min(_LIMIT_MG, mg))
