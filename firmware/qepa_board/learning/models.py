"""The model in use: only what the hospital signed, and never an older one again."""

from array import array

from qepa_wire.errors import WireError
from qepa_wire.lms import verify
from qepa_wire.model import CONTEXT, decode_model, decode_release
from qepa_wire.primitives import sha256

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record
from .network import FRACTION_BITS, MAX_UNITS, WORD_LIMIT, ModelShape

FILE = "model"


class ModelStore:
    """Holds the last accepted release in flash: its ``version`` (0 for none), ``shape`` and ``words``, array('i').

    ``root`` is the HSS public key; ``shape`` has the ``classes`` and ``features`` that this firmware computes, with any
    hidden layer. Without a model ``words`` is None.
    """

    def __init__(self, flash, counters, root, shape):
        self._flash = flash
        self._counters = counters
        self._root = root
        self._digest = None  # of the release in use, which takes 6 kB
        self.shape = shape
        self.version = 0
        self.words = None
        self.recover()

    def recover(self):
        """Load from flash; what does not verify there any more is removed."""
        try:
            release = read_record(self._flash, FILE)
            if release is not None:
                self._use(self._verified(release), release)
        except (CorruptError, WireError):
            self._flash.remove(FILE)

    def _verified(self, release):
        blob, signature = decode_release(release)
        verify(self._root, CONTEXT + blob, signature)
        model = decode_model(blob)
        mine = (self.shape.features, self.shape.classes, FRACTION_BITS)
        if (model.features, model.classes, model.fraction_bits) != mine:
            raise WireError("shape", "%d features, %d classes" % (model.features, model.classes))
        if model.hidden > MAX_UNITS or max(model.words) > WORD_LIMIT or min(model.words) < -WORD_LIMIT:
            raise WireError("shape", "%d hidden units, or a word beyond %d" % (model.hidden, WORD_LIMIT))
        return model

    def _use(self, model, release):
        if model.hidden != self.shape.hidden:
            self.shape = ModelShape(model.classes, model.features, model.hidden)
        self.version = model.version
        self.words = array("i", model.words)
        self._digest = sha256(release)

    def accept(self, release):
        """Store and use ``release``; returns True if it is new, False if it is the one in use.

        Raises WireError with reason signature, model, shape, or downgrade.
        """
        release = bytes(release)
        if sha256(release) == self._digest:
            return False
        model = self._verified(release)
        floor = max(self._counters.model if self._counters is not None else 0, self.version)
        # The floor's own version is taken only when flash lost it.
        if model.version < floor or (model.version == floor and self.words is not None):
            raise WireError("downgrade", "version %d, have %d" % (model.version, floor))
        if self._counters is None:
            raise BoardError("counters", "lost: provision this board again")
        write_record(self._flash, FILE, release)
        self._counters.note_model(model.version)
        self._use(model, release)
        return True
