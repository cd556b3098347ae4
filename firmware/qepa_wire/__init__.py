"""QEPA wire: frames, LightHE vectors, quantizer and check values; the same bytes on MicroPython and CPython.

PROTOCOL.md beside this file is normative.
"""
