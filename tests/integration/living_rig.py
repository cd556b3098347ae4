"""What a daemon at the bedside has around it, in memory: a server behind a broker, Bob's KME, a clock that goes."""

import asyncio
import time

from qepa_gateway.errors import KeyUnavailable
from qepa_uplink.topics import to_gateway, to_server

from ..unit.gateway.bedside_rig import Rig


class LivingRig(Rig):
    """Its clock goes."""

    @property
    def now_ms(self):
        return 1_700_000_000_000 + time.monotonic_ns() // 1_000_000

    @now_ms.setter
    def now_ms(self, _):
        pass


class ToServer:
    """The broker with the server behind it, in memory."""

    faults = ()

    def __init__(self, rig):
        self._rig = rig

    async def run(self, receive):
        self._receive = receive
        await asyncio.Event().wait()

    def publish(self, message):
        if message.topic == to_server("gw-1"):
            self._rig.server.receive("gw-1", message.payload)
        self.deliver()

    def deliver(self):
        """What the server has said goes to the gateway now."""
        queue, self._rig.queue = self._rig.queue, []
        for each in queue:
            if each.topic == to_gateway("gw-1"):
                self._receive(each.topic, each.payload)

    async def recover(self, step):
        pass


class Keys:
    """Bob's KME."""

    def __init__(self, kme):
        self._kme = kme

    async def fetch(self, key_id):
        found = self._kme.fetch(key_id)
        if isinstance(found, str):
            raise KeyUnavailable(found)
        return found

    async def link_status(self):
        raise KeyUnavailable("kme_down")

    async def close(self):
        pass
