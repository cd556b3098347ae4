"""`qepa link run`: both ends of a link on one bench, watched live."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .folder import LinkFolder
from .live import link_view, live_screen
from .monitor import LinkView
from .session import running_link, views


@dataclass(slots=True)
class Ending:
    """When to stop by itself; 0: never. `blocks` counts those that gave key."""

    seconds: float = 0.0
    blocks: int = 0

    def reached(self, view: LinkView) -> bool:
        """Whether it is time."""
        with_key = view.blocks - view.blocks_without_key
        return bool((self.seconds and view.seconds >= self.seconds) or (self.blocks and with_key >= self.blocks))


class Watch:
    """Keeps the newest view, also when the watch is interrupted."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self.last: LinkView | None = None
        self._console, self._live = console, live

    async def run(self, folder: LinkFolder, bench_options: Sequence[str], ending: Ending) -> None:
        """Run the link until `ending` or cancelled. Raises ToolError."""
        with live_screen(self._console) as live:

            def say(text: str) -> None:
                if self._live:
                    live.update(text + " ...")

            async with running_link(folder, bench_options, say) as (programs, monitor):
                async for view in views(programs, monitor):
                    self.last = view
                    if self._live:
                        live.update(link_view(view))
                    if ending.reached(view):
                        return


def save_plots(folder: LinkFolder, target: Path) -> list[Path]:
    """Draw what the link's history holds; returns the files."""
    from .archive import read_archive  # noqa: PLC0415  # matplotlib takes a second to load
    from .plots import error_rates, key_rate, save  # noqa: PLC0415

    archive = read_archive(folder.configs["alice"])
    if not archive.blocks:
        return []
    target.mkdir(parents=True, exist_ok=True)
    threshold = folder.configs["alice"].protocol.qber_threshold
    files = save(error_rates(archive.blocks, threshold), target / "qber")
    return files + save(key_rate(archive.blocks, archive.longest_fill_s), target / "key-rate")
