"""Sensor drivers: one class a chip, one module a family.

Every driver keeps one contract:

    fs_hz                       samples a second of each channel
    channels                    names, of "ecg", "resp", "red", "ir", "ax", "ay", "az", "gx", "gy", "gz",
                                "temperature", "glucose"
    buffers                     a preallocated array('i') for each channel
    start()                     configure the chip and begin; stop() ends it
    read() -> n                 drain what the chip holds, n samples into each buffer from index 0 on, oldest first;
                                0 if there is nothing
    available                   samples that wait, as far as the driver knows
    gap                         samples lost just before those of the last read()
    state                       one of states.py, as of the last start() or read()
    lost, faults                samples lost, bus errors, since start()

Nothing raises after construction: what goes wrong is a state, and read() tries to bring the chip back. Nothing
allocates in read(). A chip with an interrupt line sets ``flag`` (asyncio.ThreadSafeFlag or alike) from it.

Units: ecg in steps of 2.5 microvolts at the electrode (400 to a millivolt), clipped to 12 bits signed (+-2047);
resp in the chip's counts; red and ir in the chip's counts, 0 to 2^18 - 1; ax to az in milli-g; gx to gz in tenths of
a degree a second; temperature in hundredths of a degree Celsius; glucose in mg/dL.
"""
