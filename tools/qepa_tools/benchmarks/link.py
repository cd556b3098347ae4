"""The optical link's numerics: error correction, privacy amplification, and a block from detections to stored key.

Times are CPU seconds of one core, an end at a time as two machines would spend them. Beside them stands the machine's
own limit, taken in the same run: one random read for each bit of the block for error correction, the two real
transforms of the padded length that a convolution cannot do without for privacy amplification.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from math import log2
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy.fft
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from numpy.typing import NDArray

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.decoy import EpsilonBudget, SourceSettings
from qepa_qkd.distill_alice import AliceDistiller
from qepa_qkd.distill_bob import BobDistiller
from qepa_qkd.distillation import Environment, LinkSettings
from qepa_qkd.messages import Report, decode
from qepa_qkd.privacy_amplification import seed_bits, toeplitz_hash
from qepa_qkd.reconciliation import METHODS
from qepa_qkd.vault import Vault

from ..errors import ToolError

_T = TypeVar("_T")

QBER = 0.02
_BATCH = 100_000
_SETTINGS = LinkSettings(
    link="bench",
    source=SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3)),
    pulse_rate_hz=1e8,
    key_basis_probability=0.7,
    block_bits=1_000_000,
    qber_threshold=0.08,
    epsilon=EpsilonBudget(),
    proof="Lim2014",
)


class _Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], _T]) -> _T:
        start = time.process_time()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return result


def run() -> dict[str, Any]:
    """Rows: name, mbit_s (slower end), f (leak over the Shannon limit), exchanges (most), limit_ratio."""
    for method in METHODS:
        _correct(method, 2_000, 1)  # kernels compile here, outside the clock
    rows = [
        _best(_correct(method, n, seed) for seed in range(repetitions))
        for method, n, repetitions in (
            ("cascade", 10_000, 20),
            ("cascade", 100_000, 5),
            ("cascade", 1_000_000, 3),
            ("ldpc", 10_000, 3),
            ("ldpc", 100_000, 1),
        )
    ]
    rows += [_amplify(10**6, 3), _amplify(10**7, 1), _pipeline()]
    return {
        "benchmark": "link",
        "what": f"the link's numerics at QBER {100 * QBER:.0f} %, simulated bits, one core an end",
        "rows": rows,
    }


def _row(
    name: str, bits: int, seconds: float, f: Any = "", exchanges: Any = "", limit_s: float | None = None
) -> dict[str, Any]:
    ratio: Any = "" if limit_s is None else seconds / limit_s
    return {"name": name, "mbit_s": bits / seconds / 1e6, "f": f, "exchanges": exchanges, "limit_ratio": ratio}


def _best(rows: Any) -> dict[str, Any]:
    """The quietest repetition, with the mean leak and the most exchanges of all."""
    every = list(rows)
    best: dict[str, Any] = dict(max(every, key=lambda row: row["mbit_s"]))
    best["f"] = sum(row["f"] for row in every) / len(every)
    best["exchanges"] = max(row["exchanges"] for row in every)
    return best


def _correct(method: str, n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    wrong = (rng.random(n) < QBER).astype(np.uint8)
    key, clock, chosen = rng.bytes(16), _Clock(), METHODS[method]
    reference = clock.run("alice", lambda: chosen.reference(alice, key, QBER))
    corrector = clock.run("bob", lambda: chosen.corrector(alice ^ wrong, key, QBER))
    while True:
        question = clock.run("bob", corrector.request)
        if question is None:
            break
        told = clock.run("alice", partial(reference.answer, question))
        clock.run("bob", partial(corrector.receive, question, told))
    if not np.array_equal(corrector.bits, alice):
        raise ToolError(f"{method} left errors in a block of {n} bits (seed {seed})")
    order = rng.permutation(n)
    gather = min(_seconds(lambda: alice[order]) for _ in range(5))
    seconds = max(clock.seconds.values())
    return _row(
        f"{method}, {n:,} bits", n, seconds, reference.leak_bits / shannon_bits(wrong), corrector.exchanges, gather
    )


def shannon_bits(wrong: NDArray[np.uint8]) -> float:
    """Return n h(Q), the fewest bits that tell where the errors are: `wrong` is 1 where one is."""
    n, rate = len(wrong), float(wrong.mean())
    return n * -(rate * log2(rate) + (1 - rate) * log2(1 - rate))


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return max(time.process_time() - start, 1e-9)


def _amplify(n: int, repetitions: int) -> dict[str, Any]:
    length = 3 * n // 10
    rng = np.random.default_rng(n)
    bits, seed = rng.integers(0, 2, n, dtype=np.uint8), rng.integers(0, 2, seed_bits(n, length), dtype=np.uint8)
    seconds = min(_seconds(lambda: toeplitz_hash(bits, seed, length)) for _ in range(repetitions))
    padded = np.zeros(scipy.fft.next_fast_len(len(seed), real=True))
    limit = 2 * min(_seconds(lambda: scipy.fft.rfft(padded)) for _ in range(repetitions))
    return _row(f"Toeplitz, {n:,} to {length:,} bits", n, seconds, limit_s=limit)


def _pipeline() -> dict[str, Any]:
    """A block of a million key bits from detections to keys in two stores, both ends one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        secret, signer = InitialSecret.parse(os.urandom(4096)), MLDSA65PrivateKey.generate()
        vaults = {
            role: Vault(
                Path(directory) / f"{role}.db", Path(directory) / f"{role}.kek", secret, is_alice=role == "alice"
            )
            for role in ("alice", "bob")
        }
        environments = {
            role: Environment(_SETTINGS, vault, signer, os.urandom, time.time) for role, vault in vaults.items()
        }
        alice = AliceDistiller(environments["alice"])
        bob = BobDistiller(environments["bob"], np.random.default_rng())
        clock = _Clock()
        _fill(alice, bob, clock)
        for vault in vaults.values():
            vault.close()
    outcome = alice.outcomes[0]
    if not outcome.key_bits or outcome != bob.outcomes[0]:
        raise ToolError(f"the pipeline gave no key: {outcome.reason}")
    bits = _SETTINGS.block_bits
    return _row(f"detections to stored key, {bits:,} key bits", bits, max(clock.seconds.values()))


