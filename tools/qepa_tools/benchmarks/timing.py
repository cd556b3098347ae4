"""Timing of small operations in CPU seconds of this process, so that what others do on the machine counts less."""

import statistics
import time
from collections.abc import Callable


def median_s(operation: Callable[[], object], *, repetitions: int = 7, at_least_s: float = 0.05) -> float:
    """Return the median CPU seconds of a call of ``operation`` over ``repetitions`` of at least ``at_least_s`` each."""
    operation()
    calls = 1
    while True:
        elapsed = _time(operation, calls)
        if elapsed >= at_least_s or calls >= 1 << 20:
            break
        calls = max(calls + 1, int(calls * at_least_s / max(elapsed, 1e-9)) + 1)
    return statistics.median(_time(operation, calls) / calls for _ in range(repetitions))


def _time(operation: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        operation()
    return time.process_time() - start
