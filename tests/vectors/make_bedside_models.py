"""Tiny models of the right shapes that know nothing, for tests: `python tests/vectors/make_bedside_models.py`."""

from pathlib import Path

import keras
import numpy as np

from qepa_server.training.bedside.export import to_int8
from qepa_uplink.bedside_models import ACTIVITY, CONTRACTS, ECG_QUALITY


def blob(name: str, seed: int) -> bytes:
    """A model of the contract ``name`` with random weights."""
    keras.utils.set_random_seed(seed)
    contract = CONTRACTS[name]
    inputs = keras.Input(contract.input_shapes[0][1:])
    pooled = keras.layers.GlobalAveragePooling1D()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(len(contract.outputs), activation="softmax")(pooled))
    return to_int8(network, [np.random.default_rng(seed).normal(size=(8, *contract.input_shapes[0][1:]))])


if __name__ == "__main__":
    for name, seed in ((ECG_QUALITY, 1), (ECG_QUALITY, 2), (ACTIVITY, 3)):
        Path(__file__).with_name(f"{name}-{seed}.tflite").write_bytes(blob(name, seed))
