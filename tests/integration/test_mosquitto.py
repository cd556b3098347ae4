"""The real mosquitto with the configuration we write: every client gets its own topics and nothing else."""

import asyncio
import contextlib
import getpass
import json
import shutil
import ssl

import aiomqtt
import pytest

from qepa_gateway.mosquitto.command import write_broker
from qepa_gateway.mosquitto.configuration import Site
from qepa_gateway.mqtt.transport import MqttTransport
from qepa_gateway.transport import Outgoing
from qepa_server.config import load
from qepa_server.mqtt import BrokerLink
from qepa_tools.ward.ports import free_port
from qepa_uplink.topics import to_gateway, to_server
from qepa_wire.topics import board_down, board_up

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="NOT TESTED: mosquitto is not installed")
PATIENCE_S = 60


class Broker:
    """mosquitto on a folder."""

    def __init__(self, folder):
        self.folder, self.port, self.local_port = folder, free_port(), free_port()
        sites = [Site("gw-1", (1, 2)), Site("gw-2", (3,))]
        write_broker(folder, sites, address="localhost", port=self.port, local_port=self.local_port)

    async def __aenter__(self):
        conf = self.folder / "test.conf"
        # Started by root it would become another user, who may not read the secrets.
        conf.write_text((self.folder / "mosquitto.conf").read_text() + f"user {getpass.getuser()}\n")
        self.process = await asyncio.create_subprocess_exec(
            MOSQUITTO, "-c", str(conf), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return self
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_):
        self.process.terminate()
        await self.process.wait()

    def login(self, user):
        return json.loads((self.folder / "clients" / f"{user}.json").read_text())

    def client(self, user, **changes):
        """A client as a board is one: over TLS, with what its file says."""
        login = self.login(user)
        settings = {"username": login["user"], "password": login["password"]} | changes
        return aiomqtt.Client(
            "localhost",
            login["port"],
            tls_context=ssl.create_default_context(cadata=login["tls"]["ca"]),
            timeout=PATIENCE_S,
            **settings,
        )


@contextlib.asynccontextmanager
async def gateway(broker):
    """gw-1 by its own transport, over loopback; yields what it received and the transport."""
    login = broker.login("gw-1")
    transport = MqttTransport(
        "gw-1", "127.0.0.1", broker.local_port, username=login["user"], password=login["password"]
    )
    received = asyncio.Queue()
    task = asyncio.create_task(transport.run(lambda *message: received.put_nowait(message)))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while transport.faults:
                await asyncio.sleep(0.02)
        yield received, transport
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def following(queue):
    return await asyncio.wait_for(queue.get(), PATIENCE_S)


async def forge(broker, user, *topics):
    """Publish where one may not; the broker has judged it when this returns. Some versions then hang up."""
    for topic in topics:
        with contextlib.suppress(aiomqtt.MqttError):
            async with broker.client(user) as client:
                await client.publish(topic, b"forged", qos=1)


async def test_a_board_publishes_on_its_own_topic_alone(tmp_path):
    async with Broker(tmp_path) as broker, gateway(broker) as (received, _):
        own = board_up("gw-1", 1)
        others = board_up("gw-1", 2), board_down("gw-1", 1), to_gateway("gw-1"), to_server("gw-1"), own + "/x"
        await forge(broker, "board-00000001", *others)
        async with broker.client("board-00000001") as board:
            await board.publish(own, b"true", qos=1)
        assert await following(received) == (own, b"true")
        assert received.empty()


async def test_a_board_receives_on_its_own_topic_alone(tmp_path):
    async with (
        Broker(tmp_path) as broker,
        gateway(broker) as (received, transport),
        broker.client("board-00000001") as board,
        broker.client("board-00000002") as other,
    ):
        for topic in ("#", "qepa/1/board/gw-1/+/up", board_down("gw-1", 2), board_up("gw-1", 1), "$SYS/#"):
            with contextlib.suppress(aiomqtt.MqttError):  # refused at once, or taken and nothing comes
                await board.subscribe(topic)
        await board.subscribe(board_down("gw-1", 1))
        await other.subscribe(board_down("gw-1", 2))
        transport.publish(Outgoing(board_down("gw-1", 2), b"not yours", 1))
        assert (await asyncio.wait_for(anext(aiter(other.messages)), PATIENCE_S)).payload == b"not yours"
        await other.publish(board_up("gw-1", 2), b"nor this", qos=1)
        assert await following(received) == (board_up("gw-1", 2), b"nor this")
        transport.publish(Outgoing(board_down("gw-1", 1), b"yours", 1))
        assert (await asyncio.wait_for(anext(aiter(board.messages)), PATIENCE_S)).payload == b"yours"


