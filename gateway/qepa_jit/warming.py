"""Compiling before anything is promised: kernels run once on little, and whoever waits is told so.

Where all comes from the disk nothing is said.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core import event

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger(__name__)


def warm(steps: Mapping[str, Callable[[], object]]) -> None:
    """Run `steps`, which call kernels as they will be called; shows how far it is as soon as one has to be compiled.

    On a terminal as a bar, else in a line of the log for each step. The names of the steps are for people.
    """
    with _progress(len(steps)) as progress:
        for name, run in steps.items():
            progress.begin(name)
            run()


class _Progress(event.Listener):  # type: ignore[misc]  # numba has no types
    """Follows the steps; speaks from the first compilation on."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._name = steps, -1, ""
        self._speaks = False
        self._bar: Progress | None = None

    def begin(self, name: str) -> None:
        """The step before has ended."""
        self._name = name
        self._done += 1
        if self._speaks:
            self._show()

    def on_start(self, event: Any) -> None:  # noqa: ARG002  # the interface
        """A kernel was not on the disk."""
        if not self._speaks:
            self._speaks = True
            if sys.stderr.isatty():
                self._bar = _bar(self._steps)
            self._show()

    def on_end(self, event: Any) -> None:
        """Nothing to say."""

    def _show(self) -> None:
        if self._bar is None:
            _log.info("compiling %s, %d of %d", self._name, self._done + 1, self._steps)
        else:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=f"compiling {self._name}")

    def close(self) -> None:
        """All steps have ended, or one has failed."""
        if self._bar is not None:
            self._bar.stop()


def _bar(steps: int) -> "Progress":
    from rich.console import Console  # noqa: PLC0415  few starts need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=steps)
    bar.start()
    return bar


@contextmanager
def _progress(steps: int) -> Iterator[_Progress]:
    progress = _Progress(steps)
    try:
        with event.install_listener("numba:compile", progress):
            yield progress
    finally:
        progress.close()
