"""Options of the commands by which a person orders something from the server (orders.py)."""

from pathlib import Path
from typing import Annotated

import typer

ServerOption = Annotated[str, typer.Option(help="The server's API.")]
IdentityOption = Annotated[Path, typer.Option(help="Keys and certificate of who orders this (role release).")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is in the audit log, and on a model's card.")]
DEFAULT_SERVER = "http://127.0.0.1:8080"
DEFAULT_IDENTITY = Path("release.json")