@pytest.mark.parametrize("tls", [False, True], ids=["loopback", "tls"])
async def test_the_server_gets_in_by_its_own_configuration(tmp_path, tls):
    async with Broker(tmp_path) as broker, gateway(broker) as (received, transport):
        clients = broker.folder / "clients"
        door = [
            f'host = "localhost"\nport = {broker.login("server")["port"]}\nca = "{broker.folder / "ca.pem"}"'
            if tls
            else f'host = "127.0.0.1"\nport = {broker.local_port}',
            f'username = "server"\npassword_file = "{clients / "server.password"}"',
        ]
        (tmp_path / "server.toml").write_text(
            'state_dir = "s"\nidentity = "i"\nroot_key = "r"\n[broker]\n' + "\n".join(door)
        )
        link = BrokerLink(load(tmp_path / "server.toml").broker, client_id="qepa-server")
        heard = asyncio.Queue()
        task = asyncio.create_task(link.run(lambda *message: heard.put_nowait(message)))
        try:
            async with asyncio.timeout(PATIENCE_S):
                while heard.empty():  # until it has subscribed
                    transport.publish(Outgoing(to_server("gw-1"), b"to the server", 1))
                    await asyncio.sleep(0.05)
            assert heard.get_nowait() == ("gw-1", b"to the server")
            link.send("gw-1", b"from the server")
            assert await following(received) == (to_gateway("gw-1"), b"from the server")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_gateways_and_server_reach_each_other_and_no_gateway_is_another(tmp_path):
    async with (
        Broker(tmp_path) as broker,
        gateway(broker) as (received, transport),
        broker.client("server") as server,
    ):
        await server.subscribe("qepa/1/server/+")
        await server.publish(to_gateway("gw-1"), b"from the server", qos=1)
        assert await following(received) == (to_gateway("gw-1"), b"from the server")
        await forge(broker, "gw-2", to_server("gw-1"), board_up("gw-1", 1))
        async with broker.client("gw-2") as peer:
            await peer.publish(to_gateway("gw-1"), b"pair offer", qos=1)
        assert await following(received) == (to_gateway("gw-1"), b"pair offer")
        transport.publish(Outgoing(to_server("gw-1"), b"status", 1))
        message = await asyncio.wait_for(anext(aiter(server.messages)), PATIENCE_S)
        assert (message.topic.value, message.payload) == (to_server("gw-1"), b"status")


@pytest.mark.parametrize(
    "changes",
    [{"username": None, "password": None}, {"password": "wrong"}, {"username": "board-00000002"}, {"username": "root"}],
)
async def test_without_its_own_credentials_nobody_comes_in(tmp_path, changes):
    async with Broker(tmp_path) as broker:
        with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed"):
            async with broker.client("board-00000001", **changes):
                pass


async def test_nobody_takes_anothers_session_by_his_client_identifier(tmp_path):
    async with Broker(tmp_path) as broker, broker.client("board-00000001", identifier="board-1") as board:
        await board.subscribe(board_down("gw-1", 1))
        async with broker.client("board-00000002", identifier="board-1") as thief, gateway(broker) as (_, transport):
            await thief.publish(board_up("gw-1", 2), b"", qos=1)
            transport.publish(Outgoing(board_down("gw-1", 1), b"still here", 1))
            message = await asyncio.wait_for(anext(aiter(board.messages)), PATIENCE_S)
            assert message.payload == b"still here"


async def test_a_client_that_does_not_trust_the_broker_says_nothing(tmp_path):
    async with Broker(tmp_path) as broker:
        login = broker.login("board-00000001")
        client = aiomqtt.Client(
            "localhost", login["port"], username=login["user"], password=login["password"],
            tls_context=ssl.create_default_context(), timeout=PATIENCE_S,
        )  # fmt: skip
        with pytest.raises((aiomqtt.MqttError, ssl.SSLError)):
            async with client:
                pass


async def test_asked_to_recover_the_transport_connects_anew(tmp_path):
    from qepa_gateway.domain.silence import Step

    async with Broker(tmp_path) as broker, gateway(broker) as (received, transport):
        await transport.recover(Step.RESCAN)
        async with asyncio.timeout(PATIENCE_S):
            while not transport.faults:
                await asyncio.sleep(0.001)
            while transport.faults:
                await asyncio.sleep(0.02)
        async with broker.client("board-00000001") as board:
            await board.publish(board_up("gw-1", 1), b"again", qos=1)
        assert await following(received) == (board_up("gw-1", 1), b"again")
