"""What ships answers on LiteRT as in the framework that it was trained in, and nearly so on reference kernels."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from qepa_gateway.inference.runtime import Int8Model
from qepa_gateway.inference.shelf import SHIPPED
from qepa_uplink.bedside_models import CONTRACTS


def away(name, interpreter):
    """The largest difference of the gateway's answers from an interpreter's, in quanta of the output."""
    model = Int8Model((SHIPPED / f"{name}.tflite").read_bytes())
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((60, *shape)).astype(np.float32) for shape in model.input_shapes]
    interpreter.allocate_tensors()
    (output,) = interpreter.get_output_details()
    largest = 0.0
    for row in zip(*inputs, strict=True):
        for tensor, values in zip(interpreter.get_input_details(), row, strict=True):
            scale, zero = tensor["quantization"]
            interpreter.set_tensor(tensor["index"], np.clip(np.rint(values / scale) + zero, -128, 127).astype(np.int8))
        interpreter.invoke()
        scale, zero = output["quantization"]
        expected = scale * (interpreter.get_tensor(output["index"]).astype(np.float64) - zero)
        largest = max(largest, float(np.abs(model.run(*row) - expected).max()) / model.output_step)
    return largest


@pytest.mark.parametrize("name", CONTRACTS)
def test_it_is_within_a_quantum_of_the_framework_it_was_trained_in(name):
    tf = pytest.importorskip("tensorflow")
    blob = (SHIPPED / f"{name}.tflite").read_bytes()
    assert away(name, tf.lite.Interpreter(model_content=blob)) <= 1 + 0.01


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("kernels", [OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
def test_other_kernels_are_within_a_few_quanta(name, kernels):
    """They round between layers otherwise: a quantum of the scores is several of a probability."""
    blob = (SHIPPED / f"{name}.tflite").read_bytes()
    interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=kernels)
    assert away(name, interpreter) <= 8 + 0.01
    assert "DELEGATE" not in {each["op_name"] for each in interpreter._get_ops_details()}  # none is left to XNNPACK
