"""What a watched link did, as one JSON object."""

from dataclasses import asdict
from typing import Any

from .monitor import LinkView


def summary(view: LinkView | None) -> dict[str, Any]:
    """Return the figures of the last view and its blocks."""
    if view is None:
        return {"blocks": 0}
    document = asdict(view)
    made = document.pop("made")
    return {**document, "newest_blocks": made}
