"""Reading allocates nothing, while samples flow and while a lead is off: on words of 32 bits, collector off."""

import functools

import pytest

from qepa_tools.unix_port.board import SHIMS

from .conftest import BENCH
from .test_faults import CHIPS, SETUP


@pytest.mark.parametrize("chip", list(CHIPS))
def test_reading_allocates_nothing(unix_run, chip):
    module, model, width, rate, _ = CHIPS[chip]
    program = """
driver.start()
play(driver, SECOND, EVERY)
gc.collect()
gc.disable()
samples = used = 0
for i in range(60):
    if i == 40:
        chip.lead_off = True
        chip.finger = False
    wiring.advance_us(25000 if rate > 1 else 250000)
    before = gc.mem_alloc()
    n = driver.read()
    used += gc.mem_alloc() - before
    samples += n
tell([samples, used, NAMES[driver.state]])
"""
    source = BENCH + SETUP.format(name=chip, module=module, model=model, width=width, rate=rate) + program
    run = functools.partial(unix_run, heap_bytes=4 << 20, shims=SHIMS)
    samples, used, state = eval(run(source).replace("null", "None"))  # noqa: S307  ours
    assert samples > 10
    assert used == 0, f"{used} bytes in 60 reads"
    assert state in ("running", "lead_off")


def test_taking_a_sample_in_the_interrupt_allocates_nothing(unix_run):
    source = (
        BENCH
        + """
driver, chip = wired("ads1292r", "ads1292r", "Ads1292r", Frames([-8000000, 8000000], 2))
driver.start()
play(driver, 1000)
gc.collect()
gc.disable()
before = gc.mem_alloc()
for i in range(20):
    driver._on_interrupt(None)
print(gc.mem_alloc() - before)
"""
    )
    assert unix_run(source, heap_bytes=4 << 20, shims=SHIMS) == "0\n"
