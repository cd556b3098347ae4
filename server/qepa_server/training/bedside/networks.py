"""The networks, small enough for a Raspberry Pi beside thirty boards. Keras is loaded when one is built."""

from collections.abc import Callable
from typing import Any

Network = Any  # a keras.Model; Keras is no dependency of the server that runs
Build = Callable[[], Network]


def beats_network(leads: tuple[int, int], rhythm: int, classes: int) -> Network:
    """Convolutions over the leads of one beat, then a layer that sees what they found and the rhythm; softmax."""
    import keras  # noqa: PLC0415

    layers = keras.layers
    wave = keras.Input(leads, name="leads")
    numbers = keras.Input((rhythm,), name="rhythm")
    x = wave
    for filters, width in ((16, 9), (24, 7), (32, 5), (32, 3)):
        x = layers.Conv1D(filters, width, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(layers.AveragePooling1D(2)(x))
    x = layers.Dropout(0.4)(x)
    x = layers.Dense(24, activation="relu")(x)
    y = layers.Dense(24, activation="relu")(numbers)
    z = layers.Concatenate()([x, y])
    z = layers.Dropout(0.3)(z)
    z = layers.Dense(24, activation="relu")(z)
    return keras.Model([wave, numbers], layers.Dense(classes, activation="softmax")(z))


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
