"""Virtual ESP32 boards: unmodified firmware on a real MicroPython interpreter, one worker thread of node each."""
