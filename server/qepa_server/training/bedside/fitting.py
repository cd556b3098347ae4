"""Fitting a network to weighted examples, each epoch a fresh draw of them: the same seed gives the same network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .networks import Build, Network

Real = NDArray[np.float32]
Inputs = Sequence[Real]
Alter = Callable[[list[Real], np.random.Generator], list[Real]]
Epochs = Callable[[int], Iterable[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """draw: examples of one epoch, drawn with replacement in proportion to their weights."""

    epochs: int = 20
    draw: int = 12_000
    batch: int = 64
    rate: float = 2e-3
    smoothing: float = 0.02
    seed: int = 1


def unaltered(inputs: list[Real], _rng: np.random.Generator) -> list[Real]:
    """Train on examples as they are."""
    return inputs


def fit_classes(
    build: Build,
    inputs: Inputs,
    targets: NDArray[np.int64],
    weights: NDArray[np.float32],
    settings: TrainSettings,
    *,
    alter: Alter = unaltered,
    epochs: Epochs = range,
) -> Network:
    """Return a network that tells classes apart. weights: chances of being drawn, in any unit.

    alter: what is done to the examples of an epoch before they are learnt. epochs: shows how far it is.
    """
    import keras  # noqa: PLC0415

    keras.utils.clear_session()  # layers are numbered anew, and their names are in the exported file
    keras.utils.set_random_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = build()
    batches = -(-settings.draw // settings.batch) * settings.epochs
    network.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings.rate, batches)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.smoothing),
    )
    chances = np.cumsum(weights, dtype=np.float64)
    one_hot = np.eye(network.output_shape[-1], dtype=np.float32)[targets]
    for _ in epochs(settings.epochs):
        drawn = np.searchsorted(chances, rng.random(settings.draw) * chances[-1], side="right")
        examples = alter([each[drawn] for each in inputs], rng)
        network.fit(
            _one_or_many(examples), one_hot[drawn], batch_size=settings.batch, epochs=1, verbose=0, shuffle=False
        )
    return network


def answers(network: Network, inputs: Inputs) -> Real:
    """The network's own output, float, for many examples."""
    result: Real = np.asarray(network.predict(_one_or_many(list(inputs)), batch_size=1024, verbose=0), dtype=np.float32)
    return result


def _one_or_many(inputs: list[Real]) -> list[Real] | Real:
    """As Keras wants the inputs of a network with one, or with several."""
    return inputs if len(inputs) > 1 else inputs[0]
