"""`qepa board budget`, to be registered by the command line's group `board`."""

import json
from typing import Annotated

import typer
from rich.console import Console

from ..command_line import JsonOption, fail
from ..errors import ToolError


def budget(
    chip: Annotated[str, typer.Option(help="esp32, esp32s3 or esp32c6.")] = "esp32",
    battery: Annotated[float, typer.Option(help="Battery, mAh.")] = 500.0,
    period: Annotated[float, typer.Option(help="Seconds from one update to the next.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Time, energy and battery life of a board's work: measured on stand-ins, estimated for a chip."""
    from .report import run, show  # noqa: PLC0415  commands load only what they need

    try:
        with Console(stderr=True).status("measuring ..."):
            result = run(chip, battery_mah=battery, period_s=period)
    except ToolError as error:
        fail(error)
    if as_json:
        print(json.dumps(result))
    else:
        show(result)
