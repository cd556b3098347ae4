"""Virtual optical bench: a transmitter and a receiver controller behind two pseudo-terminals, and the light between.

A stand-in for hardware, run as its own program (`python -m qepa_tools.bench`); nothing in production imports it.
"""
