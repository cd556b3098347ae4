"""`qepa link attack`: an attacker on the virtual bench, what the link does, and a verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from qepa_tools.bench.attackers import parse_attack

from ..errors import ToolError
from .folder import Ports, open_folder
from .live import link_view
from .monitor import BlockRecord, LinkView, Monitor
from .programs import Programs, tell_bench
from .session import running_link, views

BLOCK_LIMIT_S: Final = 60.0
"""How long a block may take on a slow machine before the demonstration gives up."""
_SHORTER: Final = 0.95
"""Keys below this share of the undisturbed ones are shorter by more than chance."""

_FLAWED: Final = ("--mismatch-ps=800", "--efficiency-window-ps=700")
"""Detectors that respond at different times; on others a time shift has nothing to exploit."""
_SHOWN: Final = (
    "intercept-resend fraction=0.03",
    "intercept-resend fraction=0.5",
    "photon-number-splitting",
    "blinding",
    "time-shift early=0.9",
)
_MEANS: Final = {
    "stopped": "no key was made while it lasted",
    "paid for": "keys went on, shorter: what the attacker may know is taken off",
    "unnoticed": "keys went on as before",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """An attack, and the flaws that the bench needs for it."""

    attack: str
    bench: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """Blocks that lie whole in one part of a demonstration."""

    blocks: int
    with_key: int
    key_bits: float
    """Mean of a block."""
    qber_key: float | None
    qber_test: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a demonstration ended: `outcome` is `stopped`, `paid for` or `unnoticed`."""

    attack: str
    outcome: str
    alarms: tuple[str, ...]
    before: Phase
    during: Phase
    recovered_after_s: float | None
    """None: not within the time allowed."""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.outcome != "stopped":
            return _MEANS[self.outcome]
        why = f" ({self.during.reasons[0]})" if self.during.reasons else ""
        after = (
            "no key again within the time allowed"
            if self.recovered_after_s is None
            else f"key again {self.recovered_after_s:.0f} s after it ended"
        )
        return f"{_MEANS[self.outcome]}{why}; {after}"


def chosen(text: str) -> list[Choice]:
    """Return the attacks that a command names; `all` is a selection. Raises ToolError."""
    choices = []
    for attack in _SHOWN if text == "all" else (text,):
        try:
            parsed = parse_attack(attack)
        except ValueError as error:
            raise ToolError(str(error)) from None
        if parsed is None:
            raise ToolError("`none` is no attack")
        choices.append(Choice(attack, _FLAWED if attack.startswith("time-shift") else ()))
    return choices


class Demonstration:
    """Undisturbed blocks, attacked blocks, and the way back."""

    def __init__(self, console: Console, *, live: bool, blocks: int, block_bits: int) -> None:
        self._console, self._live = console, live
        self._blocks, self._block_bits = blocks, block_bits

    async def run(self, choice: Choice, scratch: Path, bench_options: Sequence[str]) -> Verdict:
        """Show one attack. Raises ToolError when the bench makes no key even undisturbed."""
        folder = open_folder(scratch, Ports(), {"block_bits": self._block_bits})
        self._say(f"[bold]{choice.attack}[/]   simulated, on a virtual bench")
        async with running_link(folder, [*choice.bench, *bench_options]) as (programs, monitor):
            watch = _Blocks(programs, monitor, self._console, live=self._live)
            before = phase(await watch.next(self._blocks))
            if not before.with_key:
                raise ToolError(f"this bench makes no key even undisturbed: {', '.join(before.reasons)}")
            self._say(f"  1 undisturbed: {_described(before)}")
            await tell_bench(scratch, f"attack {choice.attack}")
            await watch.next(1)  # half of it was undisturbed
            watch.alarms.clear()
            during = phase(await watch.next(self._blocks))
            alarms = tuple(f"{kind}: {sentence}" for kind, sentence in watch.alarms.items())
            self._say(f"  2 attacked: {_described(during)}")
            for alarm in alarms:
                self._say(f"    [red]alarm[/] {alarm}")
            await tell_bench(scratch, "attack none")
            verdict = Verdict(choice.attack, outcome(before, during), alarms, before, during, await watch.recovery())
        style = {"stopped": "green", "paid for": "yellow", "unnoticed": "bold red"}[verdict.outcome]
        self._say(f"  3 [{style}]{verdict.outcome}[/]: {verdict.sentence}")
        return verdict

    def _say(self, text: str) -> None:
        if self._live:
            self._console.print(text, highlight=False)


