"""Errors of the board: what it refuses, what it lost, what broke below it."""


class BoardError(Exception):
    """Something this board will not or cannot do; ``reason`` is one short word, fit for a counter's label."""

    def __init__(self, reason, detail=""):
        super().__init__(reason + (": " + detail if detail else ""))
        self.reason = reason


class CorruptError(BoardError):
    """A file in flash that does not hold what was written to it."""


class CountersLostError(BoardError):
    """The counters are gone: nothing may be sealed until the board is provisioned again."""


class RefusedError(BoardError):
    """An order that is well formed and authentic, and still refused."""
