"""What a link end says of itself: its state, error rates and counters. Written by the program, read by the KME."""

from dataclasses import dataclass


@dataclass(slots=True)
class LinkStatus:
    """Live figures of one end. `state` is "starting", "running", "idle: <why>" or "no key: <reason>"."""

    state: str = "starting"
    qber: float | None = None
    """Error rate of the key basis in the newest block that was corrected, else of its test basis."""
    blocks: int = 0
    blocks_without_key: int = 0
    last_reason: str | None = None
    """Why the newest block without key ended so."""
    frames_lost: int = 0
