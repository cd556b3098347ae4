"""QEPA board: the wearable's application; integers only, on MicroPython 1.25 or later."""
