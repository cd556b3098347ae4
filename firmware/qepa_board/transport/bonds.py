"""What a Bluetooth stack must remember of the peers it has paired with, in flash.

The stack asks for it, and hands it over, while it handles events, where nothing may wait for flash: set() notes, and
save() writes from the application's loop. A power cut in between costs the bond, and the peer pairs again.
"""

from ..errors import CorruptError
from ..system.flash import read_record, write_record

FILE = "bonds"
MAX_SECRETS = 24  # a peer takes two, and one for each characteristic it subscribes to; the oldest give way
_OUR_IRK = 10  # this board's own; SECRET_TYPE_OUR_IRK of MicroPython's NimBLE binding


class Bonds:
    """Secrets by (type, key), as _IRQ_GET_SECRET and _IRQ_SET_SECRET of MicroPython's bluetooth name them."""

    def __init__(self, flash):
        self._flash = flash
        self._changed = False
        self._secrets = []  # [type, key, value], oldest first
        try:
            body = read_record(flash, FILE) or b""
        except CorruptError:
            flash.remove(FILE)
            body = b""
        at = 0
        while at < len(body):
            key_at = at + 3
            value_at = key_at + body[at + 1]
            end = value_at + body[at + 2]
            self._secrets.append([body[at], body[key_at:value_at], body[value_at:end]])
            at = end

    def __len__(self):
        return len(self._secrets)

    def get(self, type_, index, key):
        """The secret ``key`` of ``type_``; for the key None, the one number ``index`` of that type; else None."""
        for secret in self._secrets:
            if secret[0] != type_:
                continue
            if key is None:
                if index == 0:
                    return secret[2]
                index -= 1
            elif secret[1] == bytes(key):
                return secret[2]
        return None

    def set(self, type_, key, value):
        """Note a secret, or for the value None forget it; returns whether that was possible."""
        key = bytes(key)
        before = [secret for secret in self._secrets if secret[0] == type_ and secret[1] == key]
        if value is None:
            if not before:
                return False
            self._secrets.remove(before[0])
        elif len(key) > 255 or len(value) > 255:
            return False
        else:
            if before:
                self._secrets.remove(before[0])
            self._secrets.append([type_, key, bytes(value)])
            while len(self._secrets) > MAX_SECRETS:
                self._secrets.remove(next(secret for secret in self._secrets if secret[0] != _OUR_IRK))
        self._changed = True
        return True

    def save(self):
        """Write what has changed; raises BoardError("flash"), and may be called again."""
        if self._changed:
            parts = [bytes([type_, len(key), len(value)]) + key + value for type_, key, value in self._secrets]
            self._changed = False
            try:
                write_record(self._flash, FILE, b"".join(parts))
            except Exception:
                self._changed = True
                raise
