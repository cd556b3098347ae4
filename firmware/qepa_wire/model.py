"""Model blobs as they are signed, pushed and stored: a descriptor of the shape, then the words."""

import struct
from collections import namedtuple

from .errors import WireError

MAGIC = b"QM"
SOFTMAX = 1
HIDDEN = 2  # one hidden layer of clipped rectifiers before the softmax
MAX_WORDS = 240
CONTEXT = b"qepa/1/model"  # precedes the blob in what is signed

_FORMAT = "<2sBBIBBBBH"
_HEADER = struct.calcsize(_FORMAT)

Model = namedtuple("Model", ("version", "kind", "features", "hidden", "classes", "fraction_bits", "words"))


def model_words(kind: int, features: int, hidden: int, classes: int) -> int:
    """Words of a model, a weight for each input and a bias for each unit; 0 for a shape that no kind has."""
    if features < 1 or classes < 2:
        return 0
    if kind == SOFTMAX and hidden == 0:
        return (features + 1) * classes
    if kind == HIDDEN and hidden > 0:
        return (features + 1) * hidden + (hidden + 1) * classes
    return 0


def encode_model(model: Model) -> bytes:
    """Return the blob: header, then one signed 32-bit word for each weight."""
    words = model.words
    head = struct.pack(
        _FORMAT,
        MAGIC,
        1,
        model.kind,
        model.version,
        model.features,
        model.classes,
        model.fraction_bits,
        model.hidden,
        len(words),
    )
    return head + struct.pack("<%di" % len(words), *words)


def decode_model(blob: bytes) -> Model:
    """Return the Model in ``blob``; raises WireError("model") for a shape that this version does not know."""
    if len(blob) < _HEADER:
        raise WireError("model", "%d bytes" % len(blob))
    head = struct.unpack_from(_FORMAT, blob)
    magic, format_, kind, version, features, classes, fraction_bits, hidden, n_words = head
    if magic != MAGIC or format_ != 1:
        raise WireError("model", "unknown format")
    expected = model_words(kind, features, hidden, classes)
    if n_words != expected or not 0 < n_words <= MAX_WORDS or fraction_bits > 24:
        raise WireError("model", "kind %d, %d words for %d, %d, %d units" % (kind, n_words, features, hidden, classes))
    if len(blob) != _HEADER + 4 * n_words:
        raise WireError("model", "%d bytes for %d words" % (len(blob), n_words))
    words = struct.unpack_from("<%di" % n_words, blob, _HEADER)
    return Model(version, kind, features, hidden, classes, fraction_bits, words)


def encode_release(blob: bytes, signature: bytes) -> bytes:
    """A model push: length of the blob, blob, HSS signature over CONTEXT + blob."""
    return struct.pack("<H", len(blob)) + blob + signature


def decode_release(data: bytes) -> tuple[bytes, bytes]:
    """Return (blob, signature); the signature is not checked here."""
    if len(data) < 2:
        raise WireError("model", "empty release")
    (length,) = struct.unpack_from("<H", data)
    if len(data) <= 2 + length:
        raise WireError("model", "release of %d bytes holds no signature" % len(data))
    return data[2 : 2 + length], data[2 + length :]
