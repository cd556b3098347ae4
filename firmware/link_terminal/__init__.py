"""Firmware of the optical link's two controllers: MicroPython on an RP2040 (both roles) or an ESP32 (transmitter).

controller.py speaks the serial protocol; transmitter.py and receiver.py are the two roles; each talks to its hardware
through a small class (rp2040_*.py, esp32_transmitter.py). All but these last run on CPython too.
"""
