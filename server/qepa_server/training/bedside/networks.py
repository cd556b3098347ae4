"""The networks, small enough for a Raspberry Pi beside thirty boards. Keras is loaded when one is built."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Network = Any  # a keras.Model; Keras is no dependency of the server that runs
Build = Callable[[], Network]


def beats_network(leads: tuple[int, int], numbers: int, linear: NDArray[np.float64]) -> Network:
    """A softmax regression on numbers, fitted before and held fast, and convolutions over the leads that mend it.

    linear: coefficients, a row a class, the bias last. With few people to learn from, what is simple goes first: the
    convolutions begin at nothing and see waveforms alone.
    """
    import keras  # noqa: PLC0415

    layers = keras.layers
    wave, given = keras.Input(leads, name="leads"), keras.Input((numbers,), name="numbers")
    x = wave
    for filters, width in ((12, 9), (16, 7), (24, 5), (24, 3)):
        x = layers.Conv1D(filters, width, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(layers.AveragePooling1D(2)(x))
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(16, activation="relu")(x)
    x = layers.Dropout(0.3)(x)
    mended = layers.Dense(len(linear), kernel_initializer="zeros")(x)
    first = layers.Dense(len(linear), trainable=False)
    scores = layers.Add()([first(given), mended])
    first.set_weights([linear[:, :-1].T, linear[:, -1]])
    return keras.Model([wave, given], layers.Softmax()(scores))


def quality_network(length: int, classes: int) -> Network:
    """Convolutions over seconds of one lead, what they found anywhere in it, softmax."""
    import keras  # noqa: PLC0415

    layers = keras.layers
    wave = keras.Input((length, 1), name="lead")
    x = wave
    for filters, width in ((8, 9), (16, 7), (24, 5), (32, 5)):
        x = layers.Conv1D(filters, width, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model(wave, layers.Dense(classes, activation="softmax")(x))


def motion_network(shape: tuple[int, int], classes: int) -> Network:
    """Convolutions over seconds of motion; where in the window something happened counts; softmax."""
    import keras  # noqa: PLC0415

    layers = keras.layers
    motion = keras.Input(shape, name="motion")
    x = motion
    for filters, width in ((16, 5), (32, 5), (32, 3)):
        x = layers.Conv1D(filters, width, strides=2, padding="same", activation="relu")(x)
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    x = layers.Dropout(0.3)(layers.Dense(32, activation="relu")(x))
    return keras.Model(motion, layers.Dense(classes, activation="softmax")(x))


def forecast_network(shape: tuple[int, int], outputs: int) -> Network:
    """Two layers over all readings at once; numbers."""
    import keras  # noqa: PLC0415

    layers = keras.layers
    readings = keras.Input(shape, name="readings")
    x = layers.Flatten()(readings)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(readings, layers.Dense(outputs)(x))
