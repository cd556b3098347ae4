"""The model that a fresh ward begins with, and that a stored one is of the shape asked for."""

from qepa_wire.primitives import sha256

from ..audit import chain
from ..config import LearningConfig
from ..errors import ServerError
from ..store.database import Store
from ..training.initial import initial_model
from .models import ModelRegistry
from .shipped_model import shipped_model
from .versions import INITIAL, SHIPPED


def begin_line(registry: ModelRegistry, store: Store, learning: LearningConfig, *, start: str, now_ms: int) -> None:
    """Release a first model if there is none; ``start``: shipped or initial.

    Raises ServerError("model") where the stored model has another shape than ``learning``.
    """
    if registry.empty:
        _release_first(registry, store, learning, start, now_ms)
    current = registry.current
    if (current.features, current.hidden, current.classes, current.fraction_bits) != (
        learning.features,
        learning.hidden,
        learning.classes,
        learning.fraction_bits,
    ):
        raise ServerError("model", "the stored model has another shape than [learning] asks for")


def _release_first(registry: ModelRegistry, store: Store, learning: LearningConfig, start: str, now_ms: int) -> None:
    begun = initial_model(
        features=learning.features,
        hidden=learning.hidden,
        classes=learning.classes,
        fraction_bits=learning.fraction_bits,
        seed=learning.seed,
    )
    shipped = shipped_model(begun) if start == SHIPPED else None
    if shipped is not None:
        first = registry.prepare(shipped[0], now_ms, origin=SHIPPED, card=shipped[1])
    else:
        first = registry.prepare(begun, now_ms, origin=INITIAL)
    with store.write() as connection:
        chain.append(connection, now_ms, "key.model", sha256=sha256(registry.model_root).hex())
        registry.release(connection, first)
    registry.adopt(first)
