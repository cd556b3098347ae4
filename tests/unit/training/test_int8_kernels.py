"""What ships answers on LiteRT as on the kernels of the framework that it was trained with."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from qepa_gateway.inference.runtime import Int8Model
from qepa_gateway.inference.shelf import SHIPPED
from qepa_uplink.bedside_models import CONTRACTS


def framework(blob, inputs, kernels):
    """Answers of TensorFlow's own interpreter."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.lite.python.interpreter import OpResolverType

    interpreter = tf.lite.Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType[kernels])
    interpreter.allocate_tensors()
    (output,) = interpreter.get_output_details()
    for k in range(len(inputs[0])):
        for tensor, values in zip(interpreter.get_input_details(), inputs, strict=True):
            scale, zero = tensor["quantization"]
            words = np.clip(np.rint(values[k].astype(np.float64) / scale) + zero, -128, 127).astype(np.int8)
            interpreter.set_tensor(tensor["index"], words)
        interpreter.invoke()
        scale, zero = output["quantization"]
        yield scale * (interpreter.get_tensor(output["index"]).astype(float) - zero)


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize(("kernels", "quanta"), [("AUTO", 1), ("BUILTIN_REF", 8)])
def test_it_is_within_a_quantum_and_the_reference_kernels_are_not_far(name, kernels, quanta):
    """The reference rounds between layers otherwise: a quantum of the scores is several of a probability."""
    blob = (SHIPPED / f"{name}.tflite").read_bytes()
    model = Int8Model(blob)
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((60, *shape)).astype(np.float32) for shape in model.input_shapes]
    for k, expected in enumerate(framework(blob, inputs, kernels)):
        away = np.abs(model.run(*(each[k] for each in inputs)) - expected).max() / model.output_step
        assert away <= quanta + 0.01
