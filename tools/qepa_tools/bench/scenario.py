"""What happens to the bench while it runs: attackers come and go, somebody touches a setting.

A change is one line of text, the same on the command line, in a TOML file and on the control socket:

    attack intercept-resend fraction=0.3 at=20 until=40
    attack none
    set background_hz=50000 at=60

`at` and `until` are seconds of light since the bench was opened; without `at` the change is immediate.
"""

import bisect
import re
from dataclasses import dataclass, field, replace
from typing import Any

from qepa_tools.bench.attackers import Attack, InterceptResend, parse_attack
from qepa_tools.bench.settings import BenchSettings, parse_setting

FIXED = ("slot_offset", "intercept_fraction")
"""Settings that only count when the bench is opened."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """At `at_s` seconds of light, `attack` takes over, or `setting` changes."""

    at_s: float
    attack: Attack | None = field(default=None, compare=False)
    setting: tuple[str, Any] | None = field(default=None, compare=False)


class Scenario:
    """Settings and attacker of the moment, and the changes to come. Shared by the runs of one bench."""

    def __init__(self, settings: BenchSettings) -> None:
        self.settings = settings
        self.attack: Attack | None = None
        if settings.intercept_fraction:
            self.attack = InterceptResend(settings.intercept_fraction)
        self.version = 0
        """Grows with every change that took effect."""
        self.light_s = 0.0
        """Seconds of light since the bench was opened, over all runs."""
        self._to_come: list[Change] = []

    def plan(self, text: str) -> None:
        """Enter one change; what is due takes effect. Raises ValueError, in one sentence, if it makes no sense."""
        for change in parse_change(text, self.light_s):
            if change.setting is not None:
                replace(self.settings, **dict([change.setting]))  # refuses what the bench cannot be
            bisect.insort(self._to_come, change)
        self.take_effect(self.light_s)

    def next_s(self) -> float | None:
        """When the next change is due."""
        return self._to_come[0].at_s if self._to_come else None

    def take_effect(self, now_s: float) -> None:
        """Make the changes due at `now_s`."""
        while self._to_come and self._to_come[0].at_s <= now_s:
            change = self._to_come.pop(0)
            if change.setting is None:
                self.attack = change.attack
            else:
                self.settings = replace(self.settings, **dict([change.setting]))
            self.version += 1


def parse_change(text: str, now_s: float) -> list[Change]:
    """Return the changes that one line asks for. Raises ValueError in one sentence."""
    times = {"at": now_s}
    words = []
    for word in text.split():
        if found := re.fullmatch(r"(at|until)=(\d+(?:\.\d*)?)", word):
            times[found[1]] = float(found[2])
        else:
            words.append(word)
    match words:
        case ["attack", *rest]:
            changes = [Change(times["at"], attack=parse_attack(" ".join(rest)))]
            if "until" in times:
                changes.append(Change(times["until"]))
        case ["set", assignment] if "=" in assignment and "until" not in times:
            name, _, value = assignment.partition("=")
            if name in FIXED:
                raise ValueError(f"{name} cannot change while the bench is open")
            changes = [Change(times["at"], setting=(name, parse_setting(name, value)))]
        case _:
            raise ValueError(
                f"{text!r} is neither `attack NAME [parameter=number] [at=s] [until=s]` nor `set NAME=VALUE`"
            )
    if times.get("until", times["at"]) < times["at"]:
        raise ValueError("until lies before at")
    return changes
