"""The broker's side of the server: one subscription, one queue out, reconnecting for ever.

QoS 0 throughout: order matters more to sealed sessions than the broker's own retries, and what must arrive is
acknowledged and repeated end to end.
"""

import asyncio
import logging
from collections.abc import Callable

import aiomqtt

from qepa_uplink.topics import TO_SERVER_ALL, to_gateway

_LOG = logging.getLogger(__name__)
_RETRY_S = 1.0
_QUEUE_LENGTH = 10_000


class BrokerLink:
    """Carries bytes between gateways' topics and the server."""

    def __init__(self, *, host: str, port: int, client_id: str) -> None:
        self._host = host
        self._port = port
        self._client_id = client_id
        self._out: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_QUEUE_LENGTH)
        self.connected = False
        self.dropped = 0

    def send(self, gateway: str, data: bytes) -> None:
        """Queue ``data`` for ``gateway``; while the broker is away nothing is queued, since all of it is repeated."""
        if not self.connected or self._out.full():
            self.dropped += 1
            return
        self._out.put_nowait((to_gateway(gateway), data))

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Connect, hand ``receive(gateway, data)`` what comes, reconnect; until cancelled."""
        while True:
            try:
                async with aiomqtt.Client(self._host, self._port, identifier=self._client_id) as client:
                    await client.subscribe(TO_SERVER_ALL, qos=0)
                    self.connected = True
                    _LOG.info("connected to the broker at %s:%d", self._host, self._port)
                    await self._serve(client, receive)
            except aiomqtt.MqttError as error:
                _LOG.warning("no broker at %s:%d (%s); trying again", self._host, self._port, error)
            finally:
                self.connected = False
                while not self._out.empty():
                    self._out.get_nowait()
                    self.dropped += 1
            await asyncio.sleep(_RETRY_S)

    async def _serve(self, client: aiomqtt.Client, receive: Callable[[str, bytes], None]) -> None:
        sender = asyncio.create_task(self._drain(client))
        try:
            async for message in client.messages:
                gateway = message.topic.value.rsplit("/", 1)[-1]
                if isinstance(message.payload, bytes):
                    receive(gateway, message.payload)
                if sender.done():
                    await sender  # raises what ended it, so that the connection is made anew
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _drain(self, client: aiomqtt.Client) -> None:
        while True:
            topic, data = await self._out.get()
            await client.publish(topic, data, qos=0)
