# ruff: noqa: F821  the names of PIO instructions exist only inside asm_pio
"""PIO program of the transmitter: one pulse a slot, its shape the same whatever the state.

Pins: out_base and six more take the slot's symbol (sources H V D A, two lines of intensity, sync); the side-set pin is
the strobe that fires whichever source is selected. Source and intensity settle while the strobe is low, and all four
sources get the very same strobe, so that timing does not tell the state. The sync line is level with the selection.

Timing at 125 MHz (8 ns a cycle), RP2040 datasheet 3.4: each instruction takes one cycle plus its delay.
"""

import rp2

OVERHEAD_CYCLES = 8  # of a slot, besides the two loops' counts
SHORTEST_SLOT_CYCLES = 10


@rp2.asm_pio(
    out_init=(rp2.PIO.OUT_LOW,) * 7,
    sideset_init=rp2.PIO.OUT_LOW,
    out_shiftdir=rp2.PIO.SHIFT_RIGHT,
    autopull=True,
    pull_thresh=32,
    fifo_join=rp2.PIO.JOIN_TX,
)
def pulses():
    """The first two words are the counts of the rest loop and of the strobe loop; then four symbols a word."""
    out(isr, 32).side(0)
    out(y, 32).side(0)
    wrap_target()
    out(pins, 7).side(0)[2]  # cycles 1-3: selection settles. Waits here, dark, if no symbol is there: an underrun
    mov(x, y).side(0)  # 4
    label("on")
    jmp(x_dec, "on").side(1)  # y + 1 cycles of strobe
    out(null, 1).side(0)  # 1: the eighth bit is unused
    mov(x, isr).side(0)  # 1
    label("rest")
    jmp(x_dec, "rest").side(0)  # isr + 1 cycles
    wrap()


def loop_counts(cycles_per_slot, strobe_cycles):
    """Return (rest, strobe) for a slot of so many cycles: 3 + 1 + (strobe + 1) + 1 + 1 + (rest + 1) = cycles."""
    strobe = max(1, min(strobe_cycles, cycles_per_slot - SHORTEST_SLOT_CYCLES + 1)) - 1
    return cycles_per_slot - OVERHEAD_CYCLES - strobe, strobe
