"""What every `qepa` command does alike: one option for machines, one way to end with a complaint."""

import sys
from typing import Annotated, NoReturn

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]


def fail(error: Exception | str) -> NoReturn:
    """Say one sentence on standard error and end with status 2, for what the user can mend."""
    print(f"qepa: {error}", file=sys.stderr)
    raise typer.Exit(2) from None
