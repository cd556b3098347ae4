"""The one error of the wire."""


class WireError(Exception):
    """A frame, payload or setting that is refused.

    ``reason`` is one short word, fit for a counter's label; ``str(error)`` is a sentence.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + (": " + detail if detail else ""))
        self.reason = reason
