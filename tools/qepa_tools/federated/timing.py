"""What a round of a ward costs, step by step, beside what this machine's AES allows and beside averaging alone."""

import random
from collections.abc import Callable

import numpy as np

from qepa_server.planning import plan_rounds
from qepa_server.unmask.opening import OpenedSum, warm_up
from qepa_wire.lighthe import vector_bytes

from ..attacks.batch_learning import local_updates
from ..attacks.ward import SimulatedWard
from ..benchmarks.machine import aes256_ctr_bytes_per_s
from ..benchmarks.timing import median_s
from ..recordings.table import Table
from .boards import board_words, exact_noise
from .sealed import SealedWard, Terms
from .training import Course

_BLOCK = 16


def timing_table(ward: SimulatedWard, course: Course, at_least_s: float = 0.05) -> Table:
    """Return CPU milliseconds of each step of one round for all boards together; ``course`` asks for noise.

    Each figure is the median of five measurements of ``at_least_s``.
    """
    plan = plan_rounds(course.config)
    spec, learning, boards = plan.streams[1], course.learning, len(ward.names)
    terms = Terms(round=1, model=1, spec=spec, n_max=plan.n_max, min_group=plan.min_group)
    sealing = SealedWard(ward.names, ward.gateways, np.random.default_rng(1))
    join = learning.join(np.random.default_rng(1))
    bits = random.Random(1).getrandbits  # noqa: S311  # it is timed, not sent
    start = course.start or (0,) * spec.n_words
    warm_up()
    updates = local_updates(np.array([start], np.int32), ward.beats[0], ward.labels[:1])[0]
    words = board_words(updates, spec, plan.n_max)
    sent = words + exact_noise(words.shape, spec.noise_q8, bits)
    sealed = sealing.seal(sent, terms)
    stripped = sealing.strip(sealed, terms)
    cells = ward.cells(1, 1, course.cell_target, course.min_group, set())
    partials = sealing.add(stripped, cells, terms)
    opened = [found for found in sealing.open(partials, terms) if isinstance(found, OpenedSum)]

    def learn() -> None:
        means = np.array([np.asarray(found.total, np.float64) / len(found.boards) for found in opened])
        course.rule.apply(start, join(means))

    steps: list[tuple[str, str, Callable[[], object], float]] = [
        ("local learning, all boards at once", "boards", lambda: local_updates(
            np.array([start], np.int32), ward.beats[0], ward.labels[:1]), 0),
        ("clip and quantize", "boards", lambda: board_words(updates, spec, plan.n_max), 0),
        ("discrete Gaussian noise", "boards", lambda: exact_noise(words.shape, spec.noise_q8, bits), 0),
        ("seal: two masks, check values", "boards", lambda: sealing.seal(sent, terms), 2),
        ("strip link masks", "gateways", lambda: sealing.strip(sealed, terms), 1),
        ("add, pair masks", "gateways", lambda: sealing.add(stripped, cells, terms), 0),
        ("open: end masks, checks, range", "server", lambda: sealing.open(partials, terms), 1),
        ("robust rule and learning rule", "server", learn, 0),
    ]  # fmt: skip
    keystream = -(-vector_bytes(spec.n_words) // _BLOCK) * _BLOCK * boards / aes256_ctr_bytes_per_s()
    rows, total = [], 0.0
    for name, who, step, masks in steps:
        seconds = median_s(step, repetitions=5, at_least_s=at_least_s)
        total += seconds
        rows.append([name, who, f"{1e3 * seconds:.1f}", f"{seconds / (masks * keystream):.0f}" if masks else ""])

    def averaged() -> None:
        course.rule.apply(start, updates.astype(np.float64).mean(axis=0))

    alone = median_s(averaged, repetitions=5, at_least_s=at_least_s)
    rows.append(["all of a round", "", f"{1e3 * total:.1f}", ""])
    rows.append(["averaging in the clear (FedAvg) alone", "", f"{1e3 * alone:.2f}", ""])
    return Table(
        title=f"One round of {boards} patients, {len(ward.beats[0][0])} beats a board at most, CPU ms of one core",
        columns=["step", "done by", "ms", "times the AES of its masks"],
        rows=rows,
        notes=["In a hospital each board does its own part, at the same time as the others."],
    )
