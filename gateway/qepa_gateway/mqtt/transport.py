"""MQTT as :class:`qepa_gateway.transport.Transport`: boards and server on one connection."""

import asyncio
import ssl
from collections.abc import Callable

from qepa_uplink.broker import BrokerConnection
from qepa_uplink.topics import to_gateway
from qepa_wire.topics import all_boards_up

from ..domain.silence import Step
from ..transport import Outgoing


class MqttTransport:
    """Subscribes to the gateway's own topic and its boards'."""

    def __init__(
        self,
        gateway: str,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        topics = [(to_gateway(gateway), 1), (all_boards_up(gateway), 0)]
        self._broker = BrokerConnection(
            f"qepa-gateway-{gateway}", host, port, topics, username=username, password=password, tls=tls
        )
        self._anew = asyncio.Event()

    @property
    def faults(self) -> tuple[str, ...]:
        """``broker`` while there is no connection."""
        return () if self._broker.connected else ("broker",)

    def publish(self, message: Outgoing) -> None:
        """Send soon, or drop: the gateway repeats what matters."""
        self._broker.publish(message.topic, message.payload, message.qos)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Stay connected until cancelled."""
        while True:
            self._anew.clear()
            tasks = {asyncio.create_task(self._broker.run(receive)), asyncio.create_task(self._anew.wait())}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()

    async def recover(self, step: Step) -> None:
        """Connect anew: a broker that lost our subscriptions does not say so. There is no adapter to switch off."""
        del step
        self._anew.set()
