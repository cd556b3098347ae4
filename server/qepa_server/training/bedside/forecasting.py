"""Fitting the network that says how glucose will change, and whether it falls low; the same seed, the same network."""

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.bedside_models import CHANGE_MG_DL, LOG_ODDS

from .fitting import Epochs, TrainSettings
from .networks import Build, Network

Real = NDArray[np.float32]


def fit_forecast(
    build: Build,
    inputs: Real,
    changes: Real,
    low: NDArray[np.bool_],
    weights: Real,
    settings: TrainSettings,
    *,
    epochs: Epochs = range,
) -> Network:
    """Return a network of least squared error of the change and least cross entropy of low, in the contract's units.

    changes: mg/dL. low: whether a low reading came. weights: chances of being drawn, in any unit.

    Two outputs, since a mean foretells lows badly: where they are rare, it stays above them.
    """
    import keras  # noqa: PLC0415

    def loss(targets: object, answers: object) -> object:
        ops = keras.ops
        squared = ops.square(targets[:, 0] - answers[:, 0])  # type: ignore[index]
        odds = LOG_ODDS * answers[:, 1]  # type: ignore[index]
        # log(1 + exp(-|x|)) + max(x, 0) - x y: cross entropy that cannot overflow
        entropy = ops.log1p(ops.exp(-ops.abs(odds))) + ops.relu(odds) - odds * targets[:, 1]  # type: ignore[index]
        return squared + 0.5 * entropy

    keras.utils.set_random_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = build()
    batches = -(-settings.draw // settings.batch) * settings.epochs
    rate = keras.optimizers.schedules.CosineDecay(settings.rate, batches)
    network.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, steps_per_execution=16)
    chances = np.cumsum(weights, dtype=np.float64)
    targets = np.column_stack([changes / CHANGE_MG_DL, low]).astype(np.float32)
    for _ in epochs(settings.epochs):
        drawn = np.searchsorted(chances, rng.random(settings.draw) * chances[-1], side="right")
        network.fit(inputs[drawn], targets[drawn], batch_size=settings.batch, epochs=1, verbose=0, shuffle=False)
    return network
