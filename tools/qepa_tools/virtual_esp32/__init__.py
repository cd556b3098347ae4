"""A virtual ESP32: ROM loader, flash and, after a reset, a real MicroPython, behind a serial port."""
