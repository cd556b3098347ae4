"""The care stream: live vitals while a consent is valid, nothing without one, never again after its end."""

from qepa_wire.errors import WireError
from qepa_wire.keys import care_key
from qepa_wire.payloads import (
    ID_BYTES,
    care_consent,
    decode_grant,
    decode_labels,
    decode_revoke,
    decode_waves_wanted,
    grant_consent,
)

from ..errors import CorruptError
from ..system.flash import read_record, write_record

FILE = "consents"
ENDED_IDS = 32


class CareStream:
    """At most one consent at a time. Times are milliseconds of sample time since boot: a board has no other clock
    that an attacker cannot set."""

    def __init__(self, board, end_key, flash):
        self._board = board
        self._end_key = end_key
        self._flash = flash
        self._until_ms = 0
        self._waves_until_ms = 0
        self.consent_id = None
        self.key = None
        try:
            body = read_record(flash, FILE) or b""
        except CorruptError:
            flash.remove(FILE)
            body = b""
        self._ended = [body[i : i + ID_BYTES] for i in range(0, len(body), ID_BYTES)]

    @property
    def active(self):
        """Whether a consent is valid now, as of the last expire()."""
        return self.key is not None

    def grant(self, payload, t_ms):
        """Start streaming under a grant; raises WireError with reason payload, mac or consent (it has ended)."""
        consent_id = grant_consent(payload)
        key = care_key(self._end_key, consent_id)
        valid_s = decode_grant(key, self._board, payload)
        self.expire(t_ms)
        if consent_id in self._ended:
            raise WireError("consent", "ended before")
        until_ms = t_ms + 1000 * valid_s
        if consent_id == self.consent_id:
            # The same grant again says nothing new: it must not prolong itself.
            self._until_ms = min(self._until_ms, until_ms)
            return
        if self.active:
            self._end()
        self.consent_id = consent_id
        self.key = key
        self._until_ms = until_ms

    def revoke(self, payload):
        """End a consent for good; raises WireError("payload")."""
        consent_id = bytes(decode_revoke(payload))
        if consent_id == self.consent_id:
            self._end()
        elif consent_id not in self._ended:
            self._remember(consent_id)

    def expire(self, t_ms):
        """Drop the key once its time is over; returns True if that happened now."""
        if self.active and t_ms >= self._until_ms:
            self._end()
            return True
        return False

    def want_waves(self, payload, t_ms):
        """Waveforms are wanted for a while; raises WireError with reason payload or consent."""
        consent_id, seconds = decode_waves_wanted(payload)
        if consent_id != self.consent_id:
            raise WireError("consent", "waveforms without a valid one")
        self._waves_until_ms = t_ms + 1000 * seconds

    def wants_waves(self, t_ms):
        """Whether waveforms are wanted now."""
        return t_ms < self._waves_until_ms

    def _end(self):
        ended = self.consent_id
        self._waves_until_ms = 0
        self.consent_id = None
        self.key = None
        self._remember(ended)

    def _remember(self, consent_id):
        self._ended.append(consent_id)
        del self._ended[:-ENDED_IDS]
        write_record(self._flash, FILE, b"".join(self._ended))

    def labels(self, seq, payload, boots):
        """Labels of this boot in ``payload``; raises WireError with reason payload, mac, consent or boots."""
        if not self.active or care_consent(payload) != self.consent_id:
            raise WireError("consent", "labels without a valid one")
        labels = decode_labels(self.key, self._board, seq, payload)
        for label in labels:
            if label.boots != boots:
                raise WireError("boots", "labels of boot %d" % label.boots)
        return labels
