"""The connection to the broker: many messages at a time, back by itself, gone when it is told to go."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_uplink import mqtt_packets as mqtt
from qepa_uplink.broker import BrokerConnection
from qepa_uplink.errors import UplinkError
from qepa_uplink.mqtt_connection import BrokerLostError, MqttConnection

PATIENCE_S = 60
ACCEPTED, SUBSCRIBED = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00"


class FakeBroker:
    """Accepts every client; ``greet`` is what it answers a CONNECT with. Keeps what came, speaks when it is told to."""

    def __init__(self, *, greet=ACCEPTED, answers_pings=True):
        self.greet, self.answers_pings = greet, answers_pings
        self.came = asyncio.Queue()
        self.writers = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        packets = mqtt.Packets()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(1 << 16):
                for first, body in packets.feed(data):
                    if first == 0x10:
                        writer.write(self.greet)
                    elif first == 0x82:
                        writer.write(SUBSCRIBED)
                    elif first == 0xC0 and self.answers_pings:
                        writer.write(b"\xd0\x00")
                    self.came.put_nowait((first, body))
        self.came.put_nowait((None, b""))
        writer.close()

    async def next(self, kind):
        """The next packet of a kind; None is the end of a connection."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                first, body = await self.came.get()
                if first == kind or (kind is not None and first is not None and first & 0xF0 == kind):
                    return body


@contextlib.asynccontextmanager
async def running(broker, receive=lambda *_: None):
    login = {"username": "u", "password": "p"}
    connection = BrokerConnection("test", "127.0.0.1", broker.port, [("up/+", 0)], **login)
    task = asyncio.create_task(connection.run(receive))
    try:
        yield connection, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_messages_come_in_order_and_those_of_qos_1_are_acknowledged():
    got = []
    async with FakeBroker() as broker, running(broker, lambda *message: got.append(message)):
        assert (await broker.next(0x10)).endswith(b"\0\4test\0\1u\0\1p")
        assert await broker.next(0x80) == b"\0\1\0\4up/+\0"
        burst = b"".join(mqtt.publish("up/1", b"%d" % i, i % 2 * 7) for i in range(500))
        broker.writers[0].write(burst[:4000])
        await asyncio.sleep(0)
        broker.writers[0].write(burst[4000:])
        await until(lambda: len(got) == 500)
        assert got == [("up/1", b"%d" % i) for i in range(500)]
        for _ in range(250):
            assert await broker.next(0x40) == b"\0\7"


async def test_what_is_published_arrives_in_order():
    async with FakeBroker() as broker, running(broker) as (connection, _):
        await until(lambda: connection.connected)
        for i in range(100):
            connection.publish("down", b"%d" % i, i % 2)
        for i in range(100):
            body = await broker.next(0x30)
            assert body[:6] == b"\0\4down"
            assert body.endswith(b"%d" % i)
        assert connection.dropped == 0


async def test_what_is_published_without_a_connection_is_dropped_and_counted():
    connection = BrokerConnection("test", "127.0.0.1", 1, [("topic", 0)])
    connection.publish("topic", b"lost")
    assert connection.dropped == 1


async def test_to_a_broker_that_does_not_read_no_more_is_kept_than_fits(monkeypatch):
    monkeypatch.setattr("qepa_uplink.mqtt_connection._MAX_BUFFERED", 1 << 20)
    async with FakeBroker() as broker, running(broker) as (connection, _):
        await until(lambda: connection.connected)
        for _ in range(100):
            connection.publish("down", bytes(100_000))
        dropped = connection.dropped
        assert 80 <= dropped < 100
        for _ in range(100 - dropped):
            await broker.next(0x30)
        connection.publish("down", b"again")
        assert (await broker.next(0x30)).endswith(b"again")
        assert connection.dropped == dropped


@pytest.mark.parametrize("greet", [b"", b"\x20\x02\x00\x05", ACCEPTED])
async def test_cancelled_it_ends_at_once_wherever_it_is(greet):
    async with FakeBroker(greet=greet) as broker, running(broker) as (connection, task):
        await broker.next(0x10)
        if greet == ACCEPTED:
            await until(lambda: connection.connected)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        assert task in done
        assert task.cancelled()
        assert not connection.connected
        await broker.next(None)


async def test_cancelled_while_the_connection_breaks_it_ends():
    async with FakeBroker() as broker, running(broker) as (connection, task):
        await until(lambda: connection.connected)
        broker.writers[0].transport.abort()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        assert task in done


async def test_it_comes_back_when_the_broker_hangs_up_or_talks_nonsense():
    async with FakeBroker() as broker, running(broker) as (connection, _):
        for goodbye in (b"", b"\x30\xff\xff\xff\xff\x01", b"\x30\x01\x00", b"\x36\x04\x00\x01a\x00"):
            await broker.next(0x80)
            await until(lambda: connection.connected)
            broker.writers[-1].write(goodbye)
            if not goodbye:
                broker.writers[-1].close()
            await broker.next(None)


async def test_what_the_receiver_raises_ends_it():
    def receive(topic, payload):
        raise ZeroDivisionError(topic)

    async with FakeBroker() as broker, running(broker, receive) as (_, task):
        await broker.next(0x80)
        broker.writers[0].write(mqtt.publish("up/1", b""))
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ZeroDivisionError, match="up/1"):
                await task


async def test_a_broker_that_falls_silent_is_left():
    async with FakeBroker(answers_pings=False) as broker:
        address = ("127.0.0.1", broker.port)
        opened = await MqttConnection.open(address, "t", (None, None), None, lambda *_: None, keepalive_s=1)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BrokerLostError, match="silent"):
                await opened.wait()


async def test_a_refusal_says_why():
    async with FakeBroker(greet=b"\x20\x02\x00\x05") as broker:
        with pytest.raises(BrokerLostError, match="not authorised"):
            await MqttConnection.open(("127.0.0.1", broker.port), "t", (None, None), None, lambda *_: None)


packets = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300), st.integers(0, 65535)), max_size=8)


@given(packets, st.lists(st.integers(1, 40), min_size=1))
def test_however_the_stream_is_cut_the_packets_are_the_same(sent, cuts):
    data, cutter, found, at = b"".join(mqtt.publish(*each) for each in sent), mqtt.Packets(), [], 0
    while at < len(data):
        for cut in cuts:
            found += [mqtt.open_publish(*packet) for packet in cutter.feed(data[at : at + cut])]
            at += cut
    assert found == [(topic, payload, id_.to_bytes(2, "big") if id_ else b"") for topic, payload, id_ in sent]


@given(st.binary(max_size=200))
def test_nonsense_is_refused_with_one_error(data):
    with contextlib.suppress(UplinkError):
        for packet in mqtt.Packets().feed(data):
            mqtt.open_publish(*packet)
