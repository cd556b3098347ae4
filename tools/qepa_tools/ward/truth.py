"""What only the simulator knows: the plaintexts inside its boards, to check that opened sums are exact.

A probe in each virtual board wraps ``qepa_wire.lighthe.seal`` before the firmware imports it, as a debugger would;
the firmware's sources stay as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PROBE = """
import json
import _host
from qepa_wire import lighthe

def _wrap(seal):
    def probed(values, mask_keys, cohort_check_key, stream, round_):
        _host.probe(json.dumps({"round": round_, "stream": stream, "values": list(values)}))
        return seal(values, mask_keys, cohort_check_key, stream, round_)
    return probed

lighthe.seal = _wrap(lighthe.seal)
"""


@dataclass(slots=True)
class Truth:
    """Plaintext vectors by (round, stream, board)."""

    _vectors: dict[tuple[int, int, int], tuple[int, ...]] = field(default_factory=dict)
    sealed_twice: list[tuple[int, int, int]] = field(default_factory=list)

    def record(self, board: int, payload: dict[str, Any]) -> None:
        """Take what a probe reported; a (round, stream) that a board seals twice is remembered as a fault."""
        key = (int(payload["round"]), int(payload["stream"]), board)
        if key in self._vectors:
            self.sealed_twice.append(key)
        self._vectors[key] = tuple(int(value) for value in payload["values"])

    def exact(self, round_: int, stream: int, contributors: Iterable[int], opened: Iterable[int]) -> bool:
        """Whether ``opened`` is, word for word, the sum of the contributors' plaintexts."""
        vectors = [self._vectors.get((round_, stream, board)) for board in contributors]
        if not vectors or any(vector is None for vector in vectors):
            return False
        return [sum(words) for words in zip(*(v for v in vectors if v is not None), strict=True)] == list(opened)

    def forget_before(self, round_: int) -> None:
        """Drop rounds below ``round_``: a ward may run for weeks."""
        self._vectors = {key: value for key, value in self._vectors.items() if key[0] >= round_}
