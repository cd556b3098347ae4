"""Takes a release over the link, one piece at a time and only while the link has nothing else to say. Sans-IO.

The link asks ``next()`` for a frame when it has none of its own: each call does one small step, so sampling goes on.
The board asks for every piece, so it sets the pace; what it has is in flash: a break costs the piece under way.
"""

from qepa_wire.errors import WireError
from qepa_wire.firmware import (
    COMPLETE,
    FIRST_FILE,
    ID_BYTES,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    STATES,
    WANTS,
    Want,
    decode_offer,
    decode_piece,
    encode_want,
)
from qepa_wire.manifest import TARGETS

from ..console import say
from ..errors import BoardError

AGAIN_MS = 3000
AGAIN_LONGEST_MS = 60000
RESTART_MS = 3000  # of quiet after the last word to the gateway
STEPS = 4  # in flash, of 512 bytes or a file's SHA-256, between two looks at everything else
_WAIT = "trial"


class AirUpdate:
    """``updater``: an Updater; ``is_quiet()``: whether nobody needs this board now; ``restart()`` is called once the
    release is complete and the board is quiet. Milliseconds are those of the link."""

    def __init__(self, updater, is_quiet, restart):
        self._updater = updater
        self._is_quiet = is_quiet
        self._restart = restart
        self._offer = None
        self._state = WANTS
        self._parts = None  # manifest and signature as far as they have come; None once they are taken
        self._steps = None  # what is under way in flash
        self._finishing = False
        self._file = 0  # of the missing file that is asked for
        self._due_ms = None  # when to speak next; None: at once
        self._tries = 0
        self._restart_ms = None

    def offer(self, payload):
        """The gateway has a release. Said again, it asks how that stands."""
        offer = decode_offer(payload)
        self._due_ms = None
        self._tries = 0
        if self._offer is not None and self._offer.digest == offer.digest and self._state in (WANTS, COMPLETE):
            return
        self._offer = offer
        self._state = WANTS
        self._restart_ms = None
        self._parts = (bytearray(), bytearray())
        self._steps = None
        if self._updater.has_begun(offer.digest):
            self._begin(*self._updater.begun())

    def _begin(self, manifest, signature):
        self._parts = None
        self._finishing = False
        self._steps = self._updater.begin_in_steps(manifest, signature)

    def piece(self, payload):
        """A part of a file; one that was not asked for is passed over."""
        piece = decode_piece(payload)
        if self._steps is not None or self._state != WANTS or self._offer is None:
            return
        if (piece.release, piece.file, piece.offset) != (self._offer.digest[:ID_BYTES],) + self._wanted():  # noqa: RUF005
            return
        self._due_ms = None
        self._tries = 0
        try:
            if self._parts is None:
                self._write(piece)
            else:
                self._parts[piece.file].extend(piece.data)
        except BoardError as error:
            self._end(error.reason)
        except MemoryError:
            self._end("memory")

    def _write(self, piece):
        missing = self._updater.missing
        path, size, _ = missing[0]
        try:
            there = self._updater.write(path, piece.offset, piece.data)
        except BoardError as error:
            if error.reason != "hash":
                raise
            there = 0  # it was emptied: another copy may be whole
        missing[0] = (path, size, there)
        if there == size:
            del missing[0]
            self._go_on()

    def _go_on(self):
        """With the file that is missing first, or to the end."""
        missing = self._updater.missing
        self._finishing = not missing
        if missing:
            self._file = FIRST_FILE + self._updater.number(missing[0][0])
        else:
            self._steps = self._updater.finish_in_steps()

    def _wanted(self):
        """(file, offset) of the piece that is due."""
        if self._parts is None:
            return self._file, self._updater.missing[0][2]
        file = SIGNATURE_FILE if len(self._parts[0]) >= self._offer.manifest_bytes else MANIFEST_FILE
        return file, len(self._parts[file])

    def next(self, now_ms):
        """The payload to send now, or None; does one step of what is under way."""
        if self._offer is None or not self._is_quiet():
            self._restart_ms = None
            return None
        if self._state == WANTS and self._advance():
            return None
        if self._due_ms is None or (self._state == WANTS and now_ms >= self._due_ms):
            self._due_ms = now_ms + min(AGAIN_LONGEST_MS, AGAIN_MS << min(self._tries, 8))
            self._tries += 1
            return self._want()
        if self._state == COMPLETE:
            if self._restart_ms is None:
                self._restart_ms = now_ms + RESTART_MS
            elif now_ms >= self._restart_ms:
                self._restart()
        return None

    def _advance(self):
        """Do a step; returns whether there was one."""
        try:
            if self._steps is not None:
                for _ in range(STEPS):
                    if self._steps is not None:
                        self._step()
            elif self._parts is not None and len(self._parts[1]) >= self._offer.signature_bytes:
                self._begin(bytes(self._parts[0]), bytes(self._parts[1]))
            else:
                return False
        except (BoardError, WireError) as error:
            self._end(error.reason)
        except MemoryError:
            self._end("memory")
        return True

    def _step(self):
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            if self._finishing:
                self._end("complete")
            else:
                self._go_on()
        except BoardError as error:
            if error.reason != "incomplete":
                raise
            self._go_on()  # flash has lost what it had

    def _end(self, what):
        """The release is complete, or refused."""
        self._steps = self._parts = None
        self._due_ms = None
        if what == _WAIT:  # this slot is on trial itself: the gateway will say it again
            self._offer = None
            return
        say("firmware %d: %s" % (self._offer.version, what))
        self._state = STATES.index(what if what in STATES else "other")

    def _want(self):
        file, offset = self._wanted() if self._state == WANTS else (0, 0)
        codes = [code for code, name in TARGETS.items() if name == self._updater.target]
        needs = " ".join(self._updater.needs)
        return encode_want(Want(self._offer.digest[:ID_BYTES], self._state, codes[0], file, offset, needs))
