"""Which slot runs: one small record, replaced as a whole, so that a power cut leaves the old or the new one.

States: a slot is confirmed; another may be on trial, with a number of boots left to prove itself. Each boot on trial is
counted before the application starts, so that a watchdog reset, a hang or a power cut costs one as well.
"""

import hashlib
import struct

FILE = "slots"
LIB, A, B = 0, 1, 2  # LIB: packages in /lib, put there by cable, without slots
NAMES = ("lib", "a", "b")
NORMAL, SAFE, TRIAL = 0, 1, 2  # as HELLO tells them
TRIAL_BOOTS = 3
CRASHES_TO_SAFE = 5  # resets in a row, none of which was followed by healthy()
NEVER, CONFIRMED, ROLLED_BACK = 0, 1, 2  # how the last trial ended

_LAYOUT = 1
_FORMAT = "<6B"
_SUM_BYTES = 8


class Slots:
    """The record in ``flash``, an object with read(name) -> bytes or None, and an atomic write(name, data).

    ``version_of(slot)`` is 0 for a slot that is not complete. Without a record the newest complete slot is confirmed.
    Attributes: confirmed, trial (slot, or LIB for none), attempts left, crashes in a row, outcome of the last trial,
    ``lost``: the record was altered or never there. Nothing changes here before it is durable, and every change is
    one of what flash holds then: loader, application and dock each have a Slots of their own.
    """

    def __init__(self, flash, version_of):
        self._flash = flash
        self._version_of = version_of
        self.read()

    def read(self):
        """Read the record again."""
        data = self._flash.read(FILE)
        fields = None
        if data is not None and len(data) == struct.calcsize(_FORMAT) + _SUM_BYTES:
            body = data[:-_SUM_BYTES]
            if _sum(body) == data[-_SUM_BYTES:] and body[0] == _LAYOUT and body[1] <= B and body[2] <= B:
                fields = struct.unpack(_FORMAT, body)[1:]
        self.lost = fields is None
        self._set(fields or (self._newest(), LIB, 0, 0, NEVER))

    def _newest(self):
        slot = A if self._version_of(A) >= self._version_of(B) else B
        return slot if self._version_of(slot) else LIB

    def _set(self, fields):
        self.confirmed, self.trial, self.attempts, self.crashes, self.outcome = fields

    def _change(self, confirmed, trial, attempts, crashes, outcome):
        fields = (confirmed, trial, attempts, crashes, outcome)
        body = struct.pack(_FORMAT, _LAYOUT, *fields)
        self._flash.write(FILE, body + _sum(body))
        self._set(fields)
        self.lost = False

    def begin(self, restarted):
        """Count this boot; returns (slot, mode), of which the slot is to be started now.

        ``restarted`` says that no person caused this reset: a watchdog, a crash. SAFE comes with the confirmed slot,
        whose application is not to be started.
        """
        if self.lost:
            self._change(self.confirmed, LIB, 0, 0, NEVER)
        elif self.trial and self.attempts and self._version_of(self.trial):
            self._change(self.confirmed, self.trial, self.attempts - 1, 0, self.outcome)
            return self.trial, TRIAL
        elif self.trial:
            self._change(self.confirmed, LIB, 0, 0, ROLLED_BACK)
        elif restarted and not self.is_safe:
            self._change(self.confirmed, LIB, 0, self.crashes + 1, self.outcome)
        elif not restarted and self.crashes:
            self._change(self.confirmed, LIB, 0, 0, self.outcome)
        return self.confirmed, SAFE if self.is_safe or not self._version_of(self.confirmed) else NORMAL

    @property
    def is_safe(self):
        """Whether the confirmed slot has crashed too often to be started again."""
        return self.crashes >= CRASHES_TO_SAFE

    def uncount(self):
        """A person at the console interrupted this boot: it tells nothing about the slot."""
        self.read()
        if self.trial:
            self._change(self.confirmed, self.trial, min(self.attempts + 1, TRIAL_BOOTS), 0, self.outcome)
        else:
            self.healthy()

    def healthy(self):
        """The confirmed slot has run well for a while: earlier crashes no longer count."""
        self.read()
        if self.crashes:
            self._change(self.confirmed, self.trial, self.attempts, 0, self.outcome)

    def arm(self, slot):
        """Try ``slot``, which is complete, at the next boots."""
        self.read()
        self._change(self.confirmed, slot, TRIAL_BOOTS, 0, self.outcome)

    def disarm(self):
        """Give a trial up that has not been decided; the confirmed slot runs next, also without a record."""
        self.read()
        if self.trial or self.lost:
            self._change(self.confirmed, LIB, 0, self.crashes, self.outcome)

    def confirm(self, slot):
        """``slot`` has proved itself, if it is still the one on trial."""
        self.read()
        if self.trial == slot:
            self._change(slot, LIB, 0, 0, CONFIRMED)

    def choose(self, slot):
        """Run ``slot`` from the next boot on, as the person at the cable says."""
        self.read()
        self._change(slot, LIB, 0, 0, self.outcome)


def _sum(body):
    return hashlib.sha256(body).digest()[:_SUM_BYTES]