def _fill(alice: AliceDistiller, bob: BobDistiller, clock: _Clock) -> None:
    rng = np.random.default_rng(1)
    first = 0
    while not alice.outcomes:
        slots = np.arange(first, first + _BATCH, dtype=np.int64)
        first += _BATCH
        states, detectors = _detections(rng, _BATCH)
        said = clock.run("bob", partial(bob.report, 1, slots, detectors))
        queue = [("alice", data) for data in said]
        while queue:
            receiver, data = queue.pop(0)
            answers = clock.run(receiver, partial(_hear, alice, bob, receiver, data, states))
            queue += [("bob" if receiver == "alice" else "alice", answer) for answer in answers]


def _hear(alice: AliceDistiller, bob: BobDistiller, receiver: str, data: bytes, states: Any) -> list[bytes]:
    message = decode(data)
    if isinstance(message, Report):
        alice.on_report(message, data, states)
        return []
    return (alice if receiver == "alice" else bob).on_message(message, data)


def _detections(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """States that led to a click and the detectors that clicked: a channel of one percent, QBER in both bases."""
    source = _SETTINGS.source
    clicks = np.array([p * mu for mu, p in zip(source.intensities, source.probabilities, strict=True)])
    intensity = rng.choice(3, count, p=clicks / clicks.sum()).astype(np.uint8)
    tested = (rng.random((2, count)) > _SETTINGS.key_basis_probability).astype(np.uint8)
    value = rng.integers(0, 2, count, dtype=np.uint8)
    seen = np.where(tested[0] == tested[1], value ^ (rng.random(count) < QBER), rng.integers(0, 2, count))
    return intensity << 2 | tested[0] << 1 | value, (tested[1] << 1 | seen).astype(np.uint8)
