"""Charge of a lithium-polymer cell, from its voltage at an ADC pin behind a divider.

Curve: open-circuit voltage over state of charge, Chen and Rincon-Mora, "Accurate Electrical Battery Model Capable of
Predicting Runtime and I-V Performance", IEEE Trans. Energy Conversion 21(2), 2006, eq. 2. A board draws a small part of
the cell's capacity an hour, so its terminal voltage is taken for the open-circuit one: some percent too low in use.
"""

import machine

from qepa_wire.payloads import BATTERY_UNKNOWN

from ..errors import BoardError

LOW_PERMILLE = 150  # below: the alert starts
RECOVERED_PERMILLE = 250  # above: it ends
_READS = 8
# millivolts at permille
_MILLIVOLTS = (2654, 3177, 3516, 3675, 3710, 3725, 3748, 3773, 3803, 3841, 3888, 3946, 4017, 4103)
_PERMILLE = (0, 20, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
_HIGHEST_MV = 4400  # charging


def charge_permille(millivolts):
    """State of charge for a cell's voltage; BATTERY_UNKNOWN for one that no cell has."""
    if not _MILLIVOLTS[0] <= millivolts <= _HIGHEST_MV:
        return BATTERY_UNKNOWN
    i = 1
    while i < len(_MILLIVOLTS) and _MILLIVOLTS[i] <= millivolts:
        i += 1
    if i == len(_MILLIVOLTS):
        return 1000
    low_mv, low = _MILLIVOLTS[i - 1], _PERMILLE[i - 1]
    return low + (millivolts - low_mv) * (_PERMILLE[i] - low) // (_MILLIVOLTS[i] - low_mv)


class Battery:
    """The cell that ``entry`` of board.json describes: {"adc": pin, "divider_permille": what of it the pin sees}.

    None for boards that cannot tell. Raises BoardError("board") for an entry that makes no sense.
    """

    def __init__(self, entry):
        self._adc = None
        self._low = None
        if entry is None:
            return
        pin = entry.get("adc") if isinstance(entry, dict) else None
        divider = entry.get("divider_permille") if isinstance(entry, dict) else None
        if not isinstance(pin, int) or not isinstance(divider, int) or not 0 < divider <= 1000:
            raise BoardError("board", "battery")
        self._adc = machine.ADC(machine.Pin(pin), atten=machine.ADC.ATTN_11DB)
        self._divider = divider

    def permille(self):
        """Charge in permille, or BATTERY_UNKNOWN without a divider or with a voltage that no cell has."""
        if self._adc is None:
            return BATTERY_UNKNOWN
        microvolts = 0
        for _ in range(_READS):
            microvolts += self._adc.read_uv()
        charge = charge_permille(microvolts // (_READS * self._divider))
        if charge != BATTERY_UNKNOWN and (self._low is None or charge < LOW_PERMILLE or charge > RECOVERED_PERMILLE):
            self._low = charge < LOW_PERMILLE
        return charge

    @property
    def low(self):
        """Whether it is nearly empty as of the last permille(), with hysteresis; None if that was never known."""
        return self._low
