"""What runs when the application crashed too often: nothing that could crash again. The console stays free."""


def run():
    """Return at once: the loader has said why, the dock can mend it, a power cycle tries again."""
