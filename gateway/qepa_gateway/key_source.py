"""Where pads and the optical link's figures come from: Bob's KME, behind a port that tests can stand in for."""

from typing import Any, Protocol
from uuid import UUID

from qepa_qkd.errors import KeyNotFound, QkdError
from qepa_qkd.kme_client import KmeClient
from qepa_uplink.messages import LinkStatus

from .domain.rekeying import USUAL_S
from .errors import KeyUnavailable


class KeySource(Protocol):
    """A KME as the gateway needs it."""

    async def fetch(self, key_id: bytes) -> bytes:
        """Redeem one key, of 32 bytes or of a one-time block's size; it is given once. Raises KeyUnavailable."""

    async def link_status(self) -> LinkStatus | None:
        """The optical link's figures, or None if there is no link. Raises KeyUnavailable."""

    async def close(self) -> None:
        """Let go of connections."""


class KmeKeySource:
    """Adapter of :class:`qepa_qkd.kme_client.KmeClient`."""

    def __init__(self, client: KmeClient, master: str) -> None:
        self._client = client
        self._master = master

    async def fetch(self, key_id: bytes) -> bytes:
        """Redeem one key."""
        try:
            # The same request again gets the same answer for a while: a key whose answer was lost is not lost.
            (key,) = await self._client.dec_keys(self._master, [UUID(bytes=key_id)], request_id=key_id.hex())
        except KeyNotFound as error:
            raise KeyUnavailable("key_unknown", str(error)) from error
        except QkdError as error:
            raise KeyUnavailable("kme_down", str(error)) from error
        return key.value

    async def link_status(self) -> LinkStatus | None:
        """Read the vendor extension of the KME's status."""
        try:
            document = await self._client.status(self._master)
        except QkdError as error:
            raise KeyUnavailable("kme_down", str(error)) from error
        return parse_link_status(document)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


def parse_link_status(document: dict[str, Any]) -> LinkStatus:
    """Return the figures in a status answer; raises KeyUnavailable for one of another shape."""
    extension = document.get("status_extension")
    if not isinstance(extension, dict):
        extension = {}
    try:
        return LinkStatus(
            state=str(extension.get("link_state", "unknown"))[:200],
            qber=extension.get("qber"),
            stored_keys=document["stored_key_count"],
            bits_produced=extension.get("secret_bits_produced", 0),
            bits_consumed=extension.get("secret_bits_consumed", 0),
            threat_level=extension.get("threat_level", "normal"),
            rekey_s=extension.get("rekey_s", USUAL_S),
        )
    except (KeyError, ValueError) as error:
        raise KeyUnavailable("kme_down", "the KME's status has another shape") from error


def link_down(reason: str) -> LinkStatus:
    """What is shown while the KME does not answer."""
    return LinkStatus(state=f"unreachable: {reason}"[:200], stored_keys=0, bits_produced=0, bits_consumed=0)


class NoKeySource:
    """A gateway without an optical link: every pad is unknown."""

    async def fetch(self, key_id: bytes) -> bytes:
        """Know no key."""
        raise KeyUnavailable("key_unknown", f"no KME is configured for key_ID {key_id.hex()}")

    async def link_status(self) -> LinkStatus | None:
        """There is no link."""
        return None

    async def close(self) -> None:
        """Hold nothing."""
