"""Whether new firmware works on this board, found out by this board: it decides whether a slot on trial stays."""

from qepa_wire import frame, lighthe
from qepa_wire.keys import COHORT_CHECK, END_MASK, LINK_MAC_UP, LINK_MASK, derive
from qepa_wire.primitives import sha256

from ..drivers.states import NAMES
from ..errors import BoardError
from ..keys.counters import Counters
from ..keys.keyring import PadStore

HEALTHY_S = 60  # of sampling, after which crashes before this boot no longer count
GOOD_S = 300  # of sampling that stand in for a connection where there is none
LONGEST_TRIAL_S = 900
_PROBE = "probe"
# known_answer() as the second implementation in tests/vectors gives it
_SEALED = bytes.fromhex("8707771e806f6f51f215d82ee3008cc8ed2fc16b9e3582789773bdf911497a82")


def known_answer():
    """SHA-256 of a vector, sealed and framed here under the keys of the golden vectors in tests/vectors."""
    link, end, cohort = sha256(b"link"), sha256(b"end"), sha256(b"cohort")
    masks = derive(link, LINK_MASK), derive(end, END_MASK)
    sealed = lighthe.seal((1, -1, 0x7FFFFFFF, -0x7FFFFFFF), masks, derive(cohort, COHORT_CHECK), 1, 5)
    return sha256(frame.encode(frame.VECTOR, 0x01020304, 7, 9, sealed, derive(link, LINK_MAC_UP)))


def check_wire():
    """What is sealed and framed here has the bytes that it has everywhere."""
    if known_answer() != _SEALED:
        raise BoardError("self_test", "wire")


def check_flash(flash):
    """What is written to flash can be read again."""
    flash.write(_PROBE, _SEALED)
    kept = flash.read(_PROBE)
    flash.remove(_PROBE)
    if kept != _SEALED or flash.read(_PROBE) is not None:
        raise BoardError("self_test", "flash")


def check_keys(flash):
    """Counters and pads can be read."""
    Counters.load(flash)
    PadStore(flash).count()


def check_sensors(states):
    """Each sensor answers, or says in a known way why not; there is at least one."""
    if not states or any(not 0 <= state < len(NAMES) for state in states):
        raise BoardError("self_test", "sensors")


def check(flash, states):
    """All of it; ``states`` are those of the sensors (drivers.states). Raises BoardError, naming what failed."""
    check_wire()
    check_flash(flash)
    check_keys(flash)
    check_sensors(states)


class Proof:
    """Watches one boot until the slot that runs has proved itself, or not.

    Call second() once a second. On trial that takes the checks and a connection, or GOOD_S seconds of sampling; a
    confirmed slot proves itself by HEALTHY_S seconds of sampling.
    """

    def __init__(self, flash, slots):
        self._flash = flash
        self._slots = slots
        self._checked = False
        self._seconds = 0
        self._sampled = 0
        self.done = False

    def second(self, states, sampled, connected):
        """Note a second: the sensors' states, whether samples came, whether the gateway is connected.

        Returns True when a trial is confirmed by this second. Raises BoardError("self_test") for a trial that has
        failed: the board is to reset, and after the last attempt the old slot runs.
        """
        if self.done:
            return False
        self._seconds += 1
        self._sampled += bool(sampled)
        if not self._slots.on_trial:
            if self._sampled >= HEALTHY_S:
                self._slots.prove()
                self.done = True
            return False
        if not self._checked:
            check(self._flash, states)
            self._checked = True
        if self._sampled and (connected or self._sampled >= GOOD_S):
            self._slots.prove()
            self.done = True
            return True
        if self._seconds >= LONGEST_TRIAL_S:
            raise BoardError("self_test", "neither a connection nor samples in %d s" % LONGEST_TRIAL_S)
        return False
