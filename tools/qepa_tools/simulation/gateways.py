"""``python -m qepa_tools.simulation.gateways TASK``: many gateway daemons in one process.

Each is the true daemon with its own core, its own spool on disk and its own connection to the broker. Optical links are
stood in for; the bedside page and a process for each are missing.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from qepa_gateway.clock import SteadyClock, wall_ms
from qepa_gateway.config import Config, load_config, load_trusted
from qepa_gateway.core import Gateway
from qepa_gateway.daemon import Daemon
from qepa_gateway.mqtt.transport import MqttTransport
from qepa_gateway.spool.database import Spool

from .meter import MeteredTransport, RoundTraffic
from .plan import SimulationPlan
from .programs import log_to_stderr, read_task, until_told
from .stand_in_keys import StandInKeys

_LOG = logging.getLogger(__name__)
_BACK_AFTER_S = 3.0  # beyond the time that its round can take


class Site:
    """One gateway: it runs, and when its plan says so it loses power and starts again from its spool."""

    def __init__(self, config: Config, plan: SimulationPlan, keys: StandInKeys) -> None:
        self._config = config
        self._trusted = load_trusted(config, now_s=time.time())
        self._plan = plan
        self._keys = keys
        self._died_in: set[int] = set()
        self.rounds: dict[int, RoundTraffic] = {}
        self.refused: dict[str, int] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._live()
            _LOG.info("%s lost power", self._config.name)
            await asyncio.sleep(self._plan.collect_within_s + self._plan.settle_within_s + _BACK_AFTER_S)

    async def _live(self) -> None:
        """Run from power on to power off."""
        config, power_off = self._config, asyncio.Event()
        clock = SteadyClock()
        spool = Spool.open(config.state_dir)
        try:
            gateway = Gateway(
                self._trusted,
                spool,
                clock,
                min_group=config.min_group,
                limits=config.spool.limits(),
                model_terms=config.model_rollout.terms(),
            )
            broker = MqttTransport(config.name, config.broker.host, config.broker.port)
            transport = MeteredTransport(broker, config.name, self.rounds, wall_ms, self._dies_in, power_off.set)
            daemon = asyncio.create_task(Daemon(gateway, transport, self._keys, clock=clock).run())
            waiting = asyncio.create_task(power_off.wait())
            try:
                await asyncio.wait({daemon, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (daemon, waiting):
                    task.cancel()
                await asyncio.gather(daemon, waiting, return_exceptions=True)
                for name, count in gateway.refusals.snapshot().items():
                    self.refused[name] = self.refused.get(name, 0) + count
            if not daemon.cancelled():
                daemon.result()
        finally:
            spool.close()

    def _dies_in(self, round_: int) -> bool:
        if round_ in self._died_in or self._config.name not in self._plan.dead_in(round_):
            return False
        self._died_in.add(round_)
        return True


async def _run(sites: Sequence[Site]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for site in sites:
            tasks.create_task(site.run())


def _document(sites: Mapping[str, Site]) -> dict[str, object]:
    return {
        name: {
            "refused": site.refused,
            "rounds": {str(number): asdict(traffic) for number, traffic in sorted(site.rounds.items())},
        }
        for name, site in sites.items()
    }


def main() -> None:
    """Run until SIGTERM, then write what was counted."""
    log_to_stderr()
    plan, task = read_task(Path(sys.argv[1]))
    keys = StandInKeys(bytes.fromhex(task["secret"]))
    sites = {}
    for path in task["configs"]:
        config = load_config(Path(path))
        sites[config.name] = Site(config, plan, keys)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_told(_run(list(sites.values())), pid=os.getpid()))
    Path(task["traffic"]).write_text(json.dumps(_document(sites)))


if __name__ == "__main__":
    main()
