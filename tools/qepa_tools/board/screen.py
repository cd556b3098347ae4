"""What the commands show: one progress bar a step, lines of text; with --json nothing but the result."""

import json
import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Screen:
    """A context manager; ``step`` may be handed to whatever works for more than two seconds."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # The stream as it is now: what esptool and mpremote print is kept away from it by redirection.
        self._console = Console(file=sys.stderr if as_json else sys.stdout)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, disable=as_json or not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._progress.stop()

    def step(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` of ``what``."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total or 1)
        self._progress.update(self._tasks[what], completed=done, total=total or 1)

    def say(self, text: str) -> None:
        """A line for the person."""
        if not self.as_json:
            self._console.print(text, highlight=False)

    def result(self, record: dict[str, Any]) -> None:
        """The command's outcome, for a program."""
        if self.as_json:
            print(json.dumps(record))
