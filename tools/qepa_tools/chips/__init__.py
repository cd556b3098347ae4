# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""Sensor chips at the level of their registers, for boards that have none: they run inside the board's interpreter.

`chip` is what they share, `wiring` connects them to machine's buses and pins, `board_plan` reads /chips.json, which
says what hangs where on a whole virtual board. Samples are a recording's, in the chip's own codes. No analogue noise,
no skin: what they show is that driver and chip understand each other.
"""
