"""What was refused, by reason: counted always, logged at 1, 10, 100 ... so that a flood does not fill the log."""

import logging
from collections import Counter

_LOG = logging.getLogger(__name__)


class Refusals:
    """Counters by reason since the process started."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, reason: str, origin: str) -> None:
        """Count one refusal; ``origin`` says where it came from and holds no secret."""
        self._counts[reason] += 1
        total = self._counts[reason]
        if total == 10 ** (len(str(total)) - 1):
            _LOG.warning("refused reason=%s origin=%s total=%d", reason, origin, total)

    def snapshot(self) -> dict[str, int]:
        """Counters by reason."""
        return dict(sorted(self._counts.items()))
