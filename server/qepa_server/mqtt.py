"""The broker's side of the server.

QoS 0 throughout: order matters more to sealed sessions than the broker's own retries, and what must arrive is
acknowledged and repeated end to end.
"""

from collections.abc import Callable

from qepa_uplink.broker import BrokerConnection, read_login
from qepa_uplink.topics import TO_SERVER_ALL, to_gateway

from .config import BrokerConfig


class BrokerLink:
    """Carries bytes between gateways' topics and the server."""

    def __init__(self, broker: BrokerConfig, *, client_id: str) -> None:
        """Read password and authority; raises UplinkError("broker") for a file that cannot be used."""
        password, tls = read_login(broker.password_file, broker.ca)
        self._broker = BrokerConnection(
            client_id,
            broker.host,
            broker.port,
            [(TO_SERVER_ALL, 0)],
            username=broker.username,
            password=password,
            tls=tls,
        )

    def send(self, gateway: str, data: bytes) -> None:
        """Queue ``data`` for ``gateway``; while the broker is away nothing is queued, since all of it is repeated."""
        self._broker.publish(to_gateway(gateway), data)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Hand ``receive(gateway, data)`` what comes; until cancelled."""
        await self._broker.run(lambda topic, data: receive(topic.rsplit("/", 1)[-1], data))
