"""``qepa train``: models for the bedside, trained here with Keras: int8 TFLite and a card of measured facts."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ..command_line import JsonOption, bar, fail, need
from ..errors import ToolError

if TYPE_CHECKING:
    from .made import Made, Make, Steps

app = typer.Typer(no_args_is_help=True, help="Train models for the bedside (needs the extra `train`).")

DataOption = Annotated[Path | None, typer.Option(help="Folder that holds mitdb, nstdb, ... (default: beside mitdb).")]
OutOption = Annotated[Path, typer.Option(help="Folder for NAME.tflite and NAME.json.")]
FoldsOption = Annotated[int, typer.Option(min=2, help="Of the cross-validation by person that the card reports.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over as many examples as one draws.")]
VersionOption = Annotated[int, typer.Option(min=1, help="Gateways take no older model of a name than they have.")]
BEATS_FOLDS, BEATS_EPOCHS = 5, 4  # of the models that ship
QUALITY_FOLDS, QUALITY_EPOCHS = 3, 8


def training(name: str, *, folds: int, epochs: int) -> "Callable[[Callable[[], Make]], None]":
    """Have a command that trains ``name`` by what the decorated function loads. Defaults are the shipped model's."""

    def add(load: "Callable[[], Make]") -> None:
        @app.command(name, help=load.__doc__)
        def command(
            *,
            data: DataOption = None,
            out: OutOption = Path("models"),
            folds: FoldsOption = folds,
            epochs: EpochsOption = epochs,
            version: VersionOption = 1,
            as_json: JsonOption = False,
        ) -> None:
            run(
                lambda steps: load()(data, version=version, folds=folds, epochs=epochs, steps=steps),
                out,
                as_json=as_json,
            )

    return add


@training("ecg-beats", folds=BEATS_FOLDS, epochs=BEATS_EPOCHS)
def ecg_beats() -> "Make":
    """Train the gateway's beat classifier on MIT-BIH: one or two leads, AAMI classes."""
    from .ecg_beats import make  # noqa: PLC0415  # commands load only what they need

    return make


@training("ecg-quality", folds=QUALITY_FOLDS, epochs=QUALITY_EPOCHS)
def ecg_quality() -> "Make":
    """Train the gateway's judge of signal quality on MIT-BIH with noise of the Noise Stress Test Database."""
    from .ecg_quality import make  # noqa: PLC0415

    return make


@training("activity", folds=5, epochs=16)
def activity() -> "Make":
    """Train the gateway's activity model on watches and phones of people who stand up, walk, turn and sit down."""
    from .activity import make  # noqa: PLC0415

    return make


@training("glucose-30", folds=5, epochs=10)
def glucose_30() -> "Make":
    """Train the gateway's forecast of glucose on continuous monitors of four published sets."""
    from .glucose import make  # noqa: PLC0415

    return make


def run(make: "Callable[[Steps], Made]", out: Path, *, as_json: bool) -> None:
    """Make a model with progress bars, write it, say where it is; `training.log` beside it has what libraries said."""
    from .made import save  # noqa: PLC0415
    from .quiet import library_noise_to  # noqa: PLC0415

    need("keras")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with TemporaryDirectory() as scratch:
            log = Path(scratch) / "training.log"
            with library_noise_to(log):
                result = make(show_steps)
            blob, card = save(result, out)
            copyfile(log, out / log.name)
    except (ToolError, OSError) as error:
        fail(error)
    if as_json:
        print(json.dumps(dict(result.card)))
    else:
        print(f"{blob} ({len(result.blob):,} bytes)\n{card}")
        print(json.dumps(result.card["metrics"], indent=1))


def show_steps(n: int, what: str) -> Iterable[int]:
    """Count to n under a progress bar on standard error."""
    return bar(range(n), what, total=n)
