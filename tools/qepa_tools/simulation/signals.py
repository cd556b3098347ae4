"""What simulated boards measure and learn, invented, of the seed alone; and noise, drawn ahead in idle time."""

import random

import numpy as np

from qepa_wire.discrete_gaussian import DiscreteGaussian
from qepa_wire.keystream import STREAM_STATISTICS
from qepa_wire.quantizer import clip_l2
from qepa_wire.statistics import FIRST_BIN, HR_EDGES_BPM, WORDS

_UPDATE_LIMIT = 4096  # what boards clip an update to unasked: DELTA_NORM_LIMIT of the firmware
_AT_A_TIME = 256


class Signals:
    """Heart rates around one of each board's own; updates that agree in part, as those of learners do."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def values(self, board: int, round_: int, stream: int, n_words: int) -> list[int]:
        """Return the values of a board in a round, before clipping, quantizing and noise."""
        rng = np.random.default_rng([self._seed, board, round_, stream])
        if stream == STREAM_STATISTICS:
            return self._statistics(rng, board)[:n_words]
        common = np.random.default_rng([self._seed, round_]).integers(-60, 61, n_words)
        update: list[int] = (common + rng.integers(-200, 201, n_words)).tolist()
        return list(clip_l2(update, _UPDATE_LIMIT))

    def _statistics(self, rng: np.random.Generator, board: int) -> list[int]:
        own = np.random.default_rng([self._seed, board]).normal(75, 12)
        hr = int(np.clip(rng.normal(own, 3), 30, 220))
        words = [1, hr, hr * hr, hr, 50, 40, 60_000 // hr - 60, 60_000 // hr + 60] + [0] * (WORDS - FIRST_BIN)
        words[FIRST_BIN + sum(hr >= edge for edge in HR_EDGES_BPM)] = 1
        return words


class NoiseStock:
    """Shares of discrete Gaussian noise by the firmware's exact sampler, drawn ahead by :meth:`fill`."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(f"noise {seed}").getrandbits  # noqa: S311 (simulated: it hides nobody's data)
        self._stock: dict[int, list[int]] = {}
        self._wanted: dict[int, int] = {}

    def take(self, noise_q8: int, n_words: int) -> list[int]:
        """Return ``n_words`` draws; what is not in stock is drawn now."""
        stock = self._stock.setdefault(noise_q8, [])
        self._wanted[noise_q8] = self._wanted.get(noise_q8, 0) + n_words
        taken = [stock.pop() for _ in range(min(n_words, len(stock)))]
        sampler = DiscreteGaussian(noise_q8, self._bits)
        return taken + [sampler.sample() for _ in range(n_words - len(taken))]

    def fill(self) -> bool:
        """Draw a few of what was taken before; returns whether more is to be drawn."""
        for noise_q8, wanted in self._wanted.items():
            stock = self._stock[noise_q8]
            if len(stock) < wanted:
                sampler = DiscreteGaussian(noise_q8, self._bits)
                stock += [sampler.sample() for _ in range(min(_AT_A_TIME, wanted - len(stock)))]
                return True
            self._wanted[noise_q8] = 0
        return False
