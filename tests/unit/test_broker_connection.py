"""The connection to the broker ends when it is told to, whatever the connection does at that moment."""

import asyncio

import aiomqtt

from qepa_uplink.broker import BrokerConnection


class Breaking:
    """A client whose connection breaks just while it is left."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.times_left = 0

    async def __aenter__(self) -> "Breaking":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.times_left += 1
        if self.times_left == 1:
            raise aiomqtt.MqttError("broken while leaving")

    async def subscribe(self, _: object) -> None:
        self.entered.set()

    @property
    async def messages(self):
        await asyncio.Event().wait()
        yield


async def test_cancelling_ends_it_even_when_the_connection_breaks_at_that_moment(monkeypatch) -> None:
    connection = BrokerConnection("test", "127.0.0.1", 1, [("topic", 0)])
    client = Breaking()
    monkeypatch.setattr(connection, "_client", lambda: client)
    task = asyncio.create_task(connection.run(lambda *_: None))
    await client.entered.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    ended = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended


async def test_what_is_published_without_a_connection_is_dropped_and_counted() -> None:
    connection = BrokerConnection("test", "127.0.0.1", 1, [("topic", 0)])
    connection.publish("topic", b"lost")
    assert connection.dropped == 1
