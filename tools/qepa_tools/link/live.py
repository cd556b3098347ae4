"""The terminal while a link runs: states, error rates, key, alarms, each with its recent course."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .monitor import LinkView

_STEPS = "▁▂▃▄▅▆▇█"
_DASHES = "--"
_STATE_STYLES = (("running", "green"), ("idle", "cyan"), ("starting", "yellow"), ("no", "bold red"))
_THREAT_STYLES = {"normal": "green", "elevated": "yellow", "high": "bold red"}


@contextmanager
def live_screen(console: Console, *, transient: bool = False) -> Iterator[Live]:
    """A screen that changes in place; where `console` is no terminal its last state, as lines of their own."""
    live = Live(console=console, refresh_per_second=4, transient=transient)
    try:
        with live:
            yield live
    finally:
        if not console.is_terminal and not transient and live.get_renderable():
            console.print()  # what comes next, a complaint say, begins a line


def sparkline(values: Sequence[float | None], top: float, width: int = 40, bottom: float = 0.0) -> str:
    """Return the newest `width` values as bars from `bottom` to `top`; a dot where there is none."""
    bars = []
    for value in values[-width:]:
        if value is None:
            bars.append("·")
        else:
            share = min(1.0, max(0.0, (value - bottom) / (top - bottom))) if top > bottom else 0.0
            bars.append(_STEPS[max(0, ceil(share * len(_STEPS)) - 1)])
    return "".join(bars)


def link_view(view: LinkView, hint: str = "Ctrl-C ends") -> RenderableType:
    """Return the screen for `view`."""
    parts: list[RenderableType] = []
    if view.simulated:
        parts.append(Text("Simulated: a virtual optical bench, no photons", style="yellow"))
    if view.alarms:
        lines = [Text(f"{kind}: {sentence}") for kind, sentence in view.alarms.items()]
        parts.append(Panel(Group(*lines), title="Alarms: no key is made", border_style="bold red"))
    parts.append(_figures(view))
    parts.append(Text(f"{view.seconds:.0f} s   {hint}", style="dim"))
    return Group(*parts)


def _figures(view: LinkView) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    for role, state in view.states.items():
        style = next((style for begin, style in _STATE_STYLES if state.startswith(begin)), "")
        table.add_row(role.capitalize(), "", Text(state, style=style))
    made, top = view.made, view.qber_threshold
    for name, value, course in (
        ("QBER, key basis", view.qber_key, [b.qber_key for b in made]),
        ("QBER, test basis", view.qber_test, [b.qber_test for b in made]),
    ):
        table.add_row(name, _percent(value, top), f"{sparkline(course, top)}  of {100 * top:g} %")
    keys = [float(b.key_bits) for b in made]
    table.add_row("key", f"{view.key_bits_per_minute:,.0f} bit/min", sparkline(keys, max(keys, default=0.0)))
    table.add_row("sifted", f"{view.sifted_bps:,.0f} bit/s", "")
    stock = [float(b.stock_bits) for b in made]
    table.add_row("stock", f"{view.stock_bits:,} bit", sparkline(stock, max(stock, default=0.0)))
    lost = f"{view.blocks_without_key} without key" if view.blocks_without_key else ""
    table.add_row("blocks", f"{view.blocks:,}", Text(lost, style="red"))
    if view.last_reason:
        table.add_row("newest reason", "", Text(view.last_reason, style="red"))
    threat = Text(view.threat_level, style=_THREAT_STYLES[view.threat_level])
    table.add_row("threat level", threat, f"keys are to be renewed every {view.rekey_s:.0f} s")
    if view.frames_lost:
        table.add_row("serial frames lost", f"{view.frames_lost:,}", "")
    return table


def _percent(value: float | None, threshold: float) -> Text:
    if value is None:
        return Text(_DASHES)
    return Text(f"{100 * value:.2f} %", style="red" if value > threshold else "")
