"""Care keys to gateways and their end: repeated while it matters, because the broker may drop anything."""

from collections.abc import Callable

from qepa_uplink.envelope import sign
from qepa_uplink.identity import Identity
from qepa_uplink.messages import CareRevoke, Message

from .consents import ConsentDesk

_REPEAT_MS = 2000
_INSIST_MS = 20_000  # how long a withdrawal is repeated unasked
_GRANT_EVERY_MS = 10_000


class CareKeys:
    """Sends CareGrant and CareRevoke. ``seal`` sends sealed (False without a session), ``send`` signed bytes."""

    def __init__(
        self,
        *,
        consents: ConsentDesk,
        identity: Identity,
        clock_ms: Callable[[], int],
        seal: Callable[[str, Message], bool],
        send: Callable[[str, bytes], None],
        gateways: Callable[[], frozenset[str]],
    ) -> None:
        self._consents = consents
        self._identity = identity
        self._clock_ms = clock_ms
        self._seal = seal
        self._send = send
        self._gateways = gateways
        self._granted_ms: dict[tuple[str, bytes, int], int] = {}
        self._revoked_ms: dict[tuple[str, bytes], int] = {}
        self._insist_until_ms: dict[bytes, int] = {}

    def changed(self, consent_id: bytes) -> None:
        """A consent came or was withdrawn: tell its gateways now."""
        consent = self._consents.find(consent_id)
        if consent is not None and consent.withdrawn_ms is not None:
            self._insist_until_ms[consent_id] = self._clock_ms() + _INSIST_MS
            for gateway in set(consent.gateways.values()):
                self.revoke(gateway, consent_id)
        self.tick()

    def greet(self, gateway: str) -> None:
        """A gateway has a new session: it holds no care keys yet, and may have missed withdrawals."""
        self._granted_ms = {key: at for key, at in self._granted_ms.items() if key[0] != gateway}
        for consent_id in self._consents.ended(gateway, self._clock_ms()):
            self.revoke(gateway, consent_id)
        self._grant(gateway)

    def heard(self, gateway: str, consent_id: bytes, board: int) -> None:
        """A record came under a consent in force: that gateway has the key."""
        self._granted_ms[(gateway, consent_id, board)] = self._clock_ms()

    def revoke(self, gateway: str, consent_id: bytes) -> None:
        """Tell ``gateway`` that a consent has ended; at most every two seconds."""
        now_ms = self._clock_ms()
        place = (gateway, consent_id)
        if not 0 <= now_ms - self._revoked_ms.get(place, -_REPEAT_MS) < _REPEAT_MS:
            self._revoked_ms[place] = now_ms
            self._send(gateway, sign(self._identity, CareRevoke(consent_id=consent_id)))

    def tick(self) -> None:
        """Repeat what may have been lost."""
        now_ms = self._clock_ms()
        for consent_id, until_ms in list(self._insist_until_ms.items()):
            consent = self._consents.find(consent_id)
            if consent is None or now_ms >= until_ms:
                del self._insist_until_ms[consent_id]
                continue
            for gateway in set(consent.gateways.values()):
                self.revoke(gateway, consent_id)
        for gateway in self._gateways():
            self._grant(gateway)

    def _grant(self, gateway: str) -> None:
        now_ms = self._clock_ms()
        for consent_id, grant in self._consents.grants(gateway, now_ms):
            place = (gateway, consent_id, grant.board)
            since_ms = now_ms - self._granted_ms.get(place, -_GRANT_EVERY_MS)
            if not 0 <= since_ms < _GRANT_EVERY_MS and self._seal(gateway, grant):
                self._granted_ms[place] = now_ms
