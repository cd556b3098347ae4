"""The model in use: only what the hospital signed, and never an older one again."""

from array import array

from qepa_wire.errors import WireError
from qepa_wire.lms import verify
from qepa_wire.model import CONTEXT, decode_model, decode_release

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record

FILE = "model"


class ModelStore:
    """Holds the last accepted release in flash; ``model`` is a qepa_wire Model or None, ``words`` its array('i').

    ``root`` is the HSS public key; ``shape`` has the ``classes`` and ``features`` that this firmware computes.
    """

    def __init__(self, flash, counters, root, shape):
        self._flash = flash
        self._counters = counters
        self._root = root
        self._shape = shape
        self._release = None
        self.model = None
        self.words = None
        self.recover()

    @property
    def version(self):
        """Version in use, 0 for none."""
        return 0 if self.model is None else self.model.version

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
        if model.features != self._shape.features or model.classes != self._shape.classes:
            raise WireError("shape", "%d features, %d classes" % (model.features, model.classes))
        return model

    def _use(self, model, release):
        self.model = model
        self.words = array("i", model.words)
        self._release = release

    def accept(self, release):
        """Store and use ``release``; returns True if it is new, False if it is the one in use.

        Raises WireError with reason signature, model, shape, or downgrade.
        """
        release = bytes(release)
        if release == self._release:
            return False
        model = self._verified(release)
        floor = max(self._counters.model if self._counters is not None else 0, self.version)
        # The floor's own version is taken only when flash lost it.
        if model.version < floor or (model.version == floor and self.model is not None):
            raise WireError("downgrade", "version %d, have %d" % (model.version, floor))
        if self._counters is None:
            raise BoardError("counters", "lost: provision this board again")
        write_record(self._flash, FILE, release)
        self._counters.note_model(model.version)
        self._use(model, release)
        return True
