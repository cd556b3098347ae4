"""What ships answers on LiteRT's fastest kernels, those of XNNPACK, as on LiteRT's two other implementations."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from qepa_gateway.inference.runtime import Int8Model
from qepa_gateway.inference.shelf import SHIPPED
from qepa_uplink.bedside_models import CONTRACTS


def answers(blob, inputs, kernels):
    interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    assert "DELEGATE" not in {each["op_name"] for each in interpreter._get_ops_details()}  # none is left to XNNPACK
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
@pytest.mark.parametrize("kernels", [OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
def test_other_kernels_are_within_a_few_quanta(name, kernels):
    """They round between layers otherwise: a quantum of the scores is several of a probability."""
    blob = (SHIPPED / f"{name}.tflite").read_bytes()
    model = Int8Model(blob)
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((60, *shape)).astype(np.float32) for shape in model.input_shapes]
    for k, expected in enumerate(answers(blob, inputs, kernels)):
        away = np.abs(model.run(*(each[k] for each in inputs)) - expected).max() / model.output_step
        assert away <= 8 + 0.01
