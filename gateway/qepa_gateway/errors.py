"""Errors of the gateway: one root, and below it what a caller can do about each."""


class GatewayError(Exception):
    """Root of every error this package raises."""


class Refused(GatewayError):  # noqa: N818 (the outcome, as the wire calls it)
    """Something from outside that is not taken; ``reason`` is one short word, fit for a counter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class KeyUnavailable(GatewayError):  # noqa: N818
    """Transient: no key for a key_ID now; ``reason`` is ``kme_down`` or ``key_unknown``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class RadioError(GatewayError):
    """Transient: the Bluetooth adapter, or a device, did not do what it was asked to."""


class SpoolError(GatewayError):
    """The spool cannot be read or written. Nothing is acknowledged any more: the process ends and starts again."""


class CorruptError(SpoolError):
    """The spool holds what this program did not write, or was written under another key."""


class ClockError(GatewayError):
    """The system's clock was set back: times in tables lie in the future. The process ends and starts again."""


class ConfigError(GatewayError):
    """The program cannot start as configured; the message is one sentence that says what to change."""
