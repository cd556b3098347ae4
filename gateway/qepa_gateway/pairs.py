"""Pair keys with the other gateways: made by the one with the lesser name, kept while both keep their certificates."""

import os
from hashlib import sha256

from qepa_uplink.enrolment import pair_info
from qepa_uplink.messages import PairOffer, PairWanted
from qepa_uplink.sealing import seal_to
from qepa_wire.keys import KEY_BYTES

from .errors import Refused
from .server_link import ServerLink
from .spool.trust import TrustStore
from .transport import Clock

_ASK_AGAIN_MS = 1000


class PairKeys:
    """Holds and exchanges pair keys. A key once held is never replaced under the same certificate."""

    def __init__(self, link: ServerLink, trust: TrustStore, clock: Clock) -> None:
        self._link = link
        self._trust = trust
        self._clock = clock
        self._name = link.identity.name
        self._said_at_ms: dict[str, int] = {}
        link.handlers[PairOffer] = self._take_offer
        link.handlers[PairWanted] = self._take_wanted

    def get(self, peer: str) -> bytes | None:
        """The pair key with ``peer`` if it is held and the peer is certified."""
        try:
            return self._trust.pair_key(peer, self._certificate(peer))
        except Refused:
            return None

    def prepare(self, peer: str) -> None:
        """Make sure that both will hold a key: offer it (again), or ask for it while it is missing."""
        if self._name < peer:
            self._offer(peer)
        elif self.get(peer) is None and self._may_speak(peer):
            wanted = PairWanted(sender=self._name, recipient=peer)
            self._link.send_gateway(peer, self._link.sign(wanted))

    def _certificate(self, peer: str) -> bytes:
        return sha256(self._link.subject(peer).sign_key).digest()

    def _may_speak(self, peer: str) -> bool:
        now_ms = self._clock()
        if 0 <= now_ms - self._said_at_ms.get(peer, -_ASK_AGAIN_MS) < _ASK_AGAIN_MS:
            return False
        self._said_at_ms[peer] = now_ms
        return True

    def _offer(self, peer: str) -> None:
        if not self._may_speak(peer):
            return
        certificate = self._certificate(peer)
        key = self._trust.pair_key(peer, certificate)
        if key is None:
            key = os.urandom(KEY_BYTES)
            self._trust.save_pair_key(peer, certificate, key)
        sealed = seal_to(self._link.subject(peer).seal_key, key, pair_info(self._name, peer))
        offer = PairOffer(sender=self._name, recipient=peer, sealed_key=sealed)
        self._link.send_gateway(peer, self._link.sign(offer))

    def _take_offer(self, message: PairOffer, sender: str) -> None:
        if message.sender != sender or message.recipient != self._name or not sender < self._name:
            raise Refused("pair", f"offer of {sender} for {message.recipient}")
        key = self._link.identity.unseal(message.sealed_key, pair_info(sender, self._name))
        if len(key) != KEY_BYTES:
            raise Refused("pair", f"a key of {len(key)} bytes")
        held = self.get(sender)
        if held is None:
            self._trust.save_pair_key(sender, self._certificate(sender), key)
        elif held != key:
            # Both sides store it before they use it, so an honest peer that changes it has lost its spool.
            raise Refused("pair", f"another key of {sender}: its gateway must be enrolled anew")

    def _take_wanted(self, message: PairWanted, sender: str) -> None:
        if message.sender != sender or message.recipient != self._name or not self._name < sender:
            raise Refused("pair", f"{sender} wants a key of {message.recipient}")
        self._offer(sender)
