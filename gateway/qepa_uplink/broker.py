"""A connection to the MQTT broker that always comes back; the broker is transport only, nothing here is durable."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence

import aiomqtt

_LOG = logging.getLogger(__name__)
_BACKOFF_FIRST_S, _BACKOFF_LONGEST_S = 0.5, 15.0
_MAX_WAITING = 10_000


class BrokerConnection:
    """Subscribes to ``topics`` (filter, QoS) and publishes. What is published while disconnected is dropped."""

    def __init__(
        self,
        client_id: str,
        host: str,
        port: int,
        topics: Sequence[tuple[str, int]],
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client_id = client_id
        self._address = (host, port)
        self._topics = list(topics)
        self._login = (username, password)
        self._tls = tls
        self._waiting: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue(_MAX_WAITING)
        self.connected = False
        self.dropped = 0

    def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Send soon, or drop and count: whoever publishes repeats what matters."""
        if not self.connected or self._waiting.full():
            self.dropped += 1
            return
        self._waiting.put_nowait((topic, payload, qos))

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Stay connected until cancelled; hand every (topic, payload) to ``receive``."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                async with self._client() as client:
                    await client.subscribe(self._topics)
                    self.connected, backoff_s = True, _BACKOFF_FIRST_S
                    _LOG.info("broker connected host=%s port=%d", *self._address)
                    await self._pump(client, receive)
            except aiomqtt.MqttError as error:
                # A connection that breaks while it is being cancelled says MqttError in place of CancelledError.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError from error
                _LOG.warning("broker lost host=%s port=%d error=%s", *self._address, error)
            finally:
                self.connected = False
                while not self._waiting.empty():
                    self._waiting.get_nowait()
                    self.dropped += 1
            # Jitter: clients must not all come back in the same instant.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            backoff_s = min(2 * backoff_s, _BACKOFF_LONGEST_S)

    def _client(self) -> aiomqtt.Client:
        username, password = self._login
        return aiomqtt.Client(
            *self._address,
            username=username,
            password=password,
            tls_context=self._tls,
            identifier=self._client_id,
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
                    await sender  # raises what ended it, so that the connection is made anew
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self, client: aiomqtt.Client) -> None:
        while True:
            topic, payload, qos = await self._waiting.get()
            await client.publish(topic, payload, qos=qos)
