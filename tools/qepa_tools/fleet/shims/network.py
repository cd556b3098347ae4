# mypy: ignore-errors
# ruff: noqa: ARG002, D101  signatures and names are MicroPython's
# This is MicroPython, with modules that CPython has not.
"""`network` with a station interface that is always connected."""

import machine

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_GOT_IP = 1010


class WLAN:
    IF_STA = STA_IF
    IF_AP = AP_IF

    def __init__(self, interface=STA_IF):
        self._active = False

    def active(self, is_active=None):
        if is_active is None:
            return self._active
        self._active = bool(is_active)
        return None

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not self._active:
            raise OSError("Wifi Not Started")

    def disconnect(self):
        pass

    def isconnected(self):
        return self._active

    def status(self, parameter=None):
        if parameter == "rssi":
            return -50
        return STAT_GOT_IP if self._active else STAT_IDLE

    def ifconfig(self, settings=None):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")

    def config(self, *names, **settings):
        if names and names[0] == "mac":
            return (b"\x02\x00" + machine.unique_id())[-6:]
        return None
