"""How this board is: why it started, how much memory was left at worst."""

import gc

# Codes of HELLO (qepa_wire.payloads.RESET_CAUSES) by the names that ports give them
_CAUSES = (
    ("PWRON_RESET", 1),
    ("HARD_RESET", 2),
    ("WDT_RESET", 3),
    ("DEEPSLEEP_RESET", 4),
    ("SOFT_RESET", 5),
    ("BROWNOUT_RESET", 6),  # not on ESP32 before now, whose brown-out counts as power on
)


def reset_cause():
    """Why this boot happened, as HELLO tells it; 0 if the port cannot say."""
    try:
        import machine  # noqa: PLC0415  not on every port

        cause = machine.reset_cause()
    except (ImportError, AttributeError):
        return 0
    for name, code in _CAUSES:
        if getattr(machine, name, None) == cause:
            return code
    return 0


class HeapWatch:
    """Least free heap seen, in bytes; -1 where the port cannot say."""

    def __init__(self):
        self.low = -1
        self.note()

    def note(self):
        """Look now. What garbage holds counts as used: collect before, where that matters."""
        if hasattr(gc, "mem_free"):
            free = gc.mem_free()
            if self.low < 0 or free < self.low:
                self.low = free
