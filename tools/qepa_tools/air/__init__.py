"""A virtual air for Bluetooth LE: boards' firmware on one side, bleak on the other, bumble's stack between them.

No radio frequency, no BlueZ, no NimBLE: attribute protocol, security manager and link layer are bumble's.
"""
