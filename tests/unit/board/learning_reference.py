"""Two independent ways to learn as qepa_board.learning documents it: numpy to the word, and floating point.

Neither shares code with the board. Models are flat; `layers` gives their matrices, the bias last in each row.
"""

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]
Floats = NDArray[np.float64]


def layers(words: NDArray[Any], f: int, h: int, c: int) -> list[NDArray[Any]]:
    """Matrices of units x (inputs + 1), views of words."""
    if h == 0:
        return [words.reshape(c, f + 1)]
    first = h * (f + 1)
    return [words[:first].reshape(h, f + 1), words[first:].reshape(c, h + 1)]


def exact_softmax_q15(scores: Words) -> Words:
    """Probabilities by network.py's table rule, its table from exact arithmetic on the documented recurrence."""
    table = [1 << 30]
    while len(table) < 385:
        table.append((table[-1] * 1040705990 + (1 << 29)) >> 30)
    exp = np.array([(value + (1 << 14)) >> 15 for value in table], np.int64)
    below = ((scores.max() >> 1) - (scores >> 1)) >> 9
    step = np.minimum(below >> 5, 384)
    nearer, farther = exp[step], exp[np.minimum(step + 1, 384)]
    e = np.where(step == 384, 0, nearer - ((nearer - farther) * (below & 31) >> 5))
    return np.where(e > 0, e * 32767 // e.sum() + 1, 0)


def forward(words: Words, x: Words, shape: tuple[int, int, int]) -> tuple[list[Words], Words]:
    """(inputs of each layer with the bias's 256, class scores in Q20)."""
    *hidden, last = layers(words, *shape)
    inputs = [np.append(x, 256)]
    for matrix in hidden:
        inputs.append(np.append(np.clip((matrix @ inputs[-1] + 2048) >> 12, 0, 1024), 256))
    return inputs, last @ inputs[-1]


def local_delta(
    words: Words, beats: list[Words], labels: list[int], shape: tuple[int, int, int], norm_limit: int, epochs: int = 2
) -> Words:
    """The delta of Learner.local_update, to the word."""
    local = words.copy()
    for x, label in [pair for _ in range(epochs) for pair in zip(beats, labels, strict=True)]:
        if not 0 <= label < shape[2]:
            continue
        inputs, scores = forward(local, x, shape)
        error = exact_softmax_q15(scores) - 32768 * (np.arange(shape[2]) == label)
        error[np.abs(error) < 32] = 0
        errors = [error]
        matrices = layers(local, *shape)
        if shape[1]:
            unit = inputs[1][:-1]
            back = (((error + 4) >> 3) @ matrices[1][:, :-1] + 256) >> 9
            errors.insert(0, np.where((unit > 0) & (unit < 1024), back, 0))
        for matrix, e, layer_input in zip(matrices, errors, inputs, strict=True):
            matrix[:] -= (np.outer(e, layer_input) + (1 << 15)) >> 16
        np.clip(local, -32767, 32767, out=local)
    delta = np.clip(local - words, -1024, 1024)
    square = int(delta @ delta)
    if square <= norm_limit * norm_limit:
        return delta
    norm = isqrt(square) + (isqrt(square) ** 2 < square)
    return np.sign(delta) * (np.abs(delta) * norm_limit // norm)


def float_loss(weights: Floats, x: Floats, label: int, shape: tuple[int, int, int]) -> float:
    """Cross-entropy of one beat in real numbers: features and weights with 1.0 as 1.0."""
    *hidden, last = layers(weights, *shape)
    inputs = np.append(x, 1.0)
    for matrix in hidden:
        inputs = np.append(np.clip(matrix @ inputs, 0.0, 4.0), 1.0)
    scores = last @ inputs
    return float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])


def float_gradient(weights: Floats, x: Floats, label: int, shape: tuple[int, int, int]) -> Floats:
    """Gradient of float_loss by the chain rule; tests hold it against differences of the loss."""
    matrices = layers(weights, *shape)
    inputs = [np.append(x, 1.0)]
    if shape[1]:
        inputs.append(np.append(np.clip(matrices[0] @ inputs[0], 0.0, 4.0), 1.0))
    scores = matrices[-1] @ inputs[-1]
    p = np.exp(scores - scores.max())
    error = p / p.sum() - (np.arange(shape[2]) == label)
    parts = [np.outer(error, inputs[-1])]
    if shape[1]:
        unit = inputs[1][:-1]
        back = (error @ matrices[1][:, :-1]) * ((unit > 0) & (unit < 4.0))
        parts.insert(0, np.outer(back, inputs[0]))
    return np.concatenate([part.ravel() for part in parts])


def float_descent(
    weights: Floats, beats: list[Floats], labels: list[int], shape: tuple[int, int, int], epochs: int = 2
) -> Floats:
    """Weights after stochastic gradient descent in steps of 1/32."""
    local = weights.copy()
    for _ in range(epochs):
        for x, label in zip(beats, labels, strict=True):
            local -= float_gradient(local, x, label, shape) / 32
    return local
