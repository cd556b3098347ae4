"""Whether a model is of the shape that its name promises (qepa_uplink/bedside_models.py)."""

from qepa_uplink.bedside_models import CONTRACTS, Contract

from .runtime import InferenceError, Int8Model


def load_model(name: str, blob: bytes) -> Int8Model:
    """Return the model; raises InferenceError for an unknown name, no model, or one of another shape."""
    contract = contract_of(name)
    model = Int8Model(blob)
    if model.input_shapes != contract.input_shapes or model.output_shape != contract.output_shape:
        raise InferenceError(
            f"{name} takes {contract.input_shapes} and gives {contract.output_shape}, "
            f"this model {model.input_shapes} and {model.output_shape}"
        )
    return model


def contract_of(name: str) -> Contract:
    """Return what ``name`` takes and gives; raises InferenceError for an unknown name."""
    try:
        return CONTRACTS[name]
    except KeyError:
        raise InferenceError(f"no model is called {name}; there is: {', '.join(CONTRACTS)}") from None
