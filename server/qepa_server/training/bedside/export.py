"""A network as an int8 TFLite file: post-training quantization, its scales from examples that it was trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .networks import Network

Real = NDArray[np.float32]
REPRESENTATIVE = 400  # examples that set the scales


def to_int8(network: Network, inputs: Sequence[Real]) -> bytes:
    """Return the file. inputs: one array for each input of the network, from TRAINING people only.

    Batch 1, int8 in and out, in the order of the network's inputs.
    """
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: PLC0415

    shapes = [(1, *tensor.shape[1:]) for tensor in network.inputs]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes])  # type: ignore[untyped-decorator]
    def run(*tensors: object) -> object:
        return network(list(tensors) if len(tensors) > 1 else tensors[0], training=False)

    # Weights as constants: the converter's calibration cannot read Keras 3's variables.
    constant = convert_variables_to_constants_v2(run.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([constant])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _some(inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _some(inputs: Sequence[Real]) -> Iterator[list[Real]]:
    n = len(inputs[0])
    for k in np.linspace(0, n - 1, min(n, REPRESENTATIVE)).astype(int):
        yield [each[k : k + 1].astype(np.float32) for each in inputs]
