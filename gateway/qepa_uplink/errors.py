"""The one error of the uplink."""


class UplinkError(Exception):
    """A message, certificate or sum that is refused; ``reason`` is one short word, fit for a counter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
