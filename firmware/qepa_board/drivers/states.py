"""States of a sensor."""

OFF = 0
RUNNING = 1
LEAD_OFF = 2  # an electrode is off, or nothing is in front of the optics; which channels: the driver's contact
OVERFLOW = 3  # samples were lost since the last read; running
BUS_ERROR = 4  # the chip does not answer
WRONG_CHIP = 5  # something else answers
FAULT = 6  # it answers, and says of itself that it does not measure

NAMES = ("off", "running", "lead_off", "overflow", "bus_error", "wrong_chip", "fault")
