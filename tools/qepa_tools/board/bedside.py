"""What a gateway says of one board on its bedside API: whether it authenticated it, and the kinds of what it opened.

Kinds only: a value is for the bedside's own page, not for a flasher's screen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from ..errors import ToolError

_POLL_S = 0.5
_TIMEOUT_S = 5.0
_STALE_MS = 5000


@dataclass(frozen=True, slots=True)
class Seen:
    """A board as its gateway saw it since a moment.

    ``authenticated``: a frame came whose MAC holds; ``consent``: one is in force, without which nobody may open a
    sample of one board; ``opened``: kinds of measures in a care record of this boot that the gateway decrypted.
    """

    gateway: str
    authenticated: bool = False
    key_source: str = "none"
    consent: bool = False
    opened: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.authenticated and (bool(self.opened) or not self.consent)

    @property
    def summary(self) -> str:
        """Half a sentence."""
        if not self.authenticated:
            return f"{self.gateway} has not heard of it yet"
        said = f"{self.gateway} has authenticated it (key: {self.key_source})"
        if self.opened:
            return f"{said} and decrypted, under a consent: {', '.join(self.opened)}"
        if self.consent:
            return f"{said}, and has decrypted none of its samples yet"
        return f"{said}; no consent is in force, so nobody may decrypt a sample of this one board"


class Bedside:
    """Asks the bedside API at the base address of ``http``. Raises ToolError when it does not answer."""

    def __init__(self, http: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._http, self._clock = http, clock

    def now_ms(self) -> int:
        """The gateway's clock."""
        return int(self._state()["now_ms"])

    def seen(self, board: int, since_ms: int) -> Seen:
        """The board now, by what came after ``since_ms`` of the gateway's clock."""
        state = self._state()
        found = next((each for each in state["boards"] if each["board"] == f"{board:08x}"), None)
        if found is None or found["last_seen_ms"] <= since_ms:
            return Seen(state["gateway"])
        return Seen(
            state["gateway"], True, found["key_source"], found["consent"], _opened(found, state["now_ms"], since_ms)
        )

    def await_sample(self, board: int, since_ms: int, until: float) -> Seen:
        """Wait for the board's first decrypted sample, or its first frame where there is no consent.

        Returns what was seen at the latest when the clock says ``until``.
        """
        while not (seen := self.seen(board, since_ms)).is_all and self._clock() < until:
            time.sleep(_POLL_S)
        return seen

    def _state(self) -> dict[str, Any]:
        try:
            response = self._http.get("/api/state")
            response.raise_for_status()
            state = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ToolError(f"the bedside at {self._http.base_url} does not answer ({type(error).__name__})") from error
        if not isinstance(state, dict) or not {"now_ms", "gateway", "boards"} <= state.keys():
            raise ToolError(f"what answers at {self._http.base_url} is no gateway's bedside")
        return state


def _opened(board: dict[str, Any], now_ms: int, since_ms: int) -> tuple[str, ...]:
    vitals = board["vitals"]
    if vitals is None or vitals["boots"] != board["boots"]:
        return ()
    if vitals["age_ms"] > _STALE_MS or now_ms - vitals["age_ms"] <= since_ms:
        return ()
    return tuple(measure["name"] for measure in vitals["measures"])


def open_bedside(url: str, token: str | None) -> Bedside:
    """The bedside at ``url``; ``token`` where it asks for one."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return Bedside(httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S))
