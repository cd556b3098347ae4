"""Stands in for the optical links: a pad is a function of its key_ID under a secret in the simulation's folder.

The gateways fetch pads through the port where Bob's KME is on a ward, with the same delays of the event loop and the
same rule that a key is given once; what it can't show is a link.
"""

import asyncio

from qepa_gateway.errors import KeyUnavailable
from qepa_uplink.messages import LinkStatus
from qepa_wire.primitives import hmac_sha256


def pad_of(secret: bytes, key_id: bytes) -> bytes:
    """Return the 32 bytes of pad ``key_id``."""
    return hmac_sha256(secret, b"simulated pad" + key_id)


class StandInKeys:
    """A :class:`qepa_gateway.key_source.KeySource` without a link."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._given: set[bytes] = set()

    async def fetch(self, key_id: bytes) -> bytes:
        """Redeem one pad."""
        await asyncio.sleep(0)
        if key_id in self._given:
            raise KeyUnavailable("key_unknown", f"{key_id.hex()} was given before")
        self._given.add(key_id)
        return pad_of(self._secret, key_id)

    async def link_status(self) -> LinkStatus | None:
        """There is no link to tell of."""
        return None

    async def close(self) -> None:
        """Hold nothing."""
