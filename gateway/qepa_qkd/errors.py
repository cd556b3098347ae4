"""Errors of the optical link: one root, and below it what a caller can do about each."""


class QkdError(Exception):
    """Root of every error this package raises."""


class TransientError(QkdError):
    """A peer, a port or a process went away; trying again later may help."""


class ProtocolError(QkdError):
    """Bytes or messages that the protocol does not allow; the connection that sent them is dropped."""


class SecurityError(QkdError):
    """Authentication failed or a secret would have been used twice."""


class CorruptError(QkdError):
    """Stored data cannot be read: wrong key, damaged file, unknown schema."""


class RestoredError(CorruptError):
    """A store is an old copy of itself; what it would give out may have been given out before."""


class ConfigError(QkdError):
    """The program cannot start as configured; the message is one sentence that says what to change."""


class NoKey(QkdError):  # noqa: N818 (an outcome the field calls "no key", not a fault in the program)
    """A block ends without key; `str()` is the reason that screens show."""


class KeyNotFound(QkdError):  # noqa: N818
    """A key identifier names no key that this store still holds."""


class StockTooLow(QkdError):  # noqa: N818
    """The store holds less key than was asked for; more is on its way while the link runs."""
