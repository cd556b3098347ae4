"""A link without processes: bench optics, both distillers and both stores, messages passed by hand."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.decoy import EpsilonBudget, SourceSettings
from qepa_qkd.distill_alice import AliceDistiller
from qepa_qkd.distill_bob import BobDistiller
from qepa_qkd.distillation import Environment, LinkSettings
from qepa_qkd.messages import Report, decode
from qepa_qkd.vault import Vault
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings

Wire = Callable[[str, bytes], bytes | None]
"""Takes (receiver, message), returns what arrives; None is nothing."""

SETTINGS = LinkSettings(
    link="test",
    source=SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3)),
    pulse_rate_hz=1e6,
    key_basis_probability=0.7,
    block_bits=120_000,
    qber_threshold=0.08,
    epsilon=EpsilonBudget(),
    proof="Lim2014",
)


class MemoryLink:
    """Both ends in one place. `wire` may change or drop what one end says to the other."""

    def __init__(self, directory: Path, bench: BenchSettings, seed: int = 1, settings: LinkSettings = SETTINGS) -> None:
        self.settings = settings
        self.optics = OpticalBench(bench, PulseSettings(), np.random.default_rng(seed))
        self.offset = bench.slot_offset
        self.random_bytes = np.random.default_rng([seed, 1]).bytes  # a block that fails, fails again
        self.secret = InitialSecret.parse(self.random_bytes(4096))
        self.signer = MLDSA65PrivateKey.generate()
        self.vaults = {
            role: Vault(directory / f"{role}.db", directory / f"{role}.kek", self.secret, is_alice=role == "alice")
            for role in ("alice", "bob")
        }
        self.wire: Wire = lambda _, data: data
        self.connect()

    def connect(self) -> None:
        alice, bob = (
            Environment(self.settings, self.vaults[role], self.signer, self.random_bytes, lambda: 1.7e9)
            for role in ("alice", "bob")
        )
        self.alice = AliceDistiller(alice)
        self.bob = BobDistiller(bob, np.random.default_rng(5))

    def run_block(self) -> None:
        """Send pulses until a block has ended at both ends, or at one and the other waits for nothing any more."""
        while not (self.alice.outcomes or self.bob.outcomes):
            slots, detectors = self.optics.advance(200_000)
            if not self.deliver([("alice", m) for m in self.bob.report(1, slots, detectors)]):
                return

    def deliver(self, queue: list[tuple[str, bytes]]) -> bool:
        """Pass messages on until nobody has more to say; return whether all arrived."""
        arrived = True
        while queue:
            receiver, sent = queue.pop(0)
            data = self.wire(receiver, sent)
            if data is None:
                arrived = False
            elif isinstance(message := decode(data), Report):
                states = self.optics.states(np.maximum(message.slots - self.offset, 0))
                self.alice.on_report(message, data, states)
            else:
                end, other = (self.alice, "bob") if receiver == "alice" else (self.bob, "alice")
                queue += [(other, answer) for answer in end.on_message(message, data)]
        return arrived

    def close(self) -> None:
        for vault in self.vaults.values():
            vault.close()


@pytest.fixture
def make_link(tmp_path: Path) -> Iterator[Callable[..., MemoryLink]]:
    links: list[MemoryLink] = []

    def make(proof: str = SETTINGS.proof, reconciliation: str = "cascade", **bench: float) -> MemoryLink:
        settings = replace(SETTINGS, proof=proof, reconciliation=reconciliation)
        directory = tmp_path / str(len(links))
        links.append(MemoryLink(directory, BenchSettings(**bench), settings=settings))  # type: ignore[arg-type]
        return links[-1]

    yield make
    for link in links:
        link.close()
