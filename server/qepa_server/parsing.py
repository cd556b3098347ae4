"""Bodies that were authenticated, into messages."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from qepa_uplink.errors import UplinkError

T = TypeVar("T", bound=BaseModel)


def parse(model: type[T], body: bytes) -> T:
    """Return ``body`` (JSON) as a ``model``; raises UplinkError("schema") for anything else."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise UplinkError("schema", f"{error.error_count()} fields do not fit {model.__name__}") from error
