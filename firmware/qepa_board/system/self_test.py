"""Checks of new firmware on the board that it is to run on; only a slot on trial loads them."""

from qepa_wire import frame, lighthe
from qepa_wire.keys import COHORT_CHECK, END_MASK, LINK_MAC_UP, LINK_MASK, derive
from qepa_wire.primitives import sha256

from ..drivers.states import NAMES
from ..errors import BoardError
from ..keys.counters import Counters
from ..keys.keyring import PadStore

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
