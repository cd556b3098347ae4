"""Token bucket: how often a board may cost the gateway a key lookup, and how much it may send."""


class TokenBucket:
    """``burst`` tokens, one more each ``refill_ms``; times are milliseconds of any clock."""

    def __init__(self, *, burst: int, refill_ms: float) -> None:
        self._burst = burst
        self._refill_ms = refill_ms
        self._tokens = float(burst)
        self._at_ms: int | None = None

    def take(self, now_ms: int, tokens: int = 1) -> bool:
        """Take ``tokens`` if there are so many. A clock that went back refills nothing."""
        if self._at_ms is not None:
            gained = max(0, now_ms - self._at_ms) / self._refill_ms
            self._tokens = min(float(self._burst), self._tokens + gained)
        self._at_ms = now_ms
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True
