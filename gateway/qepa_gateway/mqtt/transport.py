"""aiomqtt as :class:`qepa_gateway.transport.Transport`: one connection, reconnecting, nothing durable."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

import aiomqtt

from qepa_uplink.topics import to_gateway
from qepa_wire.topics import all_boards_up

from ..transport import Outgoing

_LOG = logging.getLogger(__name__)
_BACKOFF_FIRST_S, _BACKOFF_LONGEST_S = 0.5, 15.0
_MAX_WAITING = 10_000


class MqttTransport:
    """Subscribes to the gateway's own topic and its boards'. Messages published while disconnected are dropped."""

    def __init__(
        self, gateway: str, host: str, port: int, *, username: str | None = None, password: str | None = None
    ) -> None:
        self._gateway = gateway
        self._address = (host, port)
        self._login = (username, password)
        self._waiting: asyncio.Queue[Outgoing] = asyncio.Queue(_MAX_WAITING)
        self.connected = False
        self.dropped = 0

    def publish(self, message: Outgoing) -> None:
        """Send soon, or drop: the gateway repeats what matters."""
        if not self.connected or self._waiting.full():
            self.dropped += 1
            return
        self._waiting.put_nowait(message)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Stay connected for ever."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                async with self._client() as client:
                    await client.subscribe([(to_gateway(self._gateway), 1), (all_boards_up(self._gateway), 1)])
                    self.connected, backoff_s = True, _BACKOFF_FIRST_S
                    _LOG.info("broker connected host=%s port=%d", *self._address)
                    await self._pump(client, receive)
            except aiomqtt.MqttError as error:
                _LOG.warning("broker lost host=%s port=%d error=%s", *self._address, error)
            finally:
                self.connected = False
                while not self._waiting.empty():
                    self._waiting.get_nowait()
                    self.dropped += 1
            # Jitter: gateways must not all come back in the same instant.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            backoff_s = min(2 * backoff_s, _BACKOFF_LONGEST_S)

    def _client(self) -> aiomqtt.Client:
        host, port = self._address
        username, password = self._login
        return aiomqtt.Client(
            host,
            port,
            username=username,
            password=password,
            identifier=f"qepa-gateway-{self._gateway}",
            keepalive=15,
            timeout=10,
            max_queued_outgoing_messages=_MAX_WAITING,
        )

    async def _pump(self, client: aiomqtt.Client, receive: Callable[[str, bytes], None]) -> None:
        sender = asyncio.create_task(self._send_all(client))
        try:
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    receive(message.topic.value, message.payload)
                if sender.done():
                    await sender
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await sender

    async def _send_all(self, client: aiomqtt.Client) -> None:
        while True:
            message = await self._waiting.get()
            await client.publish(message.topic, message.payload, qos=message.qos)
