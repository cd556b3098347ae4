"""Model blobs as they are signed, pushed and stored."""

import struct
from collections import namedtuple

from .errors import WireError

MAGIC = b"QM"
SOFTMAX = 1
MAX_WORDS = 240
CONTEXT = b"qepa/1/model"  # precedes the blob in what is signed

_FORMAT = "<2sBBIBBBBH"
_HEADER = struct.calcsize(_FORMAT)

Model = namedtuple("Model", ("version", "kind", "features", "classes", "fraction_bits", "words"))


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
        0,
        len(words),
    )
    return head + struct.pack("<%di" % len(words), *words)


def decode_model(blob: bytes) -> Model:
    """Return the Model in ``blob``; raises WireError("model") for a shape that this version does not know."""
    if len(blob) < _HEADER:
        raise WireError("model", "%d bytes" % len(blob))
    head = struct.unpack_from(_FORMAT, blob)
    magic, format_, kind, version, features, classes, fraction_bits, zero, n_words = head
    if magic != MAGIC or format_ != 1 or kind != SOFTMAX or zero:
        raise WireError("model", "unknown format")
    if n_words != (features + 1) * classes or not 0 < n_words <= MAX_WORDS or fraction_bits > 24:
        raise WireError("model", "%d words for %d features and %d classes" % (n_words, features, classes))
    if len(blob) != _HEADER + 4 * n_words:
        raise WireError("model", "%d bytes for %d words" % (len(blob), n_words))
    words = struct.unpack_from("<%di" % n_words, blob, _HEADER)
    return Model(version, kind, features, classes, fraction_bits, words)


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
