"""Running one int8 TFLite model: LiteRT, or tflite-runtime where that is not to be had.

Quantization after Jacob et al. (CVPR 2018), eq. 1: real = scale * (quantized - zero point), of each input and output.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.bedside_models import MAX_BLOB

from ..errors import GatewayError

Real = NDArray[np.float32]
Words = NDArray[np.int8]
_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_IDENTIFIER = b"TFL3"  # at bytes 4 to 8 (TensorFlow Lite schema, file_identifier)


class InferenceError(GatewayError):
    """No runtime, or what was given is no model that can be run here, or no input for it."""


def interpreter_class(runtimes: tuple[str, ...] = _RUNTIMES) -> Callable[..., Any]:
    """The first interpreter that is installed; raises InferenceError if none is."""
    for name in runtimes:
        try:
            return import_module(name).Interpreter  # type: ignore[no-any-return]
        except ImportError:
            continue
    raise InferenceError("neither ai-edge-litert nor tflite-runtime is installed")


def is_available() -> bool:
    """Whether models can be run at all."""
    try:
        interpreter_class()
    except InferenceError:
        return False
    return True


class Int8Model:
    """One model in memory, on one thread.

    The blob has to be authentic: the interpreter checks it, but was not made for files that mean harm. Raises
    InferenceError for what is no TFLite model, or one whose inputs and output are not int8, of fixed shape and batch 1.
    """

    def __init__(self, blob: bytes) -> None:
        if len(blob) > MAX_BLOB or blob[4:8] != _IDENTIFIER:
            raise InferenceError(f"{len(blob)} bytes are no TFLite model of at most {MAX_BLOB}")
        make = interpreter_class()
        try:
            self._interpreter = make(model_content=blob, num_threads=1)
            self._interpreter.allocate_tensors()
            self._inputs = [_Quantized(details) for details in self._interpreter.get_input_details()]
            outputs = [_Quantized(details) for details in self._interpreter.get_output_details()]
        except InferenceError:
            raise
        except Exception as error:  # the interpreter raises ValueError, RuntimeError, and what its bindings run into
            raise InferenceError(f"the model cannot be loaded ({type(error).__name__})") from error
        if len(outputs) != 1 or not self._inputs:
            raise InferenceError(f"a model has one output, this one {len(outputs)}, and {len(self._inputs)} inputs")
        self._output = outputs[0]

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """In the order in which :meth:`run` takes them."""
        return tuple(tensor.shape for tensor in self._inputs)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what :meth:`run` gives."""
        return self._output.shape

    @property
    def output_step(self) -> float:
        """One quantum of the output."""
        return self._output.scale

    def run(self, *inputs: Real) -> Real:
        """Return the output for one set of inputs; raises InferenceError for wrong shapes and numbers not finite.

        Inputs beyond what int8 reaches are clipped to it.
        """
        return self._output.real(self._invoke(self._words(1, inputs)))

    def run_rows(self, *inputs: Real) -> Real:
        """Return the outputs of sets of inputs, along the first axis, as :meth:`run` gives them one by one.

        They are quantized together, since that takes longer than the model itself.
        """
        n = max((len(values) for values in inputs), default=0)
        words = self._words(n, inputs)
        found = np.empty((n, *self._output.shape[1:]), np.int8)
        for k in range(n):
            found[k] = self._invoke([rows[k : k + 1] for rows in words])[0]
        return self._output.real(found)

    def _words(self, n: int, inputs: tuple[Real, ...]) -> list[Words]:
        if len(inputs) != len(self._inputs):
            raise InferenceError(f"the model takes {len(self._inputs)} inputs, not {len(inputs)}")
        return [tensor.quantized(values, n) for tensor, values in zip(self._inputs, inputs, strict=True)]

    def _invoke(self, words: list[Words]) -> Words:
        for tensor, values in zip(self._inputs, words, strict=True):
            self._interpreter.set_tensor(tensor.index, values)
        try:
            self._interpreter.invoke()
        except Exception as error:
            raise InferenceError(f"the model failed ({type(error).__name__})") from error
        return self._interpreter.get_tensor(self._output.index)  # type: ignore[no-any-return]


class _Quantized:
    """An int8 tensor of the interpreter and its scale."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.index = int(details["index"])
        self.shape = tuple(int(n) for n in details["shape"])
        scale, zero = details["quantization"]
        self.scale, self.zero = float(scale), int(zero)
        if details["dtype"] is not np.int8 or not 0 < self.scale < float("inf"):
            raise InferenceError(f"the tensor {details['name']} is not quantized to int8")
        dynamic = any(int(n) < 1 for n in details.get("shape_signature", self.shape))
        if dynamic or not self.shape or self.shape[0] != 1:
            raise InferenceError(f"the tensor {details['name']} has the shape {self.shape}")

    def quantized(self, values: Real, n: int) -> Words:
        if values.shape != (n, *self.shape[1:]):
            raise InferenceError(f"an input has the shape {values.shape}, not {(n, *self.shape[1:])}")
        if not np.isfinite(values).all():
            raise InferenceError("an input holds numbers that are not finite")
        # In float64: x / scale + zero in float32 may fall on the other side of a half than the runtime's own.
        words = np.rint(values.astype(np.float64) / self.scale) + self.zero
        clipped: Words = np.clip(words, -128, 127).astype(np.int8)
        return clipped

    def real(self, words: Words) -> Real:
        return (self.scale * (words.astype(np.float64) - self.zero)).astype(np.float32)
