"""MQTT as :class:`qepa_gateway.transport.Transport`: boards and server on one connection."""

from collections.abc import Callable

from qepa_uplink.broker import BrokerConnection
from qepa_uplink.topics import to_gateway
from qepa_wire.topics import all_boards_up

from ..transport import Outgoing


class MqttTransport:
    """Subscribes to the gateway's own topic and its boards'."""

    def __init__(
        self, gateway: str, host: str, port: int, *, username: str | None = None, password: str | None = None
    ) -> None:
        topics = [(to_gateway(gateway), 1), (all_boards_up(gateway), 1)]
        self._broker = BrokerConnection(
            f"qepa-gateway-{gateway}", host, port, topics, username=username, password=password
        )

    def publish(self, message: Outgoing) -> None:
        """Send soon, or drop: the gateway repeats what matters."""
        self._broker.publish(message.topic, message.payload, message.qos)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Stay connected until cancelled."""
        await self._broker.run(receive)
