"""The server's errors: one root, below it what went wrong with whom."""


class ServerError(Exception):
    """Root. ``reason`` is one short word, fit for a counter; ``str(error)`` is a sentence."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ConfigError(ServerError):
    """A setting or a start condition that does not hold; the server does not start."""


class StoreError(ServerError):
    """A key file or database that can not be read, or does not fit what was stored before."""


class RefusedError(ServerError):
    """A request or message that is well formed and not to be honoured."""


class UnmaskError(ServerError):
    """A sum that is not opened, and why."""


class AuditError(ServerError):
    """The audit chain does not hold."""
