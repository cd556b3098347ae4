# ruff: noqa: F821  the names of PIO instructions exist only inside asm_pio
"""PIO program of the receiver: the time of each rising edge of one input, one state machine an input.

X counts down once every two cycles, on every path through the program, so that it is a clock: a tick is 2 cycles, 16 ns
at 125 MHz. The tag is X inverted at the edge. RP2040 datasheet 3.4: `jmp x--` decrements also when it does not jump.
"""

import rp2

CYCLES_PER_TICK = 2
DEAD_CYCLES = 6  # from an edge until the next can be seen, if the pulse has ended by then


@rp2.asm_pio(fifo_join=rp2.PIO.JOIN_RX)
def rising_edges():
    """Pushes 32-bit tags, never waits: a full FIFO loses the tag and sets RXSTALL."""
    mov(x, invert(null))
    jmp("low")  # both machines of a pair run this in step, so their clocks agree
    label("edge")
    mov(isr, invert(x))  # 1
    jmp(x_dec, "push")  # 2: one tick
    label("push")
    push(noblock)  # 3
    jmp(x_dec, "high")  # 4: another tick
    label("high")
    jmp(x_dec, "still")  # 1
    label("still")
    jmp(pin, "high")  # 2: one tick each time round while the pulse lasts
    wrap_target()
    label("low")
    jmp(x_dec, "look")  # 1
    label("look")
    jmp(pin, "edge")  # 2: one tick each time round; no edge: wraps, which takes no cycle
    wrap()