class _Blocks:
    """Waits for blocks of a running link; `alarms` gathers all that stood meanwhile."""

    def __init__(self, programs: Programs, monitor: Monitor, console: Console, *, live: bool) -> None:
        self._programs, self._monitor, self._console, self._live = programs, monitor, console, live
        self._seen = 0
        self.alarms: dict[str, str] = {}

    async def next(self, number: int) -> list[BlockRecord]:
        """Return the next `number` blocks. Raises ToolError when they do not come."""
        view = await self._until(lambda view: view.blocks >= self._seen + number, number * BLOCK_LIMIT_S)
        if view is None:
            raise ToolError(f"no {number} blocks within {number * BLOCK_LIMIT_S:.0f} s")
        found = view.made[len(view.made) - (view.blocks - self._seen) :]
        self._seen = view.blocks
        return found

    async def recovery(self) -> float | None:
        """Return the seconds until a block gives key again."""
        start = (await self._monitor.view()).seconds

        def key_again(view: LinkView) -> bool:
            return any(block.key_bits for block in view.made[len(view.made) - (view.blocks - self._seen) :])

        view = await self._until(key_again, 2 * BLOCK_LIMIT_S)
        return None if view is None else view.seconds - start

    async def _until(self, wanted: Callable[[LinkView], bool], limit_s: float) -> LinkView | None:
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            began: float | None = None
            async for view in views(self._programs, self._monitor):
                began = view.seconds if began is None else began
                self.alarms.update(view.alarms)
                if self._live:
                    live.update(link_view(view))
                if wanted(view):
                    return view
                if view.seconds - began > limit_s:
                    return None
        return None


def phase(blocks: Sequence[BlockRecord]) -> Phase:
    """Sum blocks up."""
    return Phase(
        blocks=len(blocks),
        with_key=sum(block.key_bits > 0 for block in blocks),
        key_bits=mean(block.key_bits for block in blocks) if blocks else 0.0,
        qber_key=_mean([block.qber_key for block in blocks]),
        qber_test=_mean([block.qber_test for block in blocks]),
        reasons=tuple(dict.fromkeys(block.reason for block in blocks if block.reason)),
    )


def outcome(before: Phase, during: Phase) -> str:
    """Judge an attack by the keys before and while it lasted."""
    if not during.with_key:
        return "stopped"
    return "paid for" if during.key_bits < _SHORTER * before.key_bits else "unnoticed"


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return what was shown, side by side."""
    table = Table(title="Attacks on a virtual bench (simulated)")
    for heading in ("attack", "QBER test basis", "key a block", "verdict", "alarms"):
        table.add_column(heading)
    for one in verdicts:
        table.add_row(
            one.attack,
            f"{_percent(one.before.qber_test)} to {_percent(one.during.qber_test)}",
            f"{one.before.key_bits:,.0f} to {one.during.key_bits:,.0f} bit",
            one.outcome,
            ", ".join(alarm.partition(":")[0] for alarm in one.alarms) or "none",
        )
    return table


def _described(one: Phase) -> str:
    key = f"{one.key_bits:,.0f} bit of key a block" if one.with_key else "no key"
    why = f": {one.reasons[0]}" if one.reasons else ""
    return f"{one.blocks} blocks, QBER {_percent(one.qber_test)} in the test basis, {key}{why}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _percent(value: float | None) -> str:
    return "--" if value is None else f"{100 * value:.1f} %"
