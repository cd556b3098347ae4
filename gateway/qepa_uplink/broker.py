"""A connection to the MQTT broker that always comes back; the broker is transport only, nothing here is durable."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import UplinkError
from .mqtt_connection import BrokerLostError, MqttConnection

_LOG = logging.getLogger(__name__)
_BACKOFF_FIRST_S, _BACKOFF_LONGEST_S = 0.5, 15.0


def read_login(password_file: Path | None, ca: Path | None) -> tuple[str | None, ssl.SSLContext | None]:
    """Return password and TLS context for a broker; None for what no file is named. Raises UplinkError("broker")."""
    try:
        password = None if password_file is None else password_file.read_text().strip()
    except OSError as error:
        raise UplinkError("broker", f"cannot read {password_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UplinkError("broker", f"{password_file} holds no password") from error
    try:
        return password, None if ca is None else ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise UplinkError("broker", f"{ca} holds no certificate of an authority (PEM)") from error
    except OSError as error:
        raise UplinkError("broker", f"cannot read {ca}: {error.strerror}") from error


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
        self._connection: MqttConnection | None = None
        self.dropped = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, logged in and subscribed."""
        return self._connection is not None

    def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Send soon, or drop and count: whoever publishes repeats what matters."""
        if self._connection is None or not self._connection.publish(topic, payload, qos):
            self.dropped += 1

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Stay connected until cancelled; hand every (topic, payload) to ``receive``. What that raises ends it."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            connection = None
            try:
                connection = await MqttConnection.open(self._address, self._client_id, self._login, self._tls, receive)
                await connection.subscribe(self._topics)
                self._connection, backoff_s = connection, _BACKOFF_FIRST_S
                _LOG.info("broker connected host=%s port=%d", *self._address)
                await connection.wait()
            except BrokerLostError as error:
                _LOG.warning("broker lost host=%s port=%d error=%s", *self._address, error)
            finally:
                self._connection = None
                if connection is not None:
                    connection.close()
            # Jitter: clients must not all come back in the same instant.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            backoff_s = min(2 * backoff_s, _BACKOFF_LONGEST_S)
